"""Running normalisers as layers: their statistics are buffers of the network, trained, saved and exported with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pgrun.core import ranks
from pgrun.core.returns import discounted_sums

ROUNDING_32, ROUNDING_64 = 5e-7, 1e-12  # a standard deviation of pure rounding, as a share of the mean
CONSTANT = 1e-8  # the variance of an input that has not varied yet


class RunningNorm(nn.Module):
    """A layer that computes (x − mean) / std of all x seen so far, clipped.

    Batch moments are merged as Chan et al. 1979 do. Statistics are float64, of all ranks, and change only in `observe`,
    so every pass in one update sees the same ones. An input that varies less than its numbers' rounding counts as
    constant, so that noise is not made large.

    Args:
        shape: of one x.
        clip: results lie between this and its negative.
        exact: whether x comes in float64; the mean is taken off before it is rounded to float32.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], *, clip: float = 10.0, exact: bool = False) -> None:
        super().__init__()
        self.clip, self.exact = clip, exact
        self.merged: list[tuple[Tensor, Tensor, Tensor]] | None = None  # moments for others to merge, too
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., *shape]."""
        centred = (x - self.mean).to(torch.float32) if self.exact else x - self.shift
        return (centred * self.scale).clamp(-self.clip, self.clip)

    def observe(self, x: Tensor, valid: Tensor) -> None:
        """Update the statistics with rows x [N, *shape]; valid [N]."""
        self.merge(*moments(x, valid))

    @torch.no_grad()
    def merge(self, n: Tensor, mean: Tensor, var: Tensor) -> None:
        """Update the statistics with the moments of n rows; n 0-dim, mean and var of `shape`, float64."""
        if self.merged is not None:
            self.merged.append((n, mean, var))
        total = self.count + n
        delta = mean - self.mean
        share = n / total.clamp(min=1)
        self.var.copy_(
            torch.where(self.count > 0, self.var + share * (var - self.var) + delta.square() * share * (1 - share), var)
        )
        self.mean.add_(delta * share)
        self.count.copy_(total)
        self.shift.copy_(self.mean)
        rounding = ((ROUNDING_64 if self.exact else ROUNDING_32) * self.mean).square()
        self.scale.copy_(torch.where(self.var > 0, self.var + rounding, CONSTANT).rsqrt())


@torch.no_grad()
def moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute number, mean and variance of the valid rows of all ranks, float64; x [N, *shape], valid [N]."""
    x, counts = x.to(torch.float64), valid.reshape(-1, *([1] * (x.dim() - 1)))
    n, total = ranks.total(valid.sum(), torch.where(counts, x, 0.0).sum(0))
    mean = total / n.clamp(min=1)
    var = ranks.total(torch.where(counts, x - mean, 0.0).square().sum(0)) / n.clamp(min=1)
    return n, mean, var


class RewardScale(nn.Module):
    """A layer that divides rewards by the running standard deviation of the discounted return.

    Most PPO codebases normalise rewards so (Engstrom et al. 2020, https://arxiv.org/abs/2005.12729, section 3).
    """

    carry: Tensor

    def __init__(self, gamma: float, *, clip: float = 10.0) -> None:
        super().__init__()
        self.gamma, self.clip = gamma, clip
        self.norm = RunningNorm(())
        self.register_buffer("carry", torch.zeros(0))  # R of each environment's open episode, [B]

    def forward(self, reward: Tensor) -> Tensor:
        """Scale rewards [...]."""
        return (reward * self.norm.scale).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def observe(self, reward: Tensor, last: Tensor, valid: Tensor) -> None:
        """Update the statistics with a rollout, all [T, B]; rows that are not valid belong to no episode."""
        if self.carry.shape != reward.shape[1:]:
            self.carry = torch.zeros_like(reward[0])
        earned = torch.where(valid, reward, 0.0)
        returns, carry = discounted_sums(earned, last | ~valid, self.gamma, self.carry)
        self.carry.copy_(carry)
        self.norm.observe(returns.flatten(), valid.flatten())

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object, **kwargs: object) -> None:
        saved = state_dict.get(prefix + "carry")
        if saved is not None and saved.shape != self.carry.shape:
            self.carry = torch.zeros_like(saved, device=self.carry.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[arg-type]
