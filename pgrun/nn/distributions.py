"""Policies as distributions over actions [..., *A]; `params` [..., P] are what a head's last layer returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from pgrun.nn.gaussian import Gaussian, TanhGaussian

__all__ = ["Bernoulli", "Categorical", "Distribution", "Gaussian", "MultiCategorical", "Product", "TanhGaussian"]


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


class Product:
    """Independent distributions of an action's parts; actions [..., A] float32 hold one part after the other.

    Args:
        parts: one for each part.
        sizes: the numbers in each part, one for a choice.
    """

    def __init__(self, parts: Sequence[Distribution], sizes: Sequence[int]) -> None:
        self.parts, self.sizes = list(parts), list(sizes)

    def sample(self) -> Tensor:
        """Draw each part."""
        return self.joined([part.sample() for part in self.parts])

    def mode(self) -> Tensor:
        """Return each part's most probable action."""
        return self.joined([part.mode() for part in self.parts])

    def log_prob(self, action: Tensor) -> Tensor:
        """Compute log π(a|s), [...]."""
        pieces = action.split(self.sizes, -1)
        return torch.stack([p.log_prob(own(p, a)) for p, a in zip(self.parts, pieces, strict=True)]).sum(0)

    def entropy(self) -> Tensor:
        """Compute the entropy, [...]."""
        return torch.stack([part.entropy() for part in self.parts]).sum(0)

    def kl(self, other: Product) -> Tensor:
        """Compute KL(self ‖ other), [...]."""
        return torch.stack([p.kl(q) for p, q in zip(self.parts, other.parts, strict=True)]).sum(0)

    def params(self) -> Tensor:
        """Return the parts' parameters, one after the other."""
        return torch.cat([part.params() for part in self.parts], -1)

    def like(self, params: Tensor) -> Product:
        """Make the distribution with these parameters."""
        pieces = params.split([part.params().shape[-1] for part in self.parts], -1)
        return Product([part.like(piece) for part, piece in zip(self.parts, pieces, strict=True)], self.sizes)

    def joined(self, pieces: Sequence[Tensor]) -> Tensor:
        """Put actions of the parts into one vector."""
        one = [isinstance(part, Categorical) for part in self.parts]
        return torch.cat([(x.unsqueeze(-1) if c else x).float() for x, c in zip(pieces, one, strict=True)], -1)


def own(part: Distribution, action: Tensor) -> Tensor:
    """Return a part of a vector in the form that its distribution has it."""
    if isinstance(part, Categorical):
        return action.squeeze(-1).long()
    return action.long() if isinstance(part, MultiCategorical) else action
