"""A family of environments, each with one fault, and some without one."""

# mypy: disable-error-code="no-untyped-def, assignment, override, arg-type, no-untyped-call"

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from pgrun.envs.tensor import Outcome, World

spaces = gym.spaces


class Good(gym.Env):
    """A walk on a line of 8 places, from a place drawn by lot; the faults below change one thing in it."""

    observation_space: Any = spaces.Box(-8.0, 8.0, (2,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = int(self.np_random.integers(-3, 4)), 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.x += 1 if self.right(action) else -1
        self.t += 1
        return self.seen(), self.reward(), self.ends(), False, {}

    def right(self, action: Any) -> bool:
        return bool(np.ravel(action)[0] > 0)

    def seen(self) -> Any:
        return np.array([self.x, self.t % 3], np.float32)

    def reward(self) -> Any:
        return float(self.x > 0)

    def ends(self) -> Any:
        return bool(abs(self.x) >= 6)


class Bounds(Good):
    observation_space = spaces.Box(-2.0, 2.0, (2,), np.float32)


class Type(Good):
    def seen(self):
        return np.array([self.x, 0.0], np.float64)


class Listed(Good):
    def seen(self):
        return [float(self.x), 0.0]


class Shape(Good):
    def seen(self):
        return np.zeros(3, np.float32)


class NaN(Good):
    def seen(self):
        return np.array([self.x, np.nan if self.t > 3 else 0.0], np.float32)


class Choice(Good):
    observation_space = spaces.Discrete(3)

    def seen(self):
        return abs(self.x)


class Key(Good):
    observation_space = spaces.Dict({"a": spaces.Box(-9, 9, (1,), np.float32), "b": spaces.Discrete(3)})

    def seen(self):
        return {"a": np.zeros(1, np.float32)}


class TupleSeen(Good):
    observation_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))

    def seen(self):
        return 0, 1


class TextAct(Good):
    action_space = spaces.Text(3)


class NoSpace(Good):
    action_space = 2


class RewardText(Good):
    def reward(self):
        return "much"


class RewardPair(Good):
    def reward(self):
        return np.array([1.0, 2.0])


class RewardArray(Good):
    def reward(self):
        return np.array([1.0])


class RewardNaN(Good):
    def reward(self):
        return float("nan") if self.t == 4 else 0.0


class Scale(Good):
    def reward(self):
        return 1e6 * self.x


class Tiny(Good):
    def reward(self):
        return 1e-7 * self.x


class Ends(Good):
    def ends(self):
        return "no"


class Whole(Good):
    def ends(self):
        return int(abs(self.x) >= 6)


class Reset(Good):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OldReset(Good):
    def reset(self):
        return super().reset()


class OldStep(Good):
    def step(self, action):
        return super().step(action)[:4]


class Info(Good):
    def step(self, action):
        return (*super().step(action)[:4], [1])


class Many(Type, RewardArray, Whole):
    """Several faults at once."""


class Unseeded(Good):
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = np.random.default_rng().uniform(-3, 3)
        return self.seen(), {}


class Globals(Good):
    def step(self, action):
        self.x += random.choice([-1, 0, 1])
        return super().step(action)


class Left(Good):
    """An environment that keeps memory from episode to episode."""

    steps = 0

    def step(self, action):
        self.steps += 1
        return super().step(action)

    def reward(self):
        return float(self.steps)


class Constructed(Good):
    def __init__(self):
        self.bonus = float(np.random.default_rng().normal())

    def reward(self):
        return self.bonus


class Shared(Good):
    where: list[int] = [0]  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        self.where[0] = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.where[0] += 1
        return super().step(action)

    def reward(self):
        return float(self.where[0])


class NoSuper(Good):
    def reset(self, *, seed=None, options=None):
        self.x, self.t = 0, 0
        return self.seen(), {}


class Alias(Good):
    def __init__(self):
        self.buffer = np.zeros(2, np.float32)

    def seen(self):
        self.buffer[0] = self.x
        return self.buffer


class Unbounded(Good):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Wide(Good):
    action_space = spaces.Box(-1e6, 1e6, (1,), np.float32)


class Endless(Good):
    def step(self, action):
        return np.zeros(2, np.float32), 0.0, False, False, {}


class Raises(Good):
    def step(self, action):
        if self.t == 3:
            raise ZeroDivisionError("by zero")
        return super().step(action)


class Writes(Good):
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def step(self, action):
        action *= 2.0
        return super().step(action)


class Held(Good):
    """Something that can't be saved."""

    def __init__(self):
        self.numbers = (i for i in range(3))


class Fails(Good):
    def __init__(self):
        raise RuntimeError("no licence")


class Masked(Good):
    """A mask in its info that is right."""

    width = 2

    def mask(self):
        return np.array([1, 1, 1][: self.width], np.int8)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"action_mask": self.mask()}

    def step(self, action):
        return (*super().step(action)[:4], {"action_mask": self.mask()})


class MaskWidth(Masked):
    width = 3


class MaskNone(Masked):
    def mask(self):
        return np.zeros(2, np.int8) if self.t == 2 else np.ones(2, np.int8)


class MaskGone(Masked):
    def step(self, action):
        return (*super().step(action)[:4], {})


class Nested(Good):
    observation_space = spaces.Dict({"a": spaces.Box(-9, 9, (1,), np.float32), "b": spaces.Discrete(9, start=-1)})

    def seen(self):
        return {"a": np.array([self.x], np.float32), "b": self.t % 3}


class Several(Good):
    action_space = spaces.MultiDiscrete([2, 3])


class Bits(Good):
    action_space = spaces.MultiBinary(3)


class TupleAct(Good):
    """Actions of two parts, one of them several numbers."""

    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,), np.float32)))

    def right(self, action):
        return action[0] > 0


class DictAct(Good):
    action_space = spaces.Dict({"move": spaces.Discrete(2), "push": spaces.Box(-1.0, 1.0, (2,), np.float32)})

    def right(self, action):
        return action["move"] > 0


class DeepAct(DictAct):
    action_space = spaces.Dict({"move": spaces.Discrete(2), "rest": TupleAct.action_space})


class WritesDeep(DeepAct):
    def right(self, action):
        action["rest"][1][:] = 0.0
        return super().right(action)


class UnboundedPart(DictAct):
    action_space = spaces.Dict({"move": spaces.Discrete(2), "push": spaces.Box(-np.inf, np.inf, (2,), np.float32)})


class Image(Good):
    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)

    def seen(self):
        return np.full((8, 8, 3), self.t % 256, np.uint8)


class MaskSeen(Good):
    observation_space = spaces.Dict({"x": spaces.Box(-9, 9, (1,), np.float32), "action_mask": spaces.MultiBinary(2)})

    def seen(self):
        return {"x": np.array([self.x], np.float32), "action_mask": np.array([self.x > -3, 1], np.int8)}

    def step(self, action):
        assert action == 1 or self.x > -3, "forbidden"
        return super().step(action)


def name(kind: type) -> str:
    """The id of an environment of this module."""
    return f"faulty:Faulty{kind.__name__}-v0"


FAMILY = [kind for kind in list(vars().values()) if isinstance(kind, type) and issubclass(kind, Good)]
for kind in FAMILY:
    gym.register(f"Faulty{kind.__name__}-v0", kind)


class Drift(World):
    """A world without a fault."""

    obs_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def initial(self, n: int, rng: torch.Generator) -> torch.Tensor:
        return torch.rand((n, 1), generator=rng)

    def observe(self, state: torch.Tensor) -> torch.Tensor:
        return state

    def step(self, state: torch.Tensor, action: torch.Tensor, rng: torch.Generator) -> Outcome:
        state = state + torch.randn(state.shape, generator=rng)
        return Outcome(state, self.pay(state), state.abs().squeeze(-1) > 3.0)

    def pay(self, state: torch.Tensor) -> torch.Tensor:
        return -state.abs().squeeze(-1)


class DriftWrites(Drift):
    def step(self, state, action, rng):
        state += 1.0
        return super().step(state, action, rng)


class DriftWide(Drift):
    def pay(self, state):
        return -state.abs()


class DriftGlobal(Drift):
    def step(self, state, action, rng):
        return super().step(state + torch.randn(state.shape), action, rng)


class DriftNaN(Drift):
    def pay(self, state):
        return state.squeeze(-1) * float("nan")


class DriftTuple(Drift):
    def step(self, state, action, rng):
        return tuple(super().step(state, action, rng))[:3]


class DriftState(Drift):
    def step(self, state, action, rng):
        return super().step(state, action, rng)._replace(state=state.squeeze(-1))


class DriftEnds(Drift):
    def step(self, state, action, rng):
        outcome = super().step(state, action, rng)
        return outcome._replace(terminated=outcome.terminated.float())


class DriftUnseen(Drift):
    def observe(self, state):
        raise NotImplementedError


class DriftBare(Drift):
    observe = World.observe


class DriftRow(Drift):
    def initial(self, n, rng):
        return torch.rand(1, generator=rng)


class DriftFlat(Drift):
    def observe(self, state):
        return state.squeeze(-1)


class DriftDict(Drift):
    obs_space = spaces.Dict({"x": Drift.obs_space})


BAD_WORLDS = {  # the class -> the line that a run of it ends with, without its name
    DriftWide: "the reward of NAME's step() is (3, 1): return (3,)",
    DriftTuple: "NAME's step() returned a tuple of 3: return Outcome(state, reward=…, terminated=…)",
    DriftState: "the state of NAME's step() is (3,): return (3, 1)",
    DriftEnds: "the terminated of NAME's step() is of type torch.float32: return torch.bool, as x > 2.0 is",
    DriftUnseen: "NAME failed in observe (NotImplementedError)",
    DriftBare: "NAME has no observe() of its own: write observe(state)",
    DriftRow: "the state of NAME's initial() is (1,) for 3 copies: return (3, …), a row for each copy",
    DriftFlat: "the observation of NAME's observe() is (3,): return (3, 1)",
    DriftDict: "NAME's observe() returned a Tensor of shape (3, 1) and type torch.float32: "
    "return a dict of 'x', as obs_space says",
}
