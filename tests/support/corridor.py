"""An environment whose episodes last as long as its argument says, which tells numbers in info and draws itself."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Corridor(gym.Env):
    """Pays 1 a step for `length` steps; info has the cells that are left, and every second end is a success."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, length: int = 4, wide: bool = False, render_mode: str | None = None) -> None:
        self.length, self.render_mode = length, render_mode
        if wide:
            self.observation_space = gym.spaces.Box(-10.0, 10.0, (3,), np.float32)
        self.episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        self.episodes = 0 if seed is not None else self.episodes
        return self.look(), {"left": -100.0}  # no step's

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        over = self.t >= self.length
        info: dict[str, Any] = {"left": self.length - self.t, "word": "no number"}
        if over:
            self.episodes += 1
            info["is_success"] = self.episodes % 2 == 0
        return self.look(), 1.0, over, False, info

    def look(self) -> Any:
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)

    def render(self) -> Any:
        return np.full((33, 41, 3), 20 * self.t, np.uint8)


gym.register("HookCorridor-v0", "corridor:Corridor")
