"""Parts of algorithms with replay whose networks may have a memory."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from pgrun.algos.parts.base import Learner
from pgrun.data.history import Remembered
from pgrun.data.types import Carry, Obs
from pgrun.errors import UserError
from pgrun.nn import Recurrent
from pgrun.nn.encoder import Encoder


class Remembering(Learner):
    """An algorithm that gives each encoder with a memory its own part of one state, which it carries between steps.

    A replay of sequences offers a `History` in the place of observations, so that a loss computes with one what it
    computes with observations: see `Encoder.forward` of such encoders.
    """

    remembers: ClassVar[bool] = True  # whether its networks may have a memory

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.check_network()
        self.encoders: list[Encoder] = []  # those with a memory
        self.state_size = 0

    def check_network(self) -> None:
        """Raise UserError where a network needs more than this algorithm, or its replay, gives it."""
        if isinstance(self.network, Recurrent):
            if not self.remembers:
                raise UserError(
                    "a network with a memory learns from sequences, not from single steps: use network=mlp or cnn, or "
                    "an algorithm that can, as algo=sac, td3, ddpg, dqn and sac_discrete"
                )
            if self.compile_steps:
                raise UserError("compile=true can't unroll a network with a memory; use compile=false")
            if self.network.sequence is not None:
                raise UserError(
                    f"network.sequence={self.network.sequence} cuts rollouts, and a replay has sequences as long as "
                    "memory.length says: use network.sequence=null"
                )
        if getattr(self.network, "normalize_obs", False):
            raise UserError(
                "network.normalize_obs=true takes its statistics from whole rollouts, which what learns from single "
                "steps does not see; use network.normalize_obs=false"
            )

    def settle(self) -> None:
        """Share out the state among the encoders with a memory; see `Learner.settle`."""
        self.encoders = [x for x in self.modules() if isinstance(x, Encoder) and x.state_size]
        self.state_size = 0
        for encoder in self.encoders:
            encoder.slot = slice(self.state_size, self.state_size + encoder.state_size)
            self.state_size += encoder.state_size
        self.recurrent = bool(self.encoders)
        super().settle()

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the networks' state at an episode's start, [B, S]; () without a memory."""
        return (torch.zeros(num_envs, self.state_size, device=self.device),) if self.recurrent else ()

    def recall(self, obs: Obs, carry: Carry) -> tuple[Obs, Carry, dict[str, Tensor]]:
        """Take in observations [B, *O], where a network has a memory.

        Returns:
            What its encoders take in their place, the carry with the state after them, and the state before them as
            what to record. Without a memory: the observations and the carry as they were, and nothing to record.
        """
        if not self.recurrent:
            return obs, carry, {}
        before, *others = carry
        after = torch.cat([encoder.step(obs, before[:, encoder.slot])[1] for encoder in self.encoders], -1)
        return Remembered(obs, after), (after, *others), {"carry": before}
