"""Policies as distributions over actions [..., *A]; `params` [..., P] are what a head's last layer returns."""

from __future__ import annotations

import math
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)
HUGE = 1e100  # standard deviations, for ±∞ where a gradient goes through


class Distribution(Protocol):
    """The distribution that every policy head returns; batch dimensions in front are free."""

    def sample(self) -> Tensor:
        """Draw an action with the global torch generator."""

    def mode(self) -> Tensor:
        """Return the most probable action (for a squashed Gaussian: of the Gaussian under the squash)."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""

    def params(self) -> Tensor:
        """Return the parameters [..., P] that determine it, to be kept beside the data."""

    def like(self, params: Tensor) -> Self:
        """Make the distribution of this kind with these `params`."""

    def kl(self, other: Self) -> Tensor:
        """Compute KL(self ‖ other), [...]."""


class Categorical:
    """One of K actions; logits [..., K], actions [...] int64."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self) -> Tensor:
        """Draw by Gumbel's trick: the arg max of logits plus Gumbel noise (−log of an exponential)."""
        return (self.logits - torch.empty_like(self.logits).exponential_().log_()).argmax(-1)

    def mode(self) -> Tensor:
        """Return the likeliest action."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""
        return F.log_softmax(self.logits, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""
        log_p = F.log_softmax(self.logits, -1)
        return -(log_p.exp() * log_p).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """Compute KL(self ‖ other), [...]."""
        log_p = F.log_softmax(self.logits, -1)
        return (log_p.exp() * (log_p - F.log_softmax(other.logits, -1))).sum(-1)

    def params(self) -> Tensor:
        """Return the logits."""
        return self.logits

    def like(self, params: Tensor) -> Categorical:
        """Make the distribution with these logits."""
        return Categorical(params)

    def statistics(self) -> Tensor:
        """Return the probabilities φ [..., K], the space in which ACER's trust region lies."""
        return self.logits.softmax(-1)

    def of_statistics(self, phi: Tensor) -> CategoricalOfStatistics:
        """Make the distribution with the probabilities φ [..., K], differentiable in each of them."""
        return CategoricalOfStatistics(phi)


class CategoricalOfStatistics:
    """One of K actions with free probabilities φ [..., K]: log π(a) is log φ_a, with no gradient in other φ_i."""

    def __init__(self, phi: Tensor) -> None:
        self.phi = phi

    @property
    def log_phi(self) -> Tensor:
        """The logarithm of φ, [..., K]: computed for each gradient, and finite for masked actions, whose φ is 0."""
        return self.phi.clamp(min=1e-6).log()

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log φ_a of one action for each φ, or of several [m, ...], in the shape of `action`."""
        return self.log_phi.expand(*action.shape, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """Compute −Σ φ log φ, [...]."""
        return -(self.phi * self.log_phi).sum(-1)

    def kl_from(self, other: Categorical) -> Tensor:
        """Compute KL(other ‖ self), [...]."""
        log_p = F.log_softmax(other.logits, -1)
        return (log_p.exp() * (log_p - self.log_phi)).sum(-1)


class MultiCategorical:
    """Independent categoricals; logits [..., ΣK_i], actions [..., n] int64."""

    def __init__(self, logits: Tensor, sizes: tuple[int, ...]) -> None:
        self.logits, self.sizes = logits, sizes
        self.parts = [Categorical(part) for part in logits.split(sizes, -1)]

    def sample(self) -> Tensor:
        """Draw each choice."""
        return torch.stack([part.sample() for part in self.parts], -1)

    def mode(self) -> Tensor:
        """Return the likeliest choices."""
        return torch.stack([part.mode() for part in self.parts], -1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""
        return torch.stack([p.log_prob(a) for p, a in zip(self.parts, action.unbind(-1), strict=True)]).sum(0)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""
        return torch.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: MultiCategorical) -> Tensor:
        """Compute KL(self ‖ other), [...]."""
        return torch.stack([p.kl(q) for p, q in zip(self.parts, other.parts, strict=True)]).sum(0)

    def params(self) -> Tensor:
        """Return the logits."""
        return self.logits

    def like(self, params: Tensor) -> MultiCategorical:
        """Make the distribution with these logits."""
        return MultiCategorical(params, self.sizes)


class Bernoulli:
    """Independent coins; logits [..., n], actions [..., n] of 0. and 1."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def sample(self) -> Tensor:
        """Toss each coin."""
        return (torch.rand_like(self.logits) < self.logits.sigmoid()).to(self.logits.dtype)

    def mode(self) -> Tensor:
        """Return the likelier side of each coin."""
        return (self.logits > 0).to(self.logits.dtype)

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""
        return -F.binary_cross_entropy_with_logits(self.logits, action, reduction="none").sum(-1)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""
        p = self.logits.sigmoid()
        return F.binary_cross_entropy_with_logits(self.logits, p, reduction="none").sum(-1)

    def kl(self, other: Bernoulli) -> Tensor:
        """Compute KL(self ‖ other), [...]."""
        p = self.logits.sigmoid()
        cross = F.binary_cross_entropy_with_logits(other.logits, p, reduction="none").sum(-1)
        return cross - self.entropy()

    def params(self) -> Tensor:
        """Return the logits."""
        return self.logits

    def like(self, params: Tensor) -> Bernoulli:
        """Make the distribution with these logits."""
        return Bernoulli(params)


class Gaussian:
    """Independent normals; mean and log_std [..., n]."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    def sample(self) -> Tensor:
        """Draw from each normal."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def mode(self) -> Tensor:
        """Return the mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""
        z = (action - self.mean) * (-self.log_std).exp()
        return -(0.5 * (z.square() + LOG_2PI) + self.log_std).sum(-1)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""
        return (self.log_std + 0.5 * (1.0 + LOG_2PI)).expand_as(self.mean).sum(-1)

    def kl(self, other: Gaussian) -> Tensor:
        """Compute KL(self ‖ other), [...]."""
        ratio = (2.0 * (self.log_std - other.log_std)).exp()
        shift = ((self.mean - other.mean) * (-other.log_std).exp()).square()
        return 0.5 * (ratio + shift - 1.0 - 2.0 * (self.log_std - other.log_std)).sum(-1)

    def params(self) -> Tensor:
        """Return means and log σ, [..., 2n]."""
        return torch.cat([self.mean, self.log_std.expand_as(self.mean)], -1)

    def like(self, params: Tensor) -> Gaussian:
        """Make the distribution with these means and log σ."""
        return Gaussian(*params.chunk(2, -1))

    def statistics(self) -> Tensor:
        """Return means and log σ, [..., 2n], the space in which ACER's trust region lies."""
        return self.params()

    def of_statistics(self, phi: Tensor) -> Gaussian:
        """Make the distribution with the statistics φ [..., 2n]."""
        return self.like(phi)

    def kl_from(self, other: Gaussian) -> Tensor:
        """Compute KL(other ‖ self), [...]."""
        return other.kl(self)


class TanhGaussian:
    """tanh of a Gaussian, in (−1, 1)^n: Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290, appendix C, eq. 21."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.base = Gaussian(mean, log_std)

    def sample(self) -> Tensor:
        """Draw from the Gaussian, and squash."""
        return self.base.sample().tanh()

    def mode(self) -> Tensor:
        """Return tanh of the mean."""
        return self.base.mean.tanh()

    def rsample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a = tanh(μ + σε) and log π(a), differentiable in μ and σ; noise ε ~ N(0, I) [..., n]."""
        base = self.base
        u = base.mean + base.log_std.exp() * noise
        log_prob = -(0.5 * (noise.square() + LOG_2PI) + base.log_std).sum(-1)
        return u.tanh(), log_prob - _log_det_tanh(u)

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...], of a rounded action: a stands for all u whose tanh is rounded to it."""
        # the density at a where the Gaussian is wider than that range of u; where it is narrower, and at ±1 (for all u
        # beyond 9 or so), the mean density over the actions that a stands for: the probability of a, by its width
        a, mean, std = action.double(), self.base.mean.double(), self.base.log_std.double().exp()
        half = 0.25 * torch.finfo(action.dtype).eps  # of the distance from one number to the next below 1
        low, high = (torch.atanh((a + x).clamp(-1.0, 1.0)) for x in (-half, half))  # ±∞ at ±1
        inside = a.abs() < 1.0
        u = torch.atanh(torch.where(inside, a, 0.0))
        density = -0.5 * (((u - mean) / std).square() + LOG_2PI) - std.log() - _log_det_tanh(u.unsqueeze(-1))
        wide = inside & (high - low < 2.0 * std)
        low, high = torch.where(wide, -1.0, low), torch.where(wide, 1.0, high)  # any interval: no gradient is NaN
        lower = torch.where(low.isinf(), -HUGE, (low.nan_to_num(0.0, 0.0, 0.0) - mean) / std)
        upper = torch.where(high.isinf(), HUGE, (high.nan_to_num(0.0, 0.0, 0.0) - mean) / std)
        mass = _log_normal_mass(lower, upper) - math.log(half) - inside * math.log(2.0)
        return torch.where(wide, density, mass).sum(-1).to(self.base.mean.dtype)

    def entropy(self) -> Tensor:
        """Estimate the entropy by one draw, −log π(a): a squashed Gaussian has no closed form."""
        return -self.rsample(torch.randn_like(self.base.mean))[1]

    def kl(self, other: TanhGaussian) -> Tensor:
        """Compute KL(self ‖ other), [...]: that of the Gaussians under the squash, which is one-to-one."""
        return self.base.kl(other.base)

    def params(self) -> Tensor:
        """Return means and log σ, [..., 2n]."""
        return self.base.params()

    def like(self, params: Tensor) -> TanhGaussian:
        """Make the distribution with these means and log σ."""
        return TanhGaussian(*params.chunk(2, -1))


def _log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """Compute log (Φ(high) − Φ(low)) for low < high, [...], in the tail that keeps its digits."""
    right = low + high > 0.0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    above, below = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return above + torch.log(-torch.expm1((below - above).clamp(max=-torch.finfo(low.dtype).eps)))


def _log_det_tanh(u: Tensor) -> Tensor:
    """Sum log (1 − tanh²u) = 2 (log 2 − u − softplus(−2u)), which keeps its digits where tanh saturates."""
    return (2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))).sum(-1)
