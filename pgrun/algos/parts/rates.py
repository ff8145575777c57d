"""The critic's own learning rate, in a gradient step that it shares with the policy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pgrun.errors import UserError
from pgrun.nn import ActorCritic


def critics_rate(model: ActorCritic, lr: float | str | None) -> tuple[Sequence[nn.Parameter], float | str] | None:
    """Pair the critic's own parameters with their learning rate, α^w.

    A trunk that policy and critic share keeps the policy's, α^θ.

    Args:
        model: the policy and its critic.
        lr: the rate or its schedule; None: there is one rate for all.

    Raises:
        UserError: there is no critic.
    """
    if lr is None:
        return None
    actors = {id(p) for p in model.actor.parameters()}
    own = [p for p in model.parameters() if id(p) not in actors]
    if not own:
        raise UserError(
            f"algo.critic_lr={lr}: no critic is learned here; use algo.critic_lr=null, or algo/baseline=value where "
            "the algorithm takes one"
        )
    return own, lr
