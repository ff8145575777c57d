"""Heads of policies: a layer from features to a distribution over actions, and the settings of Gaussian ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from pgrun.data.hybrid import Hybrid
from pgrun.data.types import Obs, action_mask
from pgrun.errors import UserError
from pgrun.nn.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    Product,
    TanhGaussian,
)
from pgrun.nn.encoders import Network
from pgrun.nn.gaussian import bounded, unbounded
from pgrun.nn.layers import linear
from pgrun.nn.sde import StateNoise

spaces = gym.spaces


class Head(nn.Module):
    """A layer from features to a distribution over actions; obs["action_mask"] masks illegal discrete actions."""

    def __init__(self, features: int, space: gym.Space, network: Network) -> None:
        super().__init__()
        self.log_std: nn.Parameter | None = None  # where all states have one, before its bounds where it has some
        self.noise: StateNoise | None = None
        self.matrices: list[int] = []  # the numbers of the noise's matrix
        self.gaussian = isinstance(space, spaces.Box)
        self.make: Callable[[Tensor], Distribution]
        if isinstance(space, spaces.Discrete):
            size, self.make = int(space.n), Categorical
        elif isinstance(space, spaces.MultiDiscrete):
            sizes = tuple(int(n) for n in space.nvec.flatten())
            size, self.make = sum(sizes), lambda logits: MultiCategorical(logits, sizes)
        elif isinstance(space, spaces.MultiBinary):
            size, self.make = math.prod(space.shape), Bernoulli
        elif isinstance(space, spaces.Box):
            size, self.make = math.prod(space.shape), self._gaussian
        else:
            raise UserError(f"no policy for the action space {space}: use Discrete, MultiDiscrete, MultiBinary or Box")
        if not self.gaussian:
            self.layer = linear(features, size, network.head_gain)
            return
        self.squash, self.bounds = network.squash, network.bounds_log_std
        if self.squash:
            check_bounded(space, "network.squash=false")
            # a run's policy that is not squashed lacks it, so that no other one starts from that policy
            self.register_buffer("squashed", torch.ones(()))
        start = unbounded(network.log_std_init) if self.bounds else float(network.log_std_init)
        if network.std == "sde":
            self.layer, self.noise = linear(features, size, network.head_gain), StateNoise(features, size, network)
            self.matrices = [math.prod(self.noise.shape)]
        elif network.std == "global":
            self.log_std = nn.Parameter(torch.full((size,), start))
            self.layer = linear(features, size, network.head_gain)
        else:
            self.layer = linear(features, 2 * size, network.head_gain)  # means, and log σ before its bounds
            nn.init.constant_(self.layer.bias.detach()[size:], start)

    def _gaussian(self, out: Tensor) -> Gaussian:
        mean, log_std = out.chunk(2, -1) if self.log_std is None else (out, self.log_std)
        return (TanhGaussian if self.squash else Gaussian)(mean, bounded(log_std) if self.bounds else log_std)

    def forward(self, features: Tensor, obs: Obs, matrices: Tensor | None = None) -> Distribution:
        """Return the distribution of features [..., F]; `matrices` make its sample, see `StateNoise`."""
        out = self.layer(features)
        if self.noise is not None:
            standard = None if matrices is None else self.noise.standard(features, matrices)
            return (TanhGaussian if self.squash else Gaussian)(out, self.noise(features), standard)
        if (mask := action_mask(obs)) is not None:
            out = out.masked_fill(mask == 0, -1e9)
        return self.make(out)


class HybridHead(nn.Module):
    """Layers from features to independent distributions over the parts of an action."""

    def __init__(self, features: int, space: Hybrid, network: Network) -> None:
        super().__init__()
        self.sizes = space.sizes
        heads = [Head(features, part, network) for part in space.parts]
        self.heads, self.matrices = nn.ModuleList(heads), [sum(head.matrices) for head in heads]

    def forward(self, features: Tensor, obs: Obs, matrices: Tensor | None = None) -> Distribution:
        """Return the distribution of features [..., F]; see `Head.forward`."""
        each = [None] * len(self.heads) if matrices is None else matrices.split(self.matrices, -1)
        return Product([head(features, obs, own) for head, own in zip(self.heads, each, strict=True)], self.sizes)


def make_head(features: int, space: gym.Space, network: Network) -> Head | HybridHead:
    """Make the head of an action space."""
    return (HybridHead if isinstance(space, Hybrid) else Head)(features, space, network)  # type: ignore[arg-type]


def check_bounded(space: gym.Space, instead: str = "algo=td3 or ddpg") -> None:
    """Raise UserError where an action coordinate has no bounds; `instead` is what to use there."""
    if isinstance(space, spaces.Box) and not bool(np.isfinite(space.high).all()):
        raise UserError(f"this policy keeps actions within bounds, and this environment's have none; use {instead}")


def check_gaussian(network: Network, learner: nn.Module) -> None:
    """Raise UserError where a network's settings of Gaussian policies are changed, and the learner has no such policy.

    Args:
        network: the settings.
        learner: what has all the networks that were made of them.
    """
    changed = {"std": (network.std, "global"), "squash": ("true", "false")}
    explores = any(isinstance(module, StateNoise) for module in learner.modules())
    sigma = network.std != "global" and not explores
    asked = [key for key, value in (("std", sigma), ("squash", network.squash)) if value]
    heads = [module for module in learner.modules() if isinstance(module, Head)]
    if not asked or any(head.gaussian for head in heads):
        return
    key, name = asked[0], type(learner).__name__
    value, instead = changed[key]
    says = f"network.{key}={value} is of Gaussian policies, for continuous actions: "
    if heads:
        raise UserError(f"{says}use network.{key}={instead} here, where actions are choices")
    raise UserError(
        f"{says}{name}'s policy takes no such setting, so use network.{key}={instead} (sac, sac_v1, redq and "
        "mdpo_offpolicy have a squashed Gaussian whose σ depends on the state anyway, and take network.std=sde, too; "
        "deterministic ones have no σ)"
    )
