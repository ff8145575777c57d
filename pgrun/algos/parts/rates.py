"""Learning rates: the critic's own in a gradient step that it shares with the policy, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def check_apart(learner: nn.Module, one: Iterable[nn.Parameter], other: Iterable[nn.Parameter]) -> None:
    """Raise UserError where parameters that take steps apart have some in common, which one step would undo."""
    own = {id(p) for p in one}
    if any(id(p) in own for p in other):
        raise UserError(
            f"{type(learner).__name__} steps two of its networks apart, and they have weights in common: a network's "
            "encoder() has to make a new encoder at each call"
        )


def rate_name(step: str) -> str:
    """Name the learning rate of a gradient step: lr, lr_actor, lr_critic."""
    short_name = step.removesuffix("step").rstrip("_")
    return f"lr_{short_name}" if short_name else "lr"
