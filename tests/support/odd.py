"""Environments that show what their space does not say, in every way that has been met."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import torch

spaces = gym.spaces


class Reuse(gym.Env):
    """Cut off after 5 steps; sees 0 at the start and 1 to 5 after, always in one and the same array."""

    action_space = spaces.Discrete(2)

    def __init__(self, form: str = "box") -> None:
        box = spaces.Box(-10, 10, (1,), np.float32)
        self.form, self.x = form, np.zeros(1, np.float32)
        self.observation_space = {
            "box": box,
            "dict": spaces.Dict({"x": box}),
            "nested": spaces.Dict({"in": spaces.Dict({"x": box})}),
            "image": spaces.Box(0, 255, (1, 1, 1), np.uint8),
        }[form]
        self.image, self.dict = np.zeros((1, 1, 1), np.uint8), {"x": self.x}
        self.nested = {"in": self.dict}

    def show(self) -> Any:
        self.image[:] = self.x
        return {"box": self.x, "dict": self.dict, "nested": self.nested, "image": self.image}[self.form]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x[:] = 0
        return self.show(), {}

    def step(self, action: Any) -> Any:
        self.x += 1
        return self.show(), 1.0, False, bool(self.x[0] >= 5), {}


BOX = spaces.Box(-10, 10, (3,), np.float32)
SHOWN: dict[str, tuple[gym.Space, Any]] = {
    "right": (BOX, np.ones(3, np.float32)),
    "in float64": (BOX, np.ones(3)),
    "whole numbers": (BOX, np.ones(3, np.int64)),
    "a list": (BOX, [1.0, 1.0, 1.0]),
    "a tensor": (BOX, torch.ones(3)),
    "a choice as int": (spaces.Discrete(4, start=3), 6),
    "a choice as array": (spaces.Discrete(4, start=3), np.array(3)),
    "a scalar": (BOX, 1.0),
    "one number": (BOX, np.ones(1, np.float32)),
    "a column": (BOX, np.ones((3, 1), np.float32)),
    "a row": (BOX, np.ones((1, 3), np.float32)),
    "too many": (BOX, np.ones(14, np.float32)),
    "nothing": (BOX, None),
    "words": (BOX, "abc"),
    "three words": (BOX, ["1", "2", "3"]),
    "a space": (BOX, BOX),
    "a ragged list": (BOX, [[1.0], [1.0, 2.0], 3.0]),
    "a choice below": (spaces.Discrete(16), -1),
    "a choice beyond": (spaces.Discrete(16), 16),
    "a choice before the start": (spaces.Discrete(4, start=3), 2),
    "a choice as float": (spaces.Discrete(16), 3.0),
    "a choice in words": (spaces.Discrete(16), "3"),
    "a choice in an array": (spaces.Discrete(16), np.array([3])),
    "choices beyond": (spaces.MultiDiscrete([3, 3]), np.array([2, 3])),
    "a bit of 2": (spaces.MultiBinary(2), np.array([0, 2])),
    "fractions as bytes": (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0])),
    "large numbers as bytes": (spaces.Box(0, 255, (2,), np.uint8), np.array([0, 256])),
    "whole numbers out of bounds": (spaces.Box(0, 5, (2,), np.int32), np.array([0, 6], np.int32)),
    "a missing key": (spaces.Dict({"x": BOX, "y": BOX}), {"x": np.ones(3, np.float32)}),
    "no dict": (spaces.Dict({"x": BOX}), np.ones(3, np.float32)),
    "a part of another shape": (spaces.Dict({"x": BOX}), {"x": np.ones(1, np.float32)}),
}
RIGHT = ("right", "in float64", "whole numbers", "a list", "a tensor", "a choice as int", "a choice as array")


class Shows(gym.Env):
    """Shows what it is told to, at once or from its second step on."""

    action_space = spaces.Discrete(2)

    def __init__(self, what: str, late: bool = False) -> None:
        self.observation_space, self.shown = SHOWN[what]
        self.late = late

    def show(self) -> Any:
        return self.shown if not self.late or self.t > 1 else self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.show(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.show(), 1.0, False, False, {}


class Global(gym.Env):
    """Shows and pays what NumPy's, Python's and torch's global generators draw."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 1, (3,), np.float64)

    def draw(self) -> np.ndarray:
        return np.array([np.random.rand(), random.random(), float(torch.rand(()))])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.draw(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        x = self.draw()
        return x, float(x.sum()), self.t >= 5, False, {}


class Odd(gym.Env):
    """The right action is the sign of x, seen on an offset or at a scale."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, offset: float = 0.0, scale: float = 1.0) -> None:
        self.offset, self.scale = offset, scale

    def look(self) -> np.ndarray:
        self.x = float(self.np_random.choice([-1.0, 1.0]))
        return np.array([self.offset + self.scale * self.x, self.offset])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        reward = float(action == (self.x > 0))
        self.t += 1
        return self.look(), reward, self.t >= 10, False, {}


for _name, _kind in {"Reuse": Reuse, "Shows": Shows, "Global": Global, "Odd": Odd}.items():
    gym.register(f"{_name}-v0", entry_point=_kind)  # type: ignore[arg-type]
