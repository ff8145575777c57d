"""A trained policy that acts where its user steps the environment.

Shapes: B copies, *O and *A one observation and action, as the environment has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.after.loading import Loaded, loaded
from pgrun.collect.acting import ask
from pgrun.collect.finite import finite, named
from pgrun.data.types import Carry, Obs
from pgrun.envs.outside import AgentsOutside, Outside
from pgrun.errors import UserError
from pgrun.run.devices import pick
from pgrun.system.randomness import Randomness


class Policy:
    """A run's policy, to be called with what the environment shows: `action = policy(obs)`.

    It takes and gives what the environment itself gives and takes: its units, types and shapes. One observation gets
    one action, a batch [B, *O] a batch [B, *A]; arrays get arrays, tensors tensors. Several agents' dicts get dicts.
    What it remembers (a network with a memory) goes on from call to call until `reset`. What it normalises by is as the
    run left it.

    Attributes:
        algo: the algorithm's name.
        env: the environment's name.
        steps: environment steps that it has learnt from.
        observation_space: of one observation that it takes.
        action_space: of one action that it gives.
        seed: of its own random numbers, if not given the one of the run's own evaluations.
        stochastic: whether it samples its actions.
    """

    def __init__(self, run: Loaded, outside: Outside | AgentsOutside, *, stochastic: bool, seed: int | None) -> None:
        self.algo, self.env, self.steps = run.names["algo"], run.names["env"], int(run.clock["steps"])
        self.observation_space: gym.Space = outside.observations
        self.action_space: gym.Space = outside.actions
        self.seed = run.seed if seed is None else seed
        self.stochastic = stochastic or bool(run.config.eval.get("stochastic", False))
        self._algorithm, self._outside = run.algorithm, outside
        self._precision = torch.get_float32_matmul_precision()  # as the algorithm has just set it
        self._randomness = Randomness(self.seed)
        self._carry: Carry | None = None
        self._rows = 0  # B, or B·N where agents share the policy; of the carry
        self._anew: np.ndarray | None = None  # [B] bool, whose memory the next call begins anew

    @torch.no_grad()
    def __call__(self, obs: Any, *, mask: Any = None) -> Any:
        """Choose the action for an observation, or the actions for a batch of them.

        Args:
            obs: as the environment's reset and step return it, or a batch with one more axis in front.
            mask: the actions that are allowed, where the environment says it in `info` or by a method.

        Returns:
            The action, as the environment's `step` takes it; a batch of them for a batch.

        Raises:
            UserError: it is no observation of this environment, a mask is missing, or the batch has another size than
                before without a `reset`.
        """
        question = self._outside.ask(obs, mask)
        check_finite(question.obs)
        rows = question.copies * self._outside.rows
        with self._randomness(), precision(self._precision):
            carry = self._remembered(rows)
            action, self._carry, _ = ask(self._algorithm, question.obs, carry, explore=self.stochastic)
        self._rows = rows
        return self._outside.answer(action, question)

    def reset(self, rows: Sequence[int] | Sequence[bool] | np.ndarray | Tensor | int | None = None) -> None:
        """Forget what was: an episode begins.

        Args:
            rows: of a batch, those that begin an episode: their numbers, or one truth value for each; None: all, and
                the next batch may have another size.

        Raises:
            UserError: there are no such rows.
        """
        if rows is None:
            self._carry, self._anew = None, None
            return
        if self._carry is None:
            return
        copies = self._rows // self._outside.rows
        chosen = np.atleast_1d(np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows))
        anew = np.zeros(copies, dtype=bool) if self._anew is None else self._anew
        if chosen.dtype == bool and chosen.shape == (copies,):
            anew |= chosen
        elif chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= copies):
            raise UserError(f"reset: {rows} are no rows of a batch of {copies}: give their numbers, or a flag for each")
        elif chosen.size:
            anew[chosen] = True
        self._anew = anew if anew.any() else None

    def _remembered(self, rows: int) -> Carry:
        """Return what the policy remembers [B, ...], begun anew where `reset` said so."""
        if self._carry is None:
            self._anew = None
            return self._algorithm.initial_carry(rows)
        if rows != self._rows and self._carry:
            each = self._outside.rows
            raise UserError(
                f"a batch of {rows // each} after one of {self._rows // each}, of which the policy remembers the steps "
                "so far: call policy.reset() first"
            )
        if self._anew is None or not self._carry:
            return self._carry
        anew = torch.from_numpy(np.repeat(self._anew, self._outside.rows))
        fresh, self._anew = self._algorithm.initial_carry(rows), None
        return tuple(
            torch.where(anew.reshape(-1, *([1] * (c.dim() - 1))).to(c.device), f, c)
            for c, f in zip(self._carry, fresh, strict=True)
        )

    def __repr__(self) -> str:
        """Say whose policy it is."""
        kind = ", stochastic" if self.stochastic else ""
        return f"<pgrun.Policy: {self.algo} on {self.env} after {self.steps:,} steps{kind}>"


def load_policy(
    folder: Path,
    which: str = "latest",
    *,
    device: str = "cpu",
    stochastic: bool = False,
    seed: int | None = None,
    trust: bool = False,
) -> Policy:
    """Load a run's policy.

    Args:
        folder: the run directory.
        which: `latest`, `best` or a checkpoint's file.
        device: where it acts: cpu, cuda or cuda:N.
        stochastic: sample actions, as in training; else take the best.
        seed: of its own random numbers; None: the one of the run's own evaluations.
        trust: use its code although it was not made here.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, needs to be trusted, or its environment can't
            be had here.
    """
    pick(device, torch.device("cpu"))
    with loaded(folder, which, episodes=1, device=device, trust=trust) as run:
        outside = getattr(run.env, "outside", None)
        if outside is None:
            raise UserError(
                f"{type(run.env).__name__} does not say how the environment's own observations become a policy's: give "
                "it a method outside(), as pgrun.envs.tensor.TensorEnv has"
            )
        return Policy(run, outside(), stochastic=stochastic, seed=seed)


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Set torch's precision of matrix products for the block."""
    before = torch.get_float32_matmul_precision()
    if before == name:
        yield
        return
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_finite(obs: Obs) -> None:
    """Raise UserError if an observation holds NaN or an infinity."""
    for name, x in named(obs).items():
        if not finite(x):
            raise UserError(f"{name} holds NaN or an infinity: no policy can act on it")
