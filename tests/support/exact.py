"""A small MDP, all its trajectories, and the exact mean, bias and variance of whatever is computed on them."""

from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from pgrun.core import tabular
from pgrun.core.tabular import MDP, Trajectories


@dataclass
class Exact:
    """Everything about one MDP under one policy; [T, N] over all trajectories."""

    mdp: MDP
    logits: Tensor  # [O, A]
    every: Trajectories

    def __post_init__(self) -> None:
        self.gamma = self.mdp.gamma
        self.pi = self.mdp.policy(self.logits)
        self.p = tabular.probabilities(self.every, self.pi)  # [N]
        self.value = self.mdp.value(self.pi)  # V(s) [S]
        self.q = self.mdp.q(self.value)
        self.score = tabular.scores(self.every, self.logits)  # g_t [T, N, P]
        self.gradient = self.mdp.gradient(self.logits)  # ∇J [P]
        self.zero = torch.zeros_like(self.value)
        time = torch.arange(len(self.every.state), dtype=torch.float64)
        self.time = (self.gamma**time).unsqueeze(1)  # γ^t [T, 1]

    def estimates(self, psi: Tensor) -> Tensor:
        """Σ_t g_t Ψ_t of each trajectory, [N, P]; Ψ [T, N] or [T, 1]."""
        return torch.einsum("tnp,tn->np", self.score, psi.expand(self.score.shape[:2]))

    def mean(self, psi: Tensor) -> Tensor:
        return self.p @ self.estimates(psi)

    def bias(self, psi: Tensor) -> float:
        """The length of the bias, as a share of the length of ∇J."""
        return float((self.mean(psi) - self.gradient).norm() / self.gradient.norm())

    def variance(self, psi: Tensor) -> float:
        """The trace of the covariance."""
        return float(tabular.moments(self.estimates(psi), self.p)[1].trace())

    def per_step_mean(self, x: Tensor) -> Tensor:
        """E[x_t | t lies in the episode], [T, 1]."""
        weight = self.p * self.every.valid
        return ((weight * x).sum(1) / weight.sum(1)).unsqueeze(1)


def exact(mdp: MDP, seed: int | None = 0, *, logits: Tensor | None = None) -> Exact:
    """The exact study of an MDP whose episodes end, under a random policy or a given one."""
    if logits is None:
        g = torch.Generator().manual_seed(seed or 0)
        logits = torch.randn(int(mdp.sees.max()) + 1, mdp.reward.shape[1], generator=g, dtype=torch.float64)
    return Exact(mdp, logits, tabular.enumerate_trajectories(mdp))


BRIDGE_LOGITS = torch.tensor([[0.0, 0.2], [0.1, 0.6], [-0.2, 0.0]], dtype=torch.float64)


def named() -> Exact:
    """The MDP of the README's figure, under its policy."""
    return exact(tabular.bridge(), logits=BRIDGE_LOGITS)


def random_studies(n: int, *, ends: float = 0.2, gamma: float = 0.8, steps: int = 3) -> list[Exact]:
    """Random MDPs under random policies."""
    found = []
    for seed in range(n):
        g = torch.Generator().manual_seed(seed)
        found.append(exact(tabular.random_mdp(2, 2, gamma, g, ends=ends).limited(steps), seed))
    return found


def one_step(start: list[float], reward: list[list[float]]) -> MDP:
    """A contextual bandit: every episode ends after one action."""
    r = torch.tensor(reward, dtype=torch.float64)
    s, a = r.shape
    nowhere = torch.zeros(s, a, s, dtype=torch.float64)
    return MDP(nowhere, r, torch.tensor(start, dtype=torch.float64), 1.0, torch.arange(s))


def hotelling(samples: Tensor, truth: Tensor) -> float:
    """The p-value of "the mean of `samples` [n, P] is `truth` [P]", by Hotelling's T².

    A softmax table's scores sum to zero over actions, so the covariance is singular: the test is made in the span of
    the covariance's eigenvectors, and what lies outside of it must be exact.
    """
    n = len(samples)
    off = samples.mean(0) - truth
    values, vectors = torch.linalg.eigh(torch.cov(samples.T))
    kept = values > 1e-10 * values.max()
    outside = float((vectors[:, ~kept].T @ off).norm()) if (~kept).any() else 0.0
    if outside > 1e-8:
        return 0.0
    k = int(kept.sum())
    t2 = n * ((vectors[:, kept].T @ off).square() / values[kept]).sum()
    return float(stats.f.sf(float(t2) * (n - k) / (k * (n - 1)), k, n - k))
