"""Environments so small that the best return is known by algebra: rungs of a ladder on which a recipe is tried.

Each asks for one more thing than the one before, so that the first that fails says what is broken.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np


class Probe(gym.Env):
    """A few steps with an observation [2] and a choice: action 1 or 0, or a number in [−1, 1], positive or not.

    Args:
        continuous: whether the action is a number.
        reward_scale: what all rewards are multiplied by.
        obs_scale: what all observations are multiplied by.
        swap: the two actions change places.
    """

    length: ClassVar[int] = 1
    truncates: ClassVar[bool] = False  # whether the episode is cut after `length` steps, or terminates there

    def __init__(
        self, continuous: bool = False, reward_scale: float = 1.0, obs_scale: float = 1.0, swap: bool = False
    ) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else gym.spaces.Discrete(2)
        self.continuous, self.reward_scale, self.obs_scale, self.swap = continuous, reward_scale, obs_scale, swap
        self.sign, self.t, self.chosen = 1.0, 0, 0.0

    def see(self) -> tuple[float, float]:
        """Return the observation before it is scaled."""
        return 1.0, 0.0

    def pay(self, choice: float) -> float:
        """Return the reward of a choice in [0, 1]."""
        return choice

    def ends(self, choice: float) -> bool:
        """Tell whether a choice ends the episode at once."""
        return False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode; see `gymnasium.Env.reset`."""
        super().reset(seed=seed)
        self.sign, self.t, self.chosen = float(self.np_random.choice([-1.0, 1.0])), 0, 0.0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Take one step; see `gymnasium.Env.step`."""
        choice = float(action[0] > 0.0) if self.continuous else float(action)
        choice = 1.0 - choice if self.swap else choice
        reward = self.pay(choice)
        self.t, self.chosen = self.t + 1, choice
        over = self.t >= self.length
        died = self.ends(choice) or (over and not self.truncates)
        return self.seen(), self.reward_scale * reward, died, over and not died, {}

    def seen(self) -> np.ndarray:
        """Return the observation."""
        return np.array(self.see(), dtype=np.float32) * np.float32(self.obs_scale)


class Choice(Probe):
    """One step, and action 1 pays 1."""


class Match(Probe):
    """One step; the action that goes with what is seen pays 1."""

    def see(self) -> tuple[float, float]:
        """Show the sign."""
        return self.sign, 0.0

    def pay(self, choice: float) -> float:
        """Pay for the action that goes with the sign."""
        return float((choice > 0.5) == (self.sign > 0.0))


class Later(Probe):
    """Two steps: action 1 in the first pays 1 in the second; action 0 pays 0.2 at once, which only the blind prefer."""

    length = 2

    def see(self) -> tuple[float, float]:
        """Show the step."""
        return float(self.t), 1.0

    def pay(self, choice: float) -> float:
        """Pay a little at once, or more for the action before."""
        return self.chosen if self.t == 1 else 0.2 * (1.0 - choice)


class Limit(Probe):
    """Action 1 pays 1 and goes on, up to a time limit of four steps; action 0 pays 6 and ends the episode.

    With γ ≥ 0.9 it is best to go on, as the limit is no end: that is paid 4 within an episode. Whoever takes the limit
    for death stops, and is paid 6.
    """

    length = 4
    truncates = True

    def pay(self, choice: float) -> float:
        """Pay a little for going on, and more for stopping."""
        return 1.0 if choice > 0.5 else 6.0

    def ends(self, choice: float) -> bool:
        """End where action 0 is taken."""
        return choice < 0.5


class Death(Probe):
    """Action 1 pays 1 and is the end; action 0 pays 0.5 in each of four steps. Best are 2.5: end in the last step."""

    length = 4

    def see(self) -> tuple[float, float]:
        """Show the step."""
        return float(self.t), 1.0

    def pay(self, choice: float) -> float:
        """Pay more for the end."""
        return 1.0 if choice > 0.5 else 0.5

    def ends(self, choice: float) -> bool:
        """End where action 1 is taken."""
        return choice > 0.5


class Rung(NamedTuple):
    """A probe as it is used: how well a policy does, what it asks, and where to look if it isn't learnt."""

    name: str
    env: type[Probe]
    asks: str
    least: float  # a return from here to `most` means that it was learnt; rewards unscaled
    most: float
    best: float  # the return of the best policy
    advice: str  # where to look if it fails
    keys: tuple[str, ...] = ()  # ... and settings of it, as far as an algorithm has them
    above: str = ""  # what a return above `most` says

    @property
    def id(self) -> str:
        """Name it as `env.id` does."""
        return f"pgrun.envs.probes:Pgrun{self.name.capitalize()}-v0"


STOPS = "it stops at once, for 6: going on, which is worth more where the limit is no end, is not valued so"
LADDER = (
    Rung("choice", Choice, "does the policy climb?", 0.8, 1.0, 1.0, "its noise", ("algo.entropy_coef",)),
    Rung("match", Match, "does it see the observation?", 0.8, 1.0, 1.0, "the network", ("network.normalize_obs",)),
    Rung(
        *("later", Later, "does a reward reach the step that earned it?", 0.8, 1.0, 1.0),
        *("how returns are estimated", ("algo.gamma", "algo.advantage.lambda_", "algo.advantage.n", "memory.n_step")),
    ),
    Rung(
        *("limit", Limit, "is a time limit no death?", 3.5, 4.4, 4.0),
        *("how truncation is bootstrapped", ("algo.gamma",), STOPS),
    ),
    Rung("death", Death, "is death no time limit?", 1.9, 2.6, 2.5, "how termination is told from truncation"),
)
for _rung in LADDER:
    if _rung.id.partition(":")[2] not in gym.registry:
        gym.register(_rung.id.partition(":")[2], entry_point=_rung.env)  # type: ignore[arg-type]
