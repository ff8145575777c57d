"""Policies defined by a Q function, π(a|s) ∝ exp(Q(s, a)/α), and ways to draw from them.

Shapes: M states, n draws for each, *A one action, D its coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.core import soft, svgd
from pgrun.core.change_of_variables import log_det_tanh, push_forward
from pgrun.data.types import Obs, map_obs
from pgrun.nn.critics import Reader, reads_vectors
from pgrun.nn.distributions import Categorical
from pgrun.nn.encoders import MLP, Network
from pgrun.nn.layers import Flatten, Layers, flat_size, linear

Q = Any  # a module: q(obs [M, *O], action [M, *A]) is [1, M]; of discrete actions q.all(obs) is [1, M, K]


class MeanQ(nn.Module):
    """The mean of several Q functions.

    Haarnoja et al. 2018, https://arxiv.org/abs/1803.06773: the policy of the mean is near to one that does what all of
    them reward.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute the mean Q(s, a), [1, M], of obs [M, *O] and action [M, *A]."""
        return torch.cat([q(obs, action) for q in self.members]).mean(0, keepdim=True)

    def all(self, obs: Obs) -> Tensor:
        """Compute the mean Q of every discrete action, [1, M, K]."""
        members: Any = self.members
        return torch.cat([q.all(obs) for q in members]).mean(0, keepdim=True)


class SoftPolicy(nn.Module):
    """A policy π(a|s) ∝ exp(Q(s, a)/α); the caller passes Q."""

    def __init__(self, alpha: float | Tensor) -> None:
        super().__init__()
        self.alpha = alpha

    def sample(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw actions, [n, M, *A]."""
        raise NotImplementedError

    def best(self, q: Q, obs: Obs) -> Tensor:
        """Return the action of the highest Q, or the best of some draws, [M, *A]."""
        raise NotImplementedError

    def value(self, q: Q, obs: Obs) -> Tensor:
        """Compute V(s) = α log ∫ exp(Q(s, a)/α) da, [M]."""
        raise NotImplementedError


class Softmax(SoftPolicy):
    """The policy of discrete actions, where all is exact. Forbidden actions have a Q of −1e9."""

    def sample(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw actions [n, M]."""
        logits = q.all(obs)[0] / self.alpha
        return Categorical(logits.expand(n, *logits.shape)).sample()

    def best(self, q: Q, obs: Obs) -> Tensor:
        """Return the action of the highest Q, [M]."""
        return q.all(obs)[0].argmax(-1)

    def value(self, q: Q, obs: Obs) -> Tensor:
        """Compute V(s) exactly, [M]."""
        return soft.exact_value(q.all(obs)[0], self.alpha)


class Squashed(SoftPolicy):
    """A policy of actions a = tanh u in (−1, 1)^D. A subclass draws u, which has no bounds.

    Args:
        size: D.
        alpha: α.
        value_samples: draws for a value, which are uniform.
        candidates: draws of which the best is taken.
    """

    def __init__(self, size: int, alpha: float | Tensor, value_samples: int, candidates: int) -> None:
        super().__init__(alpha)
        self.size, self.value_samples, self.candidates = size, value_samples, candidates

    def draw(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw u, [n, M, D]."""
        raise NotImplementedError

    def sample(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw actions [n, M, D]."""
        return self.draw(q, obs, n).tanh()

    def best(self, q: Q, obs: Obs) -> Tensor:
        """Return the best of some draws, [M, D]."""
        actions = self.sample(q, obs, self.candidates)
        index = each(q, obs, actions).argmax(0)  # [M]
        return actions[index, torch.arange(index.shape[0], device=index.device)]

    def value(self, q: Q, obs: Obs) -> Tensor:
        """Estimate V(s) from uniform actions, [M]."""
        actions = uniform(self.value_samples, obs, self.size)
        return soft.sampled_value(each(q, obs, actions), -self.size * math.log(2.0), self.alpha)

    def slope(self, q: Q, obs: Obs, u: Tensor) -> Tensor:
        """Compute ∇_u log p(u), p(u) ∝ exp(Q(s, tanh u)/α) |da/du|, [n, M, D]."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            (g,) = torch.autograd.grad(each(q, obs, u.tanh()).sum(), u)
        return g / self.alpha - 2.0 * u.detach().tanh()  # d/du log(1 − tanh²u) = −2 tanh u


class Amortised(Squashed):
    """A network u = f(ξ; s), ξ ~ N(0, I), that turns noise into draws; learning moves them along SVGD's direction."""

    def __init__(
        self,
        network: Network,
        obs_space: gym.Space,
        action_space: gym.Space,
        alpha: float | Tensor,
        value_samples: int,
        candidates: int,
    ) -> None:
        super().__init__(flat_size(action_space), alpha, value_samples, candidates)
        self.own: Reader | None = None  # where the network has its own encoder
        if not reads_vectors(network, obs_space):
            self.own = Reader(network, obs_space, self.size, self.size, network.head_gain)
            return
        assert isinstance(network, MLP)
        self.flatten = Flatten(obs_space, network.normalize_obs)
        sizes = [flat_size(obs_space) + self.size, *network.hidden]
        self.layers = Layers(
            sizes, network.activation, network.init_gain, rounds=network.rounds, norm=network.layer_norm
        )
        self.head = linear(self.layers.features, self.size, network.head_gain)

    def forward(self, obs: Obs, noise: Tensor) -> Tensor:
        """Compute u [M, n, D] of obs [M, *O] and ξ [M, n, D]; it is near ξ before learning."""
        state = self.flatten.run(obs) if self.own is None else self.own.encoder(obs)
        state = state.unsqueeze(1).expand(-1, noise.shape[1], -1)
        if self.own is not None:
            return noise + self.own.beside(state, noise)
        return noise + self.head(self.layers.run(torch.cat([state, noise], -1)))

    def draw(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw u from the network; see `Squashed.draw`."""
        return self(obs, normal(n, obs, self.size).movedim(0, 1)).movedim(1, 0)

    def value_by_own_draws(self, q: Q, obs: Obs) -> Tensor:
        """Estimate V(s) from actions a = tanh f(ξ; s), with the density that they have where f is one-to-one; [M].

        Nothing keeps a network from folding. An action that k values of ξ lead to counts k times, one that none leads
        to counts never: with many draws the estimate tends to α log ∫ k(a) exp(Q(s, a)/α) da.
        """
        noise = normal(self.value_samples, obs, self.size).movedim(0, 1)
        u, log_q = push_forward(lambda x: self(obs, x), noise)  # [M, n, D], [M, n]
        log_q = log_q - log_det_tanh(u)
        return soft.sampled_value(each(q, obs, u.tanh().movedim(1, 0)), log_q.T, self.alpha)

    def transport(self, q: Q, obs: Obs, n: int) -> tuple[Tensor, Tensor]:
        """Draw ξ [M, n, D], and compute the move Δf [M, n, D] of f(ξ; s) by SVGD."""
        noise = normal(n, obs, self.size).movedim(0, 1)
        with torch.no_grad():
            u = self(obs, noise).movedim(1, 0)
        return noise, svgd.direction(u, self.slope(q, obs, u), svgd.median_bandwidth(u)).movedim(0, 1)


class Langevin(Squashed):
    """Markov chains: uniform actions, then a number of steps of Langevin dynamics.

    Args:
        size: D.
        alpha: α.
        value_samples: draws for a value, which are uniform.
        candidates: draws of which the best is taken.
        steps: the number of steps.
        step_length: ε of each.
    """

    def __init__(
        self, size: int, alpha: float | Tensor, value_samples: int, candidates: int, *, steps: int, step_length: float
    ) -> None:
        super().__init__(size, alpha, value_samples, candidates)
        self.steps, self.step_length = steps, step_length

    def draw(self, q: Q, obs: Obs, n: int) -> Tensor:
        """Draw u at the ends of n chains; see `Squashed.draw`."""
        u = uniform(n, obs, self.size).clamp(-0.999, 0.999).atanh()
        for _ in range(self.steps):
            u = svgd.langevin(u, self.slope(q, obs, u), self.step_length, torch.randn_like(u))
        return u


def each(q: Q, obs: Obs, actions: Tensor) -> Tensor:
    """Compute Q(s_m, a_nm), [n, M], of obs [M, *O] and actions [n, M, D]."""
    n, m = actions.shape[:2]
    again = map_obs(lambda x: x.expand(n, *x.shape).flatten(0, 1), obs)
    return q(again, actions.flatten(0, 1))[0].unflatten(0, (n, m))


def normal(n: int, obs: Obs, size: int) -> Tensor:
    """Draw from N(0, I), [n, M, size], on the observations' device."""
    like = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return torch.randn(n, like.shape[0], size, device=like.device)


def uniform(n: int, obs: Obs, size: int) -> Tensor:
    """Draw uniformly from [−1, 1), [n, M, size], on the observations' device."""
    like = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return torch.rand(n, like.shape[0], size, device=like.device) * 2.0 - 1.0
