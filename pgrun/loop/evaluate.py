"""Evaluation: whole episodes in separate environments, without exploration unless it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.acting import Bound, ask, never
from pgrun.collect.finite import check_step
from pgrun.collect.recorder import begun_anew
from pgrun.data.stepping import stepped
from pgrun.data.types import WRAPPED, Obs, Step, VectorEnv
from pgrun.system.randomness import own_randomness


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: undiscounted returns and lengths of its episodes, in raw rewards."""

    returns: list[float]
    lengths: list[int]
    streams: dict[str, list[float]] = field(default_factory=dict)  # returns of the other streams of rewards, by name
    cut: int = 0  # episodes that were cut
    max_steps: int | None = None  # the number of steps at which they were cut
    unended: bool = False  # whether episodes were left out because none ended
    copies: list[int] = field(default_factory=list)  # the copy of the environment that each episode ran in
    infos: dict[str, list[float]] = field(default_factory=dict)  # numbers of `info`, by their curves' names

    @property
    def note(self) -> str:
        """One line that says how many episodes were cut; empty where none was."""
        if not self.cut:
            return ""
        return (
            f"{self.cut} of {len(self.returns)} evaluation episodes were cut at eval.max_steps={self.max_steps}: their "
            f"returns are of the steps so far{', and no more were begun, as none ended' * self.unended}"
        )

    @property
    def mean(self) -> float:
        """The mean return."""
        return sum(self.returns) / len(self.returns)

    @property
    def std(self) -> float:
        """The standard deviation over episodes (not over seeds)."""
        mean = self.mean
        return math.sqrt(sum((r - mean) ** 2 for r in self.returns) / len(self.returns))

    @property
    def stream_means(self) -> dict[str, float]:
        """The mean return of each other stream of rewards, by name."""
        return {name: sum(returns) / len(returns) for name, returns in self.streams.items()}

    @property
    def info_means(self) -> dict[str, float]:
        """The mean of each number of `info` over the episodes that have it, by its curve's name."""
        return {name: sum(values) / len(values) for name, values in self.infos.items()}


class Interrupted(Exception):
    """Raised when an evaluation is stopped between two steps."""


class Moment(NamedTuple):
    """A moment of an evaluation: all copies have just begun anew, or have taken a step."""

    taken: tuple[Obs, Tensor, dict[str, Tensor], Step] | None  # obs, action, extras and outcome; None: they began anew
    counted: Tensor  # [B] bool, the copies whose step counts
    ended: Tensor  # [B] bool, the copies whose episode ended or was cut here
    total: Tensor  # [B] float64, the returns of the open episodes so far, this step included
    length: Tensor  # [B] int64, their steps so far


def evaluate(
    algorithm: Algorithm,
    env: VectorEnv,
    episodes: int,
    *,
    seed: int,
    explore: bool = False,
    max_steps: int | None = None,
    interrupted: Callable[[], bool] = never,
    record: Callable[[Obs, Tensor, dict[str, Tensor], Step, Tensor], None] | None = None,
) -> Evaluation:
    """Run whole episodes from a seed; training's random numbers are left untouched.

    See `evaluation_steps` for how the episodes are run.

    Args:
        algorithm: the policy that acts.
        env: B copies of the environment.
        episodes: how many episodes count.
        seed: of the environments and of all random numbers here.
        explore: act as in training, instead of as well as the policy can.
        max_steps: steps after which an episode is cut; None: never.
        interrupted: asked between steps; True stops the evaluation.
        record: called after each step with obs, action, extras, the step's outcome, and [B] whose episodes count.

    Raises:
        Interrupted: it was stopped; there is no result.
        EnvNotFinite: an observation or a reward was not finite.
    """
    steps = evaluation_steps(
        algorithm, env, episodes, seed=seed, explore=explore, max_steps=max_steps, interrupted=interrupted
    )
    with own_randomness(seed):
        while True:
            try:
                moment = next(steps)
            except StopIteration as end:
                result: Evaluation = end.value
                return result
            if record is not None and moment.taken is not None:
                record(*moment.taken, moment.counted)


@torch.no_grad()
def evaluation_steps(
    algorithm: Algorithm,
    env: VectorEnv,
    episodes: int,
    *,
    seed: int,
    explore: bool = False,
    max_steps: int | None = None,
    interrupted: Callable[[], bool] = never,
) -> Generator[Moment, None, Evaluation]:
    """Run an evaluation step by step; the caller seeds the global random generators, and keeps them from others.

    Each of the B copies runs a fixed share of the episodes, so that short ones are not over-represented. A copy that
    is done steps on until all are; what it does beyond its share is not counted. An episode that reaches `max_steps`
    is cut. Its copy then waits until all others are done or cut, and they begin anew together. If no episode has
    ended by itself since they last began, the remaining ones are left out: they would take as long.

    Args:
        algorithm: the policy that acts.
        env: B copies of the environment.
        episodes: how many episodes count.
        seed: of the environments.
        explore: act as in training, instead of as well as the policy can.
        max_steps: steps after which an episode is cut; None: never.
        interrupted: asked between steps; True stops the evaluation.

    Yields:
        A moment after each reset of all copies and after each step.

    Returns:
        The episodes' returns and lengths.

    Raises:
        Interrupted: it was stopped; there is no result.
        EnvNotFinite: an observation or a reward was not finite.
    """
    b = env.num_envs
    share = torch.tensor([episodes // b + (i < episodes % b) for i in range(b)])
    returns: list[float] = []
    lengths: list[int] = []
    copies: list[int] = []
    streams: dict[str, list[float]] = {}
    infos: dict[str, list[float]] = {}
    bound, rounds, cuts, ended_before, unended = Bound(max_steps), 0, 0, 0, False
    taken = 0
    obs, carry = env.reset(seed), algorithm.initial_carry(b)
    total, length = torch.zeros(b, dtype=torch.float64), torch.zeros(b, dtype=torch.int64)
    totals: dict[str, torch.Tensor] = {}  # of the other streams
    bound.begin(b)
    yield Moment(None, share > 0, torch.zeros(b, dtype=torch.bool), total, length)
    while bool((share > 0).any()):
        if interrupted():
            raise Interrupted
        action, carry, extras = ask(algorithm, obs, carry, explore=explore)
        step = stepped(env, action)
        taken += 1
        check_step(obs, step, taken)
        counted = (share > 0) & ~bound.over
        over = step.last if step.over is None else step.over
        cut = bound.passed(step.valid & counted, over)
        taken_now = obs, action, extras, step._replace(last=step.last | cut)
        obs = step.obs
        total += step.streams.get("return", step.reward) * step.valid
        length += step.valid
        for name, reward in step.streams.items():
            if name == "return":
                continue
            totals[name] = totals.get(name, torch.zeros_like(total)) + reward * step.valid
        carry = begun_anew(carry, step, algorithm)
        ended = over | cut
        yield Moment(taken_now, counted, ended, total, length)
        if bool(ended.any()):
            for i in ended.nonzero().squeeze(-1).tolist():
                if counted[i]:
                    returns.append(float(total[i]))
                    lengths.append(int(length[i]))
                    copies.append(i)
                    for name in totals:
                        streams.setdefault(name, []).append(float(totals[name][i]))
                    for name, x in step.infos.items():
                        if not math.isnan(value := float(x[i])):
                            infos.setdefault(name, []).append(value)
                    share[i] -= 1
                total[i], length[i] = 0.0, 0
                for other in totals.values():
                    other[i] = 0.0
        if bound.cuts and bool((share > 0).any()) and bool((bound.over | (share == 0)).all()):
            rounds, cuts, bound.cuts = rounds + 1, cuts + bound.cuts, 0
            if unended := len(returns) - cuts == ended_before:
                break
            ended_before = len(returns) - cuts
            fresh = int(np.random.SeedSequence([seed, rounds]).generate_state(1)[0])
            obs, carry = env.reset(fresh), algorithm.initial_carry(b)
            for x in (total, length, *totals.values()):
                x.zero_()
            bound.begin(b)
            yield Moment(None, share > 0, torch.zeros(b, dtype=torch.bool), total, length)
    if streams.get(WRAPPED) == returns:
        del streams[WRAPPED]
    return Evaluation(returns, lengths, streams, cuts + bound.cuts, max_steps, unended, copies, infos)
