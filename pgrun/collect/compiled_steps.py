"""Acting and the step of a world of tensors as one compiled function."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor

from pgrun.data.policy import Policy
from pgrun.data.types import Carry, MovableEnv, Moved, Obs, Step, VectorEnv, settled
from pgrun.errors import CantRecord
from pgrun.optim.compiled import Recorded
from pgrun.optim.gradient_step import GradientStep

log = logging.getLogger("pgrun")


class CompiledSteps:
    """One step of acting and of the environments, compiled where both are functions of tensors.

    Args:
        env: the environments.
        wanted: whether to compile at all.
    """

    def __init__(self, env: VectorEnv, wanted: bool) -> None:
        self.env: MovableEnv = env  # type: ignore[assignment]
        self.able = wanted and hasattr(env, "move")  # until a policy turns out to be no such function
        self.step: Recorded | None = None

    @property
    def seconds(self) -> float:
        """Seconds that compiling has taken."""
        return 0.0 if self.step is None else self.step.seconds

    def __call__(self, policy: Policy, obs: Obs, carry: Carry) -> tuple[Tensor, Carry, dict[str, Tensor], Step]:
        """Act on observations [B, *O] and step.

        Returns:
            Actions, carry and extras as `Policy.act` returns them, and the environments' answer.
        """
        if self.step is None:
            self.step = Recorded(self._step(policy), (policy, self.env), (GradientStep, Recorded))
        env = self.env
        try:
            action, after, extras, moved = self.step(obs, carry, env.state, env.t)
        except CantRecord as why:
            self.able = False
            log.info("acting isn't compiled: %s", why)
            action, after, extras = policy.act(obs, carry, True)
            moved = env.move(env.state, env.t, action)
        return action, after, extras, settled(env.settle(moved))

    def _step(self, policy: Policy) -> Any:
        def step(obs: Obs, carry: Carry, state: Tensor, t: Tensor) -> tuple[Tensor, Carry, dict[str, Tensor], Moved]:
            action, carry, extras = policy.act(obs, carry, True)
            return action, carry, extras, self.env.move(state, t, action)

        return step
