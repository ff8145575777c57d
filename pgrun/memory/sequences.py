"""Replay of sequences of steps, for networks with a memory.

Shapes: B environments; M sequences a sample, each K + L steps long (and n − 1 more, for n-step returns); S numbers that
the networks remember; N rows of a sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pgrun.config.ranges import Count, CountOrZero
from pgrun.data.history import History
from pgrun.data.types import Transition, VectorEnv, map_transition
from pgrun.errors import UserError
from pgrun.memory.replay import Replay
from pgrun.memory.ring import Ring, equal, onwards


class Sequences(Replay):
    """Replay of sequences of steps and of the state that a network had when it acted there.

    Kapturowski et al. 2019, https://openreview.net/forum?id=r1lyTjAqYX (R2D2), section 3: the state is stored, and
    renewed by a burn-in. A sequence may run over the end of an episode into the next one, where the state begins anew,
    so that every stored step is drawn as often as any other; it never runs over the newest step into the oldest.

    A sample's rows [N] are the valid steps of M sequences, N ≤ L·M, so that a mean over rows is one over valid steps.
    Their rewards, discounts and successors are those of `Replay`. In the place of observations they have a `History`,
    which an encoder with a memory runs over; for a network without one they are plain rows.

    Args:
        batch_size: sequences a sample, M.
        length: L, steps of a sequence that are learnt from.
        burn_in: K, steps before them, over which the stored state is renewed without gradient.
        stride: sequences begin at every so many-th step of an environment, where alone states are stored.
        state_size: S; 0: the networks have no memory.

    Raises:
        UserError: the ring is too short for a sequence, or the stride doesn't fit its length.
    """

    keeps_states = True  # whether a network with a memory can learn from its samples

    def __init__(
        self,
        *,
        capacity: Count,
        batch_size: Count,
        length: Count,
        burn_in: CountOrZero,
        stride: Count,
        n_step: Count,
        env: VectorEnv,
        state_size: int,
        **common: Any,
    ) -> None:
        self.steps, self.burn_in, self.stride, self.state_size = length, burn_in, stride, state_size
        self.window = burn_in + length + n_step - 1  # steps that a sample needs of each sequence
        if length % stride:
            raise UserError(
                f"memory.length={length} must be a multiple of memory.stride={stride}, or some steps are drawn more "
                f"often than others: use memory.stride={next(s for s in range(stride, 0, -1) if length % s == 0)}"
            )
        b, most = env.num_envs, self.window + stride - 1  # of which one place to begin at is sure to be among them
        if (rows := capacity // (stride * b) * stride) < most:
            raise UserError(
                f"memory.capacity={capacity} has no room for sequences of {self.window} steps of {b} environments; "
                f"use memory.capacity={-(-most // stride) * stride * b} or more"
            )
        super().__init__(capacity=rows * b, batch_size=batch_size, n_step=n_step, env=env, **common)
        self.states = torch.zeros(0)  # [rows / stride, B, S]

    def bytes_per_row(self, env: VectorEnv) -> int:
        """Return the bytes of one transition and its share of the states."""
        return super().bytes_per_row(env) + -(-4 * self.state_size // self.stride)

    def make_ring(self, like: Transition) -> Ring:
        """Make an empty ring of single steps, and room for the states; see `Replay.make_ring`."""
        self.states = torch.zeros(self.length // self.stride, self.num_envs, self.state_size, device=self.device)
        return Ring(like, length=self.length, n=1, gamma=self.gamma, once=self.once)

    def add(self, rollout: Transition) -> None:
        """Add a rollout [T, B, ...], and the states before its steps where sequences may begin."""
        extras = dict(rollout.extras)
        state = extras.pop("carry", None)  # zero where none was recorded
        super().add(rollout._replace(extras=extras))
        if not self.state_size:
            return
        assert self.ring is not None
        t = min(len(rollout.reward), self.length)
        at = (self.ring.position - t + torch.arange(t)) % self.length
        begins = at % self.stride == 0
        self.states[at[begins] // self.stride] = 0.0 if state is None else state[-t:][begins].to(self.device)

    # ------------------------------------------------------------ sampling

    @property
    def places(self) -> range:
        """The time rows where a sequence may begin, counted from the oldest: all its steps are there."""
        if self.ring is None:
            return range(0)
        oldest = (self.ring.position - self.ring.filled) % self.length
        return range(-oldest % self.stride, self.ring.filled - self.window + 1, self.stride)

    @property
    def ready(self) -> bool:
        """True if there is enough to learn from."""
        return super().ready and len(self.places) > 0

    def batches(self) -> Iterator[Transition]:
        """Yield `updates` samples [N, ...], each of M sequences."""
        if not self.ready:
            return
        for _ in range(self.updates):
            place = torch.randint(len(self.places) * self.num_envs, (self.batch_size,), device=self.device)
            if (batch := self.sample(self.locate(place))) is not None:
                yield batch

    def locate(self, place: Tensor) -> Tensor:
        """Return the numbers of first rows from places [M], counted environment by environment, the oldest first."""
        assert self.ring is not None
        places, b = self.places, self.num_envs
        row = self.ring.position - self.ring.filled + places.start + place // b * self.stride
        return row % self.length * b + place % b

    def sample(self, begin: Tensor, **each: Tensor) -> Transition | None:
        """Return the rows [N, ...] of some sequences.

        Args:
            begin: where they begin, numbers of rows, [M].
            each: of each sequence, [M]; every row's extras have its sequence's.

        Returns:
            The rows, or None if no step is valid.
        """
        assert self.ring is not None
        b, k, to = self.num_envs, self.burn_in, self.learn_device
        path = (begin + b * torch.arange(self.window, device=self.device).unsqueeze(-1)) % self.ring.rows  # [W, M]
        (flat,) = self.ring.gather(path.flatten(), 1, to)
        x = map_transition(lambda field: field.unflatten(0, path.shape), flat)
        valid = self.ring.valid[path].to(to)
        ends = x.last | ~valid
        # an episode also ends where the next row doesn't go on, as after a resume without the environments' states
        ends[:-1] |= ~equal(x.next_obs, x.obs, ahead=1)
        x = x._replace(last=ends)
        before = map_transition(lambda field: field[:k], x) if k else None
        steps = map_transition(lambda field: field[k:], x)
        counts = valid[k : k + self.steps].flatten()
        rows = None if bool(counts.all()) else counts.nonzero().squeeze(-1)
        if rows is not None and not len(rows):
            return None
        reward, discount, m = window_returns(x.reward[k:], x.discount[k:], ~ends[k:], self.n_step, self.gamma)
        state = self.states[begin // b // self.stride, begin % b].to(to)
        windows: dict[str, Any] = {"length": self.steps, "rows": rows, "layouts": {}}
        wide = {key: x.to(to).expand(self.steps, -1) for key, x in each.items()}
        seen, after = (History(before, steps, state, ahead=ahead, **windows) for ahead in (None, m))
        return Transition(
            obs=seen if self.state_size else seen.obs,
            action=seen.flat(steps.action),
            reward=seen.flat(reward),
            discount=seen.flat(discount),
            next_obs=after if self.state_size else after.obs,
            last=seen.flat(steps.last),
            valid=seen.flat(torch.ones_like(steps.last)),
            extras={key: seen.flat(field) for key, field in {**steps.extras, **wide}.items()},
        )

    # ------------------------------------------------------------ saving

    def snapshot(self) -> dict[str, Any]:
        """Return the contents and the states; see `Memory.snapshot`."""
        state = super().snapshot()
        used = 0 if self.ring is None else -(-self.ring.filled // self.stride)
        return {**state, "states": None if state["ring"] is None else self.states[:used].clone()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot; see `Memory.restore`."""
        super().restore(state)
        if state["ring"] is not None:
            self.states[: len(state["states"])] = state["states"].to(self.device)


def window_returns(
    reward: Tensor, discount: Tensor, goes_on: Tensor, n: int, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum up rewards over the next m ≤ n steps, fewer where an episode or the rollout ends.

    Args:
        reward: of each step, [T, M], or [T, M, agents].
        discount: of each step, likewise.
        goes_on: whether the next row is the same episode's, [T, M].
        n: the most steps.
        gamma: γ.

    Returns:
        Σ_{k<m} γ^k r_k; γ^{m−1}, or 0 where the MDP terminated; and m, [T, M].
    """
    total, left, m = reward, discount, torch.ones_like(goes_on, dtype=torch.long)
    weight, onward = torch.ones_like(reward), gamma * onwards(discount, goes_on)
    for k in range(1, n):
        weight = weight[:-1] * onward[k - 1 : -1]  # of rows that k more follow
        counts = pad(weight, k) > 0.0
        total = total + pad(weight * reward[k:], k)
        left = torch.where(counts, pad(weight * discount[k:], k), left)
        m = m + counts.flatten(2).any(-1) if counts.dim() > 2 else m + counts
    return total, left, m


def pad(x: Tensor, k: int) -> Tensor:
    """Append k rows of zeros."""
    return torch.cat([x, x.new_zeros((k, *x.shape[1:]))])
