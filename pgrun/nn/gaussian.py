"""Gaussian policies over actions [..., n], and Gaussians squashed by tanh."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pgrun.core.change_of_variables import log_det_tanh

LOG_2PI = math.log(2.0 * math.pi)
HUGE = 1e100  # standard deviations, for ±∞ where a gradient goes through
# where `bounded` keeps log σ, for actions that run over [−1, 1]: below the first, σ is less than a hundredth, and
# log-ratios of float32, which grow like 1/σ², lose their digits; above the second nearly every action is at a bound
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0


def bounded(x: Tensor) -> Tensor:
    """Map any numbers to log σ between LOG_STD_MIN and LOG_STD_MAX, smoothly: no state's σ is without gradient."""
    middle, half = 0.5 * (LOG_STD_MAX + LOG_STD_MIN), 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
    return middle + half * ((x - middle) / half).tanh()


def unbounded(log_std: float) -> float:
    """Invert `bounded`."""
    middle, half = 0.5 * (LOG_STD_MAX + LOG_STD_MIN), 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
    return middle + half * math.atanh((log_std - middle) / half)


class Gaussian:
    """Independent normals; mean and log_std [..., n].

    Args:
        mean: μ.
        log_std: log σ.
        noise: standard normal numbers [..., n] that make the sample, where exploration has drawn them before.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, noise: Tensor | None = None) -> None:
        self.mean, self.log_std, self.noise = mean, log_std, noise

    def sample(self) -> Tensor:
        """Draw from each normal."""
        return self.drawn(torch.randn_like(self.mean) if self.noise is None else self.noise)

    def mode(self) -> Tensor:
        """Return the mean."""
        return self.mean

    def drawn(self, noise: Tensor) -> Tensor:
        """Return the actions μ + σε that standard normal noise ε makes; further dimensions in front are free."""
        return self.mean + self.log_std.exp() * noise

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


class TanhGaussian(Gaussian):
    """tanh of a Gaussian, in (−1, 1)^n: Haarnoja et al. 2018, https://arxiv.org/abs/1801.01290, appendix C, eq. 21.

    tanh is one-to-one, so any KL divergence and the Fisher matrix are those of the Gaussians under it.
    """

    def __init__(self, mean: Tensor, log_std: Tensor, noise: Tensor | None = None) -> None:
        super().__init__(mean, log_std, noise)
        self.base = Gaussian(mean, log_std, noise)

    def sample(self) -> Tensor:
        """Draw from the Gaussian, and squash."""
        return self.base.sample().tanh()

    def mode(self) -> Tensor:
        """Return tanh of the mean."""
        return self.base.mean.tanh()

    def drawn(self, noise: Tensor) -> Tensor:
        """Return the actions tanh(μ + σε); see `Gaussian.drawn`."""
        return self.base.drawn(noise).tanh()

    def rsample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a = tanh(μ + σε) and log π(a), differentiable in μ and σ; noise ε ~ N(0, I) [..., n]."""
        base = self.base
        u = base.mean + base.log_std.exp() * noise
        log_prob = -(0.5 * (noise.square() + LOG_2PI) + base.log_std).sum(-1)
        return u.tanh(), log_prob - log_det_tanh(u)

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...], of a rounded action: a stands for all u whose tanh is rounded to it.

        An action beyond ±1, which environments clip, counts as ±1.
        """
        # the density at a where the Gaussian is wider than that range of u; where it is narrower, and at ±1 (for all u
        # beyond 9 or so), the mean density over the actions that a stands for: the probability of a, by its width
        a, mean, std = action.double().clamp(-1.0, 1.0), self.base.mean.double(), self.base.log_std.double().exp()
        half = 0.25 * torch.finfo(action.dtype).eps  # of the distance from one number to the next below 1
        low, high = (torch.atanh((a + x).clamp(-1.0, 1.0)) for x in (-half, half))  # ±∞ at ±1
        inside = a.abs() < 1.0
        u = torch.atanh(torch.where(inside, a, 0.0))
        density = -0.5 * (((u - mean) / std).square() + LOG_2PI) - std.log() - log_det_tanh(u.unsqueeze(-1))
        wide = inside & (high - low < 2.0 * std)
        low, high = torch.where(wide, -1.0, low), torch.where(wide, 1.0, high)  # any interval: no gradient is NaN
        lower = torch.where(low.isinf(), -HUGE, (low.nan_to_num(0.0, 0.0, 0.0) - mean) / std)
        upper = torch.where(high.isinf(), HUGE, (high.nan_to_num(0.0, 0.0, 0.0) - mean) / std)
        mass = _log_normal_mass(lower, upper) - math.log(half) - inside * math.log(2.0)
        return torch.where(wide, density, mass).sum(-1).to(self.base.mean.dtype)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...], by quadrature: it has no closed form, and losses draw no random numbers.

        H[tanh u] = H[u] + E[log (1 − tanh²u)], by the trapezium rule on 41 points over ±5σ. It is right to 1e-5 nats a
        coordinate up to σ = e, to 2e-3 at σ = e².
        """
        ends = torch.arange(-20, 21, dtype=self.mean.dtype, device=self.mean.device) / 4.0  # in σ
        weight = (-0.5 * ends.square()).softmax(0)
        u = self.mean.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * ends  # [..., n, 41]
        return self.base.entropy() + (weight * log_det_tanh(u.unsqueeze(-1))).sum((-2, -1))

    def like(self, params: Tensor) -> TanhGaussian:
        """Make the distribution with these means and log σ."""
        return TanhGaussian(*params.chunk(2, -1))


def _log_normal_mass(low: Tensor, high: Tensor) -> Tensor:
    """Compute log (Φ(high) − Φ(low)) for low < high, [...], in the tail that keeps its digits."""
    right = low + high > 0.0
    low, high = torch.where(right, -high, low), torch.where(right, -low, high)
    above, below = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return above + torch.log(-torch.expm1((below - above).clamp(max=-torch.finfo(low.dtype).eps)))
