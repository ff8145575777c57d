"""The gradient of log π along each trajectory of a batch, and the baselines that use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgrun.core.baselines import optimal_of_others
from pgrun.data.types import Transition, map_transition
from pgrun.nn import ActorCritic

ROWS = 32_768  # steps whose activations are in memory at a time


class LogProb(nn.Module):
    """A module that computes log π(a_t|s_t) of a rollout, [T, B]; torch.func can swap its parameters."""

    def __init__(self, model: ActorCritic) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Transition) -> Tensor:
        """Compute log π(a_t|s_t), [T, B]."""
        return self.model.policy(batch).log_prob(batch.action)


def where_episodes_are(batch: Transition) -> tuple[Tensor, Tensor, Tensor]:
    """Find the N episodes of a rollout [T, B], to lay them out as columns.

    Returns:
        Row and column of each step in the rollout, and whether there is such a step; each [L, N].
    """
    over = batch.last | ~batch.valid
    first = torch.cat([torch.ones_like(over[:1]), over[:-1]]) & batch.valid
    t0, column = first.nonzero(as_tuple=True)  # [N]
    t = torch.arange(len(over), device=over.device).unsqueeze(-1)  # [T, 1]
    ends = torch.where(over, t, t[-1]).flip(0).cummin(0).values.flip(0)  # [T, B] the row where its episode ends
    length = ends[t0, column] - t0 + 1
    steps = t[: int(length.max())]
    row = (t0 + steps).clamp(max=len(over) - 1)
    return row, column.expand_as(row), steps < length


def trajectory_gradients(model: ActorCritic, batch: Transition, *weights: Tensor) -> Tensor:
    """Compute Σ_t w_t ∇log π(a_t|s_t) of each of N episodes, for each of k weights.

    Args:
        model: the policy.
        batch: the episodes as columns, [L, N].
        *weights: k tensors [L, N], 0 where there is no step.

    Returns:
        [N, k, P], with P over the actor's parameters.
    """
    if model.recurrent:  # vmap can't batch fused cells
        return _one_by_one(model, batch, *weights)
    log_prob = LogProb(model)
    parameters_now = {f"model.actor.{name}": p.detach() for name, p in model.actor.named_parameters()}

    def gradients_of_one(column: Transition, w: Tensor) -> Tensor:  # [L, ...], [L, k] -> [k, P]
        alone = map_transition(lambda x: x.unsqueeze(1), column)

        def sums(parameters: dict[str, Tensor]) -> Tensor:
            return w.T @ torch.func.functional_call(log_prob, parameters, (alone,), tie_weights=False).squeeze(1)

        return torch.cat([g.flatten(1) for g in torch.func.jacrev(sums)(parameters_now).values()], 1)

    extras = {key: batch.extras[key] for key in ("carry",) if key in batch.extras}
    columns = batch._replace(next_obs=batch.obs, extras=extras)
    at_a_time = max(1, ROWS // len(batch.reward))
    return torch.func.vmap(gradients_of_one, in_dims=(1, 1), chunk_size=at_a_time)(columns, torch.stack(weights, -1))


def _one_by_one(model: ActorCritic, batch: Transition, *weights: Tensor) -> Tensor:
    """Compute `trajectory_gradients` in a loop over episodes."""
    actor = list(model.actor.parameters())
    gradients = []
    for i in range(batch.reward.shape[1]):
        alone = map_transition(lambda x, i=i: x[:, i : i + 1], batch)  # type: ignore[misc]
        with torch.enable_grad():
            log_prob = model.policy(alone).log_prob(alone.action)[:, 0]
            sums = [(w[:, i] * log_prob).sum() for w in weights]
        rows = [torch.autograd.grad(weighted_sum, actor, retain_graph=True) for weighted_sum in sums]
        gradients.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]))
    return torch.stack(gradients)


def subtract_optimal(
    model: ActorCritic, batch: Transition, psi: Tensor, factor: Tensor, per_parameter: bool
) -> dict[str, Tensor]:
    """Subtract the optimal baseline: return Ψ_t − b*_i c_t at the steps of trajectory i, [T, B].

    c_t is the factor that Ψ_t already has. With a baseline per parameter Ψ_t stays, and `correction` [P] is Σ_i b*_i
    g_i over the M valid steps.
    """
    row, column, there = where_episodes_are(batch)
    weight = there.to(psi.dtype)
    episodes = map_transition(lambda x: x[row, column], batch)._replace(valid=there)
    gradients = trajectory_gradients(model, episodes, factor[row, column] * weight, psi[row, column] * weight)
    g, g_hat = gradients.unbind(1)  # [N, P]
    b = optimal_of_others(g, g_hat, per_parameter)
    if per_parameter:
        return {"psi": psi, "correction": (b * g).sum(0) / batch.valid.sum()}
    baseline = torch.zeros_like(psi).index_put((row[there], column[there]), b.expand_as(weight)[there])
    return {"psi": psi - baseline * factor}
