"""Small environments whose observations and actions are of kinds that the shipped ones lack; for exports."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

spaces = gym.spaces


class Walks(gym.Env):
    """Ten steps of random observations an episode, whatever the actions."""

    def __init__(self) -> None:
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        return self.seen(), float(self.np_random.random()), self.t == 10, False, {}

    def seen(self) -> Any:
        raise NotImplementedError


class Picture(Walks):
    """Sees images, and turns a wheel whose bounds are not ±1."""

    observation_space = spaces.Box(0, 255, (12, 12, 3), np.uint8)
    action_space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([6.0, 0.5], np.float32))

    def seen(self) -> Any:
        return self.np_random.integers(0, 256, (12, 12, 3), dtype=np.uint8)


class Masked(Walks):
    """Has a mask of actions in what it shows."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-1.0, 1.0, (3,), np.float32), "action_mask": spaces.MultiBinary(5)}
    )
    action_space = spaces.Discrete(5, start=-2)

    def seen(self) -> Any:
        mask = (self.np_random.random(5) < 0.5).astype(np.int8)
        mask[int(self.np_random.integers(5))] = 1
        return {"place": self.np_random.uniform(-1, 1, 3).astype(np.float32), "action_mask": mask}


class Nested(Walks):
    """Sees a Dict in a Dict, float64 among it, and chooses several things at once."""

    observation_space = spaces.Dict(
        {
            "body": spaces.Dict(
                {"speed": spaces.Box(-9.0, 9.0, (2,), np.float64), "gear": spaces.Discrete(4, start=1)}
            ),
            "lamps": spaces.MultiBinary(3),
        }
    )
    action_space = spaces.MultiDiscrete([3, 4], start=[1, -1])

    def seen(self) -> Any:
        speed = self.np_random.uniform(-9, 9, 2)
        gear = np.int64(self.np_random.integers(1, 5))
        return {"body": {"speed": speed, "gear": gear}, "lamps": self.np_random.integers(0, 2, 3, dtype=np.int8)}


class Switches(Nested):
    """The same, with switches to set."""

    action_space = spaces.MultiBinary(4)  # type: ignore[assignment]


for kind in (Picture, Masked, Nested, Switches):
    gym.register(f"Exported{kind.__name__}-v0", kind)  # type: ignore[arg-type]
