"""Losses and batches of every algorithm."""

import functools
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.data.types import Transition
from pgrun.nn import MLP
from pgrun.optim.rules import SGD

GAMMA = 0.8
Path = list[tuple[int, int, float, int | None]]  # (s, a, r, s′ or None at the end)


START = {0: 0.7, 1: 0.3}


# (state, action) -> {next state: probability}; what is missing to 1 ends the episode. No state comes twice.
MOVES = {
    (0, 0): {1: 0.5, 2: 0.5},
    (0, 1): {2: 0.9},
    (1, 0): {3: 0.6, 4: 0.4},
    (1, 1): {4: 1.0},
    (2, 0): {3: 0.2, 4: 0.3},
    (2, 1): {4: 0.8},
    (3, 0): {4: 0.5},
    (3, 1): {},
    (4, 0): {},
    (4, 1): {},
}


REWARD = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 2.0], [4.0, 0.0], [-3.0, 1.5]], dtype=torch.float64)


def network(**changes: Any) -> MLP:
    kwargs: dict[str, Any] = {"hidden": [], "activation": "tanh", "init_gain": 1.0, "head_gain": 1.0, "shared": False}
    return MLP(**{**kwargs, "log_std_init": 0.0, "normalize_obs": False, **changes})


STATES, ACTIONS = 5, 2
COMMON = {
    "obs_space": gym.spaces.Box(0.0, 1.0, (STATES,), np.float32),
    "action_space": gym.spaces.Discrete(ACTIONS),
    "optimizer": functools.partial(SGD, lr=0.0, schedule="constant", momentum=0.0),  # the gradient, and no step
    "device": "cpu",
    "compile": False,
    "gamma": GAMMA,
    "normalize_reward": False,
    "entropy_coef": 0.0,
    "value_coef": 0.5,
    "max_grad_norm": None,
}


PLAIN = {"update": "rollout", "normalize": "none", "reduce": "rows"}


def exact(logits: Tensor) -> tuple[Any, Tensor]:
    """J = Σ_s μ(s) V(s) and V, from (I − γ P_π) V = r_π."""
    pi = logits.softmax(-1)
    p = torch.zeros(STATES, ACTIONS, STATES, dtype=torch.float64)
    for (s, a), successors in MOVES.items():
        for successor, probability in successors.items():
            p[s, a, successor] = probability
    p_pi, r_pi = torch.einsum("sa,sat->st", pi, p), (pi * REWARD).sum(-1)
    v = torch.linalg.solve(torch.eye(STATES, dtype=torch.float64) - GAMMA * p_pi, r_pi)
    return sum(mass * v[s] for s, mass in START.items()), v


def trajectories(pi: Tensor) -> Iterator[tuple[float, Path]]:
    """Every (probability, [(s, a, r, s′ or None)])."""

    def go_on(state: int, probability: float, path: Path) -> Iterator[tuple[float, Path]]:
        for action in range(ACTIONS):
            here = probability * float(pi[state, action])
            successors = MOVES[state, action]
            reward = float(REWARD[state, action])
            ends = 1.0 - sum(successors.values())
            if ends > 1e-12:
                yield here * ends, [*path, (state, action, reward, None)]
            for successor, p in successors.items():
                yield from go_on(successor, here * p, [*path, (state, action, reward, successor)])

    for state, mass in START.items():
        yield from go_on(state, mass, [])


def batch_of(path: Path) -> Transition:
    """A trajectory as a rollout [T, 1]."""
    eye = torch.eye(STATES)
    s, a, r, successor = zip(*path, strict=True)
    ended = torch.tensor([[x is None] for x in successor])
    return Transition(
        obs=eye[list(s)].unsqueeze(1),
        action=torch.tensor(a).unsqueeze(1),
        reward=torch.tensor(r).unsqueeze(1),
        discount=1.0 - ended.float(),
        next_obs=torch.stack([torch.full((STATES,), 0.3) if x is None else eye[x] for x in successor]).unsqueeze(1),
        last=ended,
        valid=torch.ones_like(ended),
        extras={"I": GAMMA ** torch.arange(len(path)).unsqueeze(1)},
    )


def random_batch(t: int = 6, b: int = 4) -> Transition:
    """Rows of several episodes, some of them filler."""
    g = torch.Generator().manual_seed(2)
    eye = torch.eye(STATES)
    terminated = torch.rand(t, b, generator=g) < 0.2
    return Transition(
        obs=eye[torch.randint(STATES, (t, b), generator=g)],
        action=torch.randint(ACTIONS, (t, b), generator=g),
        reward=torch.randn(t, b, generator=g),
        discount=1.0 - terminated.float(),
        next_obs=eye[torch.randint(STATES, (t, b), generator=g)],
        last=terminated | (torch.rand(t, b, generator=g) < 0.2),
        valid=torch.rand(t, b, generator=g) < 0.8,
        extras={},
    )
