"""Statistics of episodes, open and finished: returns and lengths."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.collect.step_stats import StepStats
from pgrun.data.types import WRAPPED, Transition

NO_STREAMS: dict[str, Tensor] = {}  # never written to
MANY = 100  # ended episodes from which a rollout's are summed at once
WAITING = 1 << 22  # steps whose rollouts may wait to be counted


class EpisodeStats:
    """Returns and lengths of episodes, open and finished, in rewards that the environment paid.

    Returns of its other streams of rewards are kept by name.

    Args:
        num_envs: B.
        action_space: the actions that policies see; None where nothing is said of them.
    """

    def __init__(self, num_envs: int, action_space: gym.Space | None = None) -> None:
        self.own_steps = StepStats(action_space)
        self.waiting: list[tuple[Transition, Tensor, dict[str, Tensor]]] = []  # rollouts that are not counted yet
        self.returns = np.zeros(num_envs)  # of the open episodes
        self.lengths = np.zeros(num_envs, dtype=np.int64)
        self.streams: dict[str, np.ndarray] = {}
        self.finished: list[tuple[float, int]] = []  # since the last `take`
        self.finished_streams: dict[str, list[float]] = {}
        self.finished_infos: dict[str, list[float]] = {}  # since the last `take_infos`
        self.own_recent: deque[float] = deque(maxlen=100)
        self.recent_infos: dict[str, deque[float]] = {}
        self.own_count = 0
        self.differ = False  # whether wrappers have changed a return

    def defer(self, rollout: Transition, over: Tensor, streams: dict[str, Tensor]) -> None:
        """Count a rollout when somebody reads the statistics: a GPU need not be waited for until then.

        Args:
            rollout: [T, B, ...].
            over: where the environments' own episodes end, [T, B] bool.
            streams: rewards that are only logged, each [T, B], by name.
        """
        self.waiting.append((rollout, over, streams))
        if len(self.waiting) * over.numel() > WAITING:
            self.catch_up()

    def catch_up(self) -> None:
        """Count the rollouts that wait."""
        waiting, self.waiting = self.waiting, []
        for rollout, over, streams in waiting:
            self.add(rollout.reward, over, rollout.valid, streams, rollout.discount)
            self.own_steps.add(rollout)

    @property
    def steps(self) -> StepStats:
        """The statistics of single steps."""
        self.catch_up()
        return self.own_steps

    @property
    def recent(self) -> deque[float]:
        """The returns of the last 100 episodes."""
        self.catch_up()
        return self.own_recent

    @recent.setter
    def recent(self, recent: deque[float]) -> None:
        self.own_recent = recent

    @property
    def count(self) -> int:
        """How many episodes have finished."""
        self.catch_up()
        return self.own_count

    @count.setter
    def count(self, count: int) -> None:
        self.own_count = count

    def add(
        self,
        reward: Tensor,
        last: Tensor,
        valid: Tensor,
        streams: dict[str, Tensor] = NO_STREAMS,
        discount: Tensor | None = None,
    ) -> None:
        """Count the steps of a rollout.

        Args:
            reward: [T, B]; or [T, B, N] for N agents, and then there is a stream `return`.
            last: [T, B] bool, where episodes end.
            valid: [T, B] bool; other rows count nowhere.
            streams: other rewards, each [T, B], by name.
            discount: [T, B], 0 where the environment terminated; None: it isn't known how episodes ended.
        """
        real = valid.cpu().numpy()
        ends = last.cpu().numpy() & real
        where = ends.nonzero() if ends.any() else None
        returns, self.returns = per_episode(self.returns, _numbers(streams.get("return", reward)) * real, where)
        lengths, self.lengths = per_episode(self.lengths, real, where)
        self.finished += zip(returns, lengths, strict=True)
        self.own_recent += returns
        self.own_count += len(returns)
        if where is not None and discount is not None:
            self.own_steps.add_ends(lengths, discount.cpu().numpy()[where])
        for name in streams:
            if name == "return":
                continue
            before = self.streams.get(name, np.zeros_like(self.returns))
            sums, self.streams[name] = per_episode(before, _numbers(streams[name]) * real, where)
            self.differ = self.differ or (name == WRAPPED and sums != returns)
            self.finished_streams.setdefault(name, []).extend(sums)

    def add_infos(self, infos: dict[str, Tensor], valid: Tensor) -> None:
        """Count what `info` said of episodes that end in one step.

        Args:
            infos: numbers [B] by their curves' names, NaN where there is none.
            valid: [B] bool; other rows count nowhere.
        """
        for name, x in infos.items():
            self.hear_infos({name: x[valid & ~x.isnan()].tolist()})

    def hear_infos(self, infos: dict[str, list[float]]) -> None:
        """Count numbers of `info`, one an episode, by their curves' names."""
        for name, values in infos.items():
            self.finished_infos.setdefault(name, []).extend(values)
            self.recent_infos.setdefault(name, deque(maxlen=100)).extend(values)

    def take_infos(self) -> dict[str, list[float]]:
        """Return what `info` said of the episodes that finished since the last call, by the curves' names."""
        finished, self.finished_infos = self.finished_infos, {}
        return finished

    def take(self) -> list[tuple[float, int]]:
        """Return the (return, length) of each episode that finished since the last call."""
        self.catch_up()
        finished, self.finished = self.finished, []
        return finished

    def take_streams(self) -> dict[str, list[float]]:
        """Return the other streams' returns in the episodes that finished since the last call, by name."""
        self.catch_up()
        finished, self.finished_streams = self.finished_streams, {}
        return {name: returns for name, returns in finished.items() if name != WRAPPED or self.differ}

    def snapshot(self) -> dict[str, Any]:
        """Return the statistics as tensors and plain values."""
        self.catch_up()
        return {
            "returns": torch.from_numpy(self.returns.copy()),
            "lengths": torch.from_numpy(self.lengths.copy()),
            "streams": {name: torch.from_numpy(x.copy()) for name, x in sorted(self.streams.items())},
            "finished": list(self.finished),
            "finished_streams": {name: list(x) for name, x in sorted(self.finished_streams.items())},
            "recent": list(self.recent),
            "count": self.count,
            "differ": self.differ,
            "steps": self.steps.snapshot(),
            **({"infos": self.infos_snapshot()} if self.recent_infos else {}),
        }

    def infos_snapshot(self) -> dict[str, list[list[float]]]:
        """Return, for each curve of `info`, the values since the last `take_infos` and the recent ones."""
        return {
            name: [list(self.finished_infos.get(name, [])), list(recent)] for name, recent in self.recent_infos.items()
        }

    def restore(self, state: dict[str, Any], *, open_episodes: bool) -> None:
        """Restore a snapshot; its open episodes only if their environments are restored, too."""
        if open_episodes:
            self.returns, self.lengths = state["returns"].numpy().copy(), state["lengths"].numpy().copy()
            self.streams = {name: x.numpy().copy() for name, x in state["streams"].items()}
        self.finished = [tuple(episode) for episode in state["finished"]]
        self.finished_streams = {name: list(x) for name, x in state["finished_streams"].items()}
        self.recent.extend(state["recent"])
        self.count, self.differ = state["count"], state.get("differ", False)
        for name, (finished, recent) in state.get("infos", {}).items():
            self.recent_infos[name] = deque(recent, maxlen=100)
            if finished:
                self.finished_infos[name] = list(finished)
        if "steps" in state:  # an older version's has none
            self.steps.restore(state["steps"])


def per_episode(
    opened: np.ndarray, x: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None
) -> tuple[list[Any], np.ndarray]:
    """Sum x over each episode that ends in a rollout, and over the open ones.

    Args:
        opened: [B], the sums so far of the episodes that were open before.
        x: [T, B].
        ends: t and b of the episodes' last rows, in order of time; None: none ends.

    Returns:
        The sums over ended episodes, in the order of `ends`, and over the open ones, [B].
    """
    if ends is None:
        return [], opened + x.sum(0)
    total = opened + x.cumsum(0)  # since the rollout's start: earlier episodes are subtracted below
    if len(ends[0]) > MANY:
        return per_episode_at_once(total, ends)
    left, done, sums = total[-1], dict[int, Any](), []
    for b, value in zip(ends[1].tolist(), total[ends].tolist(), strict=True):
        sums.append(value - done.get(b, 0))
        done[b] = value
    for b, value in done.items():
        left[b] -= value
    return sums, left


def per_episode_at_once(total: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> tuple[list[Any], np.ndarray]:
    """Return what `per_episode` does of many episodes.

    Args:
        total: [T, B], the sums since the rollout's start.
        ends: t and b of the episodes' last rows, in order of time.
    """
    order = np.argsort(ends[1], kind="stable")  # by copy, and by time in each
    b, value = ends[1][order], total[ends][order]
    before = np.concatenate([value[:1] * 0, value[:-1]])
    follows = np.concatenate([[False], b[1:] == b[:-1]])  # another episode of the same copy ended before
    sums, left = np.empty_like(value), total[-1].copy()
    sums[order] = value - np.where(follows, before, 0)
    latest = np.concatenate([b[1:] != b[:-1], [True]])
    left[b[latest]] -= value[latest]
    return sums.tolist(), left


def _numbers(x: Tensor) -> np.ndarray:
    return x.cpu().numpy().astype(np.float64)
