"""Algorithms with a fitted critic, built by hand in a precision of choice, and rollouts of random numbers for them."""

import functools
from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor
from torch import distributions as reference

from pgrun.algos.npg import NPG
from pgrun.algos.parts.critic_fit import Regression
from pgrun.algos.trpo import TRPO
from pgrun.algos.vpg import VPG
from pgrun.core.advantages import GAE
from pgrun.core.baselines import Value
from pgrun.data.types import Transition
from pgrun.nn import MLP
from pgrun.optim.rules import SGD

INPUTS, ACTIONS = 3, 4
DISCRETE, BOX = gym.spaces.Discrete(ACTIONS), gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


def network(**changes: Any) -> MLP:
    kwargs: dict[str, Any] = {"hidden": [8], "activation": "tanh", "init_gain": 1.0, "head_gain": 1.0, "shared": False}
    return MLP(**{**kwargs, "log_std_init": -0.5, "normalize_obs": False, **changes})


COMMON: dict[str, Any] = {
    "obs_space": gym.spaces.Box(-1.0, 1.0, (INPUTS,), np.float32),
    "action_space": DISCRETE,
    "optimizer": functools.partial(SGD, lr=0.1, schedule="constant", momentum=0.0),
    "device": "cpu",
    "compile": False,
    "advantage": GAE(lambda_=0.9),
    "baseline": Value(),
    "gamma": 0.9,
    "rollout": 16,
    "whole_episodes": False,
    "normalize": "batch",
    "normalize_reward": False,
    "entropy_coef": 0.0,
    "max_grad_norm": None,
}
NATURAL: dict[str, Any] = {
    "delta": 0.01,
    "delta_schedule": "constant",
    "cg_iterations": 10,
    "cg_tolerance": 1e-10,
    "damping": 1e-3,
    "fisher_rows": None,
}
OWN: dict[type, dict[str, Any]] = {
    VPG: {},
    NPG: {**NATURAL, "step": "kl", "step_length": 0.1},
    TRPO: {**NATURAL, "kl": "mean", "kl_direction": "old_new", "shrink": 0.8, "backtracks": 10},
}


def make(cls: type, *, dtype: torch.dtype = torch.float64, net: MLP | None = None, **changes: Any) -> Any:
    """An algorithm whose parameters have this dtype."""
    torch.set_default_dtype(dtype)
    try:
        kwargs = {**COMMON, **OWN[cls], "critic_fit": Regression(epochs=1, minibatch=10_000, lr=None), **changes}
        return cls(network=net or network(), **kwargs)
    finally:
        torch.set_default_dtype(torch.float32)


def rollout(
    space: gym.Space = DISCRETE,
    *,
    dtype: torch.dtype = torch.float64,
    t: int = 16,
    b: int = 4,
    all_valid: bool = False,
) -> Transition:
    """A rollout [T, B] of random numbers, some of it no steps at all."""
    discrete = isinstance(space, gym.spaces.Discrete)
    last = torch.rand(t, b) < 0.1
    return Transition(
        obs=torch.randn(t, b, INPUTS, dtype=dtype),
        action=torch.randint(ACTIONS, (t, b)) if discrete else torch.randn(t, b, 2, dtype=dtype),
        reward=torch.randn(t, b, dtype=dtype),
        discount=1.0 - (last & (torch.rand(t, b) < 0.5)).to(dtype),
        next_obs=torch.randn(t, b, INPUTS, dtype=dtype),
        last=last,
        valid=torch.ones(t, b, dtype=torch.bool) if all_valid else torch.rand(t, b) < 0.8,
        extras={},
    )


def theirs(pi: Any) -> reference.Distribution:
    """One of our distributions as torch's own."""
    if hasattr(pi, "logits"):
        return reference.Categorical(logits=pi.logits)
    normal = reference.Independent(reference.Normal(pi.mean, pi.log_std.exp().expand_as(pi.mean)), 1)
    return reference.TransformedDistribution(normal, [reference.TanhTransform()]) if hasattr(pi, "base") else normal


def flat(parameters: Iterable[Tensor]) -> Tensor:
    """Parameters as one vector, a copy."""
    return torch.cat([p.detach().flatten() for p in parameters]).clone()


def policy_gradient(algorithm: Any, batch: Transition) -> Tensor:
    """∇ mean log π(a_t|s_t) Ψ_t over the valid steps, by torch.distributions; [P]."""
    log_prob = theirs(algorithm.model.actor(batch.obs)).log_prob(batch.action)
    objective = (log_prob * batch.extras["psi"])[batch.valid].mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(objective, list(algorithm.model.actor.parameters()))])


def fisher(algorithm: Any, batch: Transition) -> Tensor:
    """Σ_a π(a|s) g gᵀ, the mean over the valid steps, of a policy over discrete actions; [P, P]."""
    parameters = list(algorithm.model.actor.parameters())
    obs = batch.obs[batch.valid]
    log_p = torch.log_softmax(algorithm.model.actor(obs).logits, -1)
    total: Any = 0.0
    for row in log_p:
        for x in row:
            g = torch.cat([p.flatten() for p in torch.autograd.grad(x, parameters, retain_graph=True)])
            total = total + x.detach().exp() * torch.outer(g, g) / len(obs)
    return total
