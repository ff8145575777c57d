"""What is learnt from: the latest rollout, a replay of whole rollouts, demonstrations (and see `replay`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from pgrun.collect.demonstrations import with_log_prob
from pgrun.config.ranges import Count, CountOrZero, FileName, NotNegative
from pgrun.data.types import Transition, VectorEnv, columns, map_obs, map_transition, pad
from pgrun.envs.episode_file import episodes, load


class Memory(Protocol):
    """Decides what an update sees."""

    offers: str  # "rollouts" [T, B, ...] or single "steps" [M, ...]
    in_step: bool  # whether those of several processes, with a part of the environments each, offer as many batches

    def add(self, rollout: Transition) -> None:
        """Take a rollout [T, B, ...]."""

    def batches(self) -> Iterator[Transition]:
        """What to learn from now; nothing while it still fills."""

    def snapshot(self) -> dict[str, Any]:
        """The contents as tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back."""


class Latest:
    """The last rollout, once: on-policy learning."""

    offers = "rollouts"
    in_step = True

    def __init__(self, *, learn_device: str) -> None:
        self.device = torch.device(learn_device)
        self.rollout: Transition | None = None

    def add(self, rollout: Transition) -> None:
        on = rollout.reward.device
        self.rollout = rollout if on == self.device else map_transition(lambda x: x.to(self.device), rollout)

    def batches(self) -> Iterator[Transition]:
        """The rollout [T, B, ...]."""
        assert self.rollout is not None
        yield self.rollout

    def snapshot(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """There is nothing to put back: the next rollout is all that will be learnt from."""


class Trajectories:
    """The last `capacity` rollouts: the latest comes first, then samples of B columns out of all that are kept.

    What the policies that acted recorded (extras: log_prob and the like) stays with their data, and extras["fresh"]
    says which rows are the latest's. Rollouts of unequal length are padded with valid=False, and a rollout's final row
    becomes `last`: no trace crosses into the padding.

    Args:
        capacity: rollouts kept, N.
        replay_ratio: samples after each rollout; of a fraction, so often one more.
        poisson: draw their number from a Poisson distribution of this mean, as ACER does.
        warmup: environment steps before the first sample; the latest rollout is learnt from at once.
        merge: put the latest rollout and the samples side by side into one batch, instead of one after the other; no
            trajectory stands twice in it.
        device: where the ring lies; batches go to `learn_device`.
    """

    offers = "rollouts"

    def __init__(
        self,
        *,
        capacity: Count,
        replay_ratio: NotNegative,
        poisson: bool,
        warmup: CountOrZero,
        merge: bool,
        device: str,
        learn_device: str,
    ) -> None:
        self.capacity, self.replay_ratio, self.poisson = capacity, replay_ratio, poisson
        self.warmup, self.merge = warmup, merge
        self.device, self.learn_device = torch.device(device), torch.device(learn_device)
        self.latest: Transition | None = None
        self.ring: Transition | None = None  # [T, N·B, ...]: rollout i fills the columns from i·B on
        self.lengths: list[int] = []  # T of each rollout in the ring
        self.position = self.seen = 0

    def add(self, rollout: Transition) -> None:
        self.latest = rollout
        length, b = rollout.reward.shape
        kept = cut(map_transition(lambda x: x.to(self.device), rollout))
        if self.ring is None:
            size = self.capacity * b
            self.ring = map_transition(lambda x: x.new_zeros((length, size, *x.shape[2:])), kept)
        self.ring = pad(self.ring, length)
        kept = pad(kept, self.ring.reward.shape[0])
        for target, source in zip(tensors(self.ring), tensors(kept), strict=True):
            target[:, self.position * b : (self.position + 1) * b] = source
        self.lengths[self.position : self.position + 1] = [length]
        self.position = (self.position + 1) % self.capacity
        self.seen += int(rollout.valid.sum())

    def batches(self) -> Iterator[Transition]:
        """The latest rollout [T, B, ...] and the samples, one after the other or side by side."""
        assert self.latest is not None
        b, draws = self.latest.reward.shape[1], self.draws()
        latest = mark(self.latest, fresh=True)
        if self.merge:  # one batch: no trajectory twice, so that a mean over the others never holds one's own
            old = self.sample(draws * b, without_latest=True) if draws and len(self.lengths) > 1 else None
            samples = [latest] if old is None else [side_by_side([latest, mark(old, fresh=False)])]
        else:
            samples = [latest, *(mark(self.sample(b), fresh=False) for _ in range(draws))]
        for batch in samples:
            yield map_transition(lambda x: x.to(self.learn_device, non_blocking=True), batch)

    def figures(self) -> dict[str, float]:
        """Report how full it is, for a curve: the share of its capacity."""
        return {"fill": len(self.lengths) / self.capacity}

    def draws(self) -> int:
        """How many samples to take now."""
        if self.seen < self.warmup:
            return 0
        if self.poisson:
            return int(torch.poisson(torch.tensor(float(self.replay_ratio))))
        whole = int(self.replay_ratio)
        fraction = self.replay_ratio - whole
        return whole + int(fraction > 0 and float(torch.rand(())) < fraction)

    def sample(self, size: int, *, without_latest: bool = False) -> Transition:
        """Draw columns uniformly and without replacement from those that are kept.

        Args:
            size: how many; all that there are where that is less.
            without_latest: leave out the rollout that was added last.

        Returns:
            [T, size, ...], with T the length of the longest rollout among them.
        """
        assert self.ring is not None
        b = self.ring.reward.shape[1] // self.capacity
        index = torch.randperm((len(self.lengths) - without_latest) * b)[:size]
        if without_latest:  # the columns from the latest on are one rollout further
            latest = (self.position - 1) % self.capacity
            index = index + b * (index >= latest * b)
        length = max(self.lengths[i // b] for i in index.tolist())
        return columns(map_transition(lambda x: x[:length], self.ring), index.to(self.device))

    def snapshot(self) -> dict[str, Any]:
        fields = None
        if self.ring is not None:
            used = len(self.lengths) * (self.ring.reward.shape[1] // self.capacity)
            fields = map_transition(lambda x: x[:, :used].clone(), self.ring)._asdict()
        return {"ring": fields, "lengths": list(self.lengths), "position": self.position, "seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        self.lengths, self.position, self.seen = list(state["lengths"]), state["position"], state["seen"]
        if state["ring"] is None:
            return
        saved = Transition(**state["ring"])
        size = self.capacity * (saved.reward.shape[1] // len(self.lengths))
        self.ring = map_transition(
            lambda x: torch.zeros((x.shape[0], size, *x.shape[2:]), dtype=x.dtype, device=self.device), saved
        )
        for target, source in zip(tensors(self.ring), tensors(saved), strict=True):
            target[:, : source.shape[1]] = source


class Guided:
    """Demonstrations, and the episodes of the last `capacity` rollouts: all in one batch, one episode a column.

    Demonstrations have the number −1 in extras["source"], and their log_prob, NaN where nobody knows it; what else
    the rollouts' extras hold is zero there. extras["fresh"] says which rows are the latest rollout's.

    Args:
        demonstrations: an .npz file or minari:ID; null: no guides.
        capacity: rollouts kept, each with its policy.
    """

    offers = "rollouts"

    def __init__(self, *, demonstrations: FileName | None, capacity: Count, env: VectorEnv, learn_device: str) -> None:
        self.device = torch.device(learn_device)
        self.guides = (
            None if demonstrations is None else with_log_prob(load(demonstrations, env.obs_space, env.action_space))
        )
        self.rollouts: deque[Transition] = deque(maxlen=capacity)

    def add(self, rollout: Transition) -> None:
        self.rollouts.append(map_transition(lambda x: x.to(self.device), episodes(rollout)))

    def batches(self) -> Iterator[Transition]:
        """Everything, [T, E, ...]."""
        *before, latest = self.rollouts
        parts = [*(mark(rollout, fresh=False) for rollout in before), mark(latest, fresh=True)]
        if self.guides is not None:
            t, e = self.guides.reward.shape
            mine = {"source": torch.full((t, e), -1), **self.guides.extras}
            like = {key: x.new_zeros((t, e, *x.shape[2:])) for key, x in parts[-1].extras.items()}
            extras = {key: mine.get(key, other).to(other) for key, other in like.items()}
            parts.insert(0, map_transition(lambda x: x.to(self.device), self.guides._replace(extras=extras)))
        yield side_by_side(parts)

    def figures(self) -> dict[str, float]:
        """Report how full it is, for a curve: the share of the rollouts that it keeps."""
        return {"fill": len(self.rollouts) / (self.rollouts.maxlen or 1)}

    def snapshot(self) -> dict[str, Any]:
        return {"rollouts": [rollout._asdict() for rollout in self.rollouts]}

    def restore(self, state: dict[str, Any]) -> None:
        self.rollouts.clear()
        for saved in state["rollouts"]:
            self.rollouts.append(map_transition(lambda x: x.to(self.device), Transition(**saved)))


def mark(rollout: Transition, *, fresh: bool) -> Transition:
    """The same with extras["fresh"], whether no update has seen it; [T, B]."""
    return rollout._replace(extras={**rollout.extras, "fresh": torch.full_like(rollout.valid, fresh)})


def cut(rollout: Transition) -> Transition:
    """The same with its final row marked as `last`, so that no trace crosses into what is put after it."""
    last = rollout.last.clone()
    last[-1] = True
    return rollout._replace(last=last)


def side_by_side(rollouts: list[Transition]) -> Transition:
    """Rollouts [T_i, B_i, ...] of the same fields as one, [max T_i, ΣB_i, ...]; no trace crosses into the padding."""
    length = max(rollout.reward.shape[0] for rollout in rollouts)
    first, *others = [x if x.reward.shape[0] == length else pad(cut(x), length) for x in rollouts]
    return Transition(
        *(map_obs(lambda *x: torch.cat(x, 1), field, *(o[i] for o in others)) for i, field in enumerate(first))
    )


def tensors(transition: Transition) -> Iterator[Tensor]:
    """Every tensor of a transition, in a fixed order."""
    for field in transition:
        if isinstance(field, dict):
            yield from field.values()
        else:
            yield field
