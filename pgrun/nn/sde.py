"""State-dependent exploration: noise that is one function of the state for many steps, not a new number at each.

Raffin et al. 2021, https://arxiv.org/abs/2005.05719 (gSDE). Shapes: B copies, F features, n coordinates of an action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pgrun.data.types import Carry
from pgrun.nn.encoders import Network
from pgrun.nn.gaussian import LOG_STD_MIN, bounded, unbounded


class StateNoise(nn.Module):
    """Noise ε(s) = Θᵀz(s) on actions, of the policy's last features z(s) and a matrix Θ_ij ~ N(0, σ_ij²).

    Over all matrices ε(s) ~ N(0, diag(Σ_i z_i(s)² σ_ij²)), which is the policy's density. A further feature that
    is always 1, with σ = e^−5, keeps that from vanishing where all features are 0. A matrix is kept as standard normal
    numbers, Θ_ij/σ_ij, so that those in use follow σ.

    Args:
        features: F.
        size: n.
        network: the first log σ, and whether gradients of σ(s) go on into the features.
    """

    def __init__(self, features: int, size: int, network: Network) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.full((features, size), unbounded(network.log_std_init)))  # before its bounds
        self.learn_features = network.sde_learn_features
        self.shape = (features + 1, size)

    def sigma(self) -> Tensor:
        """Return σ [F, n]; divided by √F, so that features of size 1 make noise of the size that the setting says."""
        return bounded(self.log_std).exp() / math.sqrt(len(self.log_std))

    def forward(self, z: Tensor) -> Tensor:
        """Compute log σ(s), [..., n], of features [..., F]."""
        z = z if self.learn_features else z.detach()
        return 0.5 * (z.square() @ self.sigma().square() + math.exp(2.0 * LOG_STD_MIN)).log()

    def standard(self, z: Tensor, matrices: Tensor) -> Tensor:
        """Compute ε(s)/σ(s), [B, n], by each copy's matrix [B, (F + 1) n]; over all matrices it is standard normal."""
        *rows, last = matrices.unflatten(-1, self.shape).split([len(self.log_std), 1], 1)
        noise = torch.einsum("bf,fn,bfn->bn", z, self.sigma(), rows[0]) + math.exp(LOG_STD_MIN) * last[:, 0]
        return noise * (-self(z)).exp()


class Matrices:
    """The matrices that a policy explores with, one a copy of the environment; the last tensor of its carry holds them.

    It is [B, 1 + M]: the steps for which each matrix has been used, and its numbers. 0 steps: one is to be drawn.

    Args:
        sizes: the numbers of a copy's matrices, one for each part of an action that is Gaussian; [] if there are none.
        hold: steps for which a matrix is used; None: those of an episode.
    """

    def __init__(self, sizes: Sequence[int], hold: int | None) -> None:
        self.size, self.hold = sum(sizes), hold

    @property
    def outlast(self) -> bool:
        """Whether they are used on after an episode's end."""
        return self.size > 0 and self.hold is not None

    def initial(self, num_envs: int, device: torch.device | str) -> Carry:
        """Return what the carry begins with; () if there are no matrices."""
        return (torch.zeros(num_envs, 1 + self.size, device=device),) if self.size else ()

    def take(self, carry: Carry, explore: bool) -> tuple[Tensor | None, Carry]:
        """Return the matrices [B, M] to act with, and the carry after that; None if there are none, or no need.

        Those that are due are drawn.
        """
        if not (self.size and explore and carry):
            return None, carry
        *others, held = carry
        steps, matrices = held[:, :1], held[:, 1:]
        due = steps == 0
        if torch.compiler.is_exporting() or bool(due.any()):  # a graph can't branch; on a GPU a sync point
            matrices = torch.where(due, torch.randn_like(matrices), matrices)
        steps = steps + 1 if self.hold is None else (steps + 1) % self.hold
        return matrices, (*others, torch.cat([steps, matrices], -1))
