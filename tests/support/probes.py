"""Environments so small that the answer is known by algebra, and the way from a shipped recipe to a trained agent.

Every probe fails in one way of its own, so that the first that fails says what is broken.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from running import compose

from pgrun.loop.train import Clock, train
from pgrun.run.build import Parts, build


class Probe(gym.Env):
    """Base: `length` steps, then the end; a subclass says what is seen and what is paid.

    Args:
        continuous: whether the action is a number in [−1, 1], or 0 or 1.
    """

    length = 1
    size = 1
    truncates = False

    def __init__(self, continuous: bool = False) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (self.size,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else gym.spaces.Discrete(2)
        self.continuous = continuous
        self.sign, self.t = 1.0, 0

    def see(self) -> list[float]:
        return [0.0]

    def pay(self, action: Any) -> float:
        return 1.0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.sign, self.t = float(self.np_random.choice([-1.0, 1.0])), 0
        return np.array(self.see(), dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = self.pay(action)
        self.t += 1
        done = self.t == self.length
        obs = np.array(self.see(), dtype=np.float32)
        return obs, reward, done and not self.truncates, done and self.truncates, {}


class One(Probe):
    """One step that pays 1: V = 1. Is the value fitted at all?"""


class Sign(Probe):
    """One step that pays what is seen, ±1: V(s) = s. Does the value see the observation?"""

    def see(self) -> list[float]:
        return [self.sign]

    def pay(self, action: Any) -> float:
        return self.sign


class Two(Probe):
    """Two steps, and 1 at the end: V(s_0) = γ, V(s_1) = 1. Is it discounted, and over the right step?"""

    length = 2

    def see(self) -> list[float]:
        return [float(self.t)]

    def pay(self, action: Any) -> float:
        return float(self.t)


class Choice(Probe):
    """One step; action 1 (or a number near 0.5) pays. Does the policy climb?"""

    def pay(self, action: Any) -> float:
        return 1.0 - 4.0 * (float(action[0]) - 0.5) ** 2 if self.continuous else float(action)


class Match(Sign):
    """One step; what pays depends on what is seen. Does the policy climb, state by state?"""

    def pay(self, action: Any) -> float:
        if self.continuous:
            return 1.0 - 4.0 * (float(action[0]) - 0.5 * self.sign) ** 2
        return 1.0 if (action == 1) == (self.sign > 0) else -1.0


class Endless(Probe):
    """1 a step for ever, cut by a time limit after five: V = 1/(1 − γ). Is a time limit no death?"""

    length = 5
    truncates = True


class Steady(Endless):
    """The same with a limit of eight steps, and always 1 to see: V = 1/(1 − γ) from a bias or from a weight."""

    length = 8

    def see(self) -> list[float]:
        return [1.0]


class Mortal(Probe):
    """1 a step, and death after five: V(s_t) = (1 − γ^{5−t})/(1 − γ). Is death no time limit?"""

    length = 5
    size = 6

    def see(self) -> list[float]:
        return [float(i == self.t) for i in range(self.size)]


class Phases(Endless):
    """1 and 0 by turns for ever, cut after five: V = 1/(1 − γ²) and γ/(1 − γ²).

    The successor of the last step is in the second phase, the reset observation in the first: which was it valued at?
    """

    size = 2

    def see(self) -> list[float]:
        return [1.0, 0.0] if self.t % 2 == 0 else [0.0, 1.0]

    def pay(self, action: Any) -> float:
        return float(self.t % 2 == 0)


class Broken(Probe):
    """Three steps; the observation that the last one leads to is not finite, though none is after a time limit."""

    length = 3
    size = 2

    def see(self) -> list[float]:
        return [float("nan"), float("inf")] if self.t == self.length and not self.truncates else [self.sign, 0.0]


class Cut(Broken):
    """The same, but a time limit cuts it there: it goes on from what is seen."""

    truncates = True

    def see(self) -> list[float]:
        return [float("nan") if self.t == self.length else self.sign, 0.0]


class Dawn(Broken):
    """The first observation of the third episode is not finite."""

    episodes = 0

    def see(self) -> list[float]:
        self.episodes += self.t == 0
        return [float("nan") if self.t == 0 and self.episodes == 3 else self.sign, 0.0]


ALL = (One, Sign, Two, Choice, Match, Endless, Steady, Mortal, Phases, Broken, Cut, Dawn)
PROBES = {cls.__name__: cls for cls in ALL}
for _name, _cls in PROBES.items():
    if f"Probe{_name}-v0" not in gym.registry:
        gym.register(f"Probe{_name}-v0", entry_point=_cls)  # type: ignore[arg-type]


def run(*overrides: str) -> tuple[Parts, Clock]:
    """Compose, build and train, without hooks; -> the parts and the clock."""
    config = compose(*overrides)
    parts = build(config)
    clock = Clock(config.total_steps)
    train(parts.algorithm, parts.collector, parts.memory, clock, [], update=parts.update)
    parts.collector.env.close()
    return parts, clock


@dataclass
class Trained:
    """A trained algorithm: values and actions of observations."""

    algorithm: Any

    @torch.no_grad()
    def value(self, *observations: list[float]) -> list[float]:
        """V(s), or Q(s, μ(s)) where the algorithm learns Q functions (their mean)."""
        obs = torch.tensor(observations)
        if hasattr(self.algorithm, "model"):
            return self.algorithm.model.critic(obs).tolist()
        return self.algorithm.q(obs, self.algorithm.act(obs, (), False)[0]).mean(0).tolist()

    @torch.no_grad()
    def action(self, *observations: list[float]) -> list[float]:
        """The deterministic policy's actions."""
        return self.algorithm.act(torch.tensor(observations), (), False)[0].flatten().tolist()
