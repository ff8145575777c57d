"""The interface of an encoder of observations."""

from __future__ import annotations

from torch import Tensor, nn

from pgrun.data.types import Obs, Transition


class Encoder(nn.Module):
    """Observations [..., *O] to features [..., features]. One with a memory overrides what has to do with `state`."""

    features: int
    state_size = 0  # how many numbers it remembers; 0: it has no memory

    def step(self, obs: Obs, state: Tensor) -> tuple[Tensor, Tensor]:
        """obs [B, *O], state [B, S] -> features [B, F] and the state after this observation."""
        return self(obs), state

    def along(self, batch: Transition, slot: slice) -> Tensor:
        """Features of a batch's observations; a memory is at extras["carry"][..., slot]."""
        return self(batch.obs)

    def beyond(self, batch: Transition, slot: slice) -> Tensor:
        """Features of a batch's successors, each as seen after what came before it."""
        return self(batch.next_obs)

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Take observations [N, *O] into the running statistics, if there are any; valid [N]."""
