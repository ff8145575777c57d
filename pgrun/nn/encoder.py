"""The interface of an encoder of observations."""

from __future__ import annotations

from torch import Tensor, nn

from pgrun.data.types import Obs, Transition


class Encoder(nn.Module):
    """A map from observations [..., *O] to features [..., features].

    An encoder with a memory overrides all that has to do with `state`.
    """

    features: int
    state_size = 0  # the numbers in its memory; 0: it has none
    slot = slice(0, 0)  # where its memory is among those of several encoders, if an algorithm says so

    def step(self, obs: Obs, state: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one observation [B, *O] with the state [B, S]; return features [B, F] and the next state."""
        return self(obs), state

    def along(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a batch's observations; a memory is at extras["carry"][..., slot]."""
        return self(batch.obs)

    def beyond(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a batch's successors, each after the observations that came before it."""
        return self(batch.next_obs)

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the running statistics, if there are any, with observations [N, *O]; valid [N]."""
