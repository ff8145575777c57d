"""Small environments of every kind of space, each of which says what it was told."""

from typing import Any

import gymnasium as gym
import numpy as np

spaces = gym.spaces


class World(gym.Env):
    """A counter under any observation and action space; it checks that every action is one of its space's.

    The reward is 1 + 1000 · (episode number) + (step number), so that a row that is counted twice or not at all shows.
    Every third episode ends by termination after 5 steps; the others run until they are truncated.
    """

    def __init__(self, observations: gym.Space, actions: gym.Space) -> None:
        self.observation_space, self.action_space = observations, actions
        self.t, self.episode = 0, -1

    def observe(self) -> Any:
        return sample(self.observation_space, self.np_random)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        self.episode += 1
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.t += 1
        terminated = self.episode % 3 == 2 and self.t == 5
        return self.observe(), 1.0 + 1000 * self.episode + self.t, terminated, False, {}


def sample(space: gym.Space, rng: np.random.Generator) -> Any:
    """A draw from a space with an environment's own generator."""
    if isinstance(space, spaces.Dict):
        drawn = {key: sample(part, rng) for key, part in space.items()}
        if "action_mask" in drawn:
            drawn["action_mask"][0] = 0  # the first action is never legal
            drawn["action_mask"][1] = 1
        return drawn
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start + rng.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return (space.start + rng.integers(space.nvec)).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, space.shape).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    if space.dtype == np.uint8:
        return rng.integers(0, 256, space.shape).astype(np.uint8)
    return rng.normal(size=space.shape).astype(space.dtype)


class Masked(World):
    """Refuses the actions that its mask forbids."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert action != self.action_space.start, "the mask forbids the first action"  # type: ignore[attr-defined]
        return super().step(action)


class SelfKeeping(gym.Env):
    """Holds what can't be read from outside, and offers its state itself."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.hidden = iter(range(10**9))
        self.n = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return np.array([self.n], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.n = next(self.hidden)
        return np.array([self.n], np.float32), float(self.n), self.n % 7 == 6, False, {}

    def snapshot(self) -> dict:
        return {"n": self.n}

    def restore(self, state: dict) -> None:
        self.n = state["n"]
        self.hidden = iter(range(self.n + 1, 10**9))


class Opaque(SelfKeeping):
    """The same without the offer."""

    snapshot = None  # type: ignore[assignment]
    restore = None  # type: ignore[assignment]


def f32(low: Any, high: Any, shape: tuple[int, ...] = (3,)) -> spaces.Box:
    return spaces.Box(low, high, shape, np.float32)


VECTOR = f32(-np.inf, np.inf)

OBSERVATIONS: dict[str, gym.Space] = {
    "Box": VECTOR,
    "Box64": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "Matrix": f32(-np.inf, np.inf, (2, 3)),
    "Scalar": f32(-np.inf, np.inf, ()),
    "Discrete": spaces.Discrete(4),
    "DiscreteFrom3": spaces.Discrete(4, start=3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 5]),
    "MultiBinary": spaces.MultiBinary(4),
    "Image": spaces.Box(0, 255, (40, 40, 3), np.uint8),
    "Dict": spaces.Dict({"position": VECTOR, "room": spaces.Discrete(3, start=1)}),
    "Nested": spaces.Dict(
        {"body": spaces.Dict({"arm": VECTOR, "leg": spaces.MultiBinary(2)}), "room": spaces.Discrete(3)}
    ),
}

ACTIONS: dict[str, gym.Space] = {
    "Discrete": spaces.Discrete(3),
    "DiscreteFrom5": spaces.Discrete(3, start=5),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiDiscreteFrom4": spaces.MultiDiscrete([2, 3], start=[4, -1]),
    "MultiDiscreteGrid": spaces.MultiDiscrete([[2, 3], [4, 5]]),  # type: ignore[list-item]
    "MultiBinary": spaces.MultiBinary(3),
    "MultiBinaryGrid": spaces.MultiBinary((2, 3)),
    "Bounded": spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32)),
    "Bounded64": spaces.Box(-0.1, 0.3, (2,), np.float64),
    "BoundedGrid": f32(-1.0, 3.0, (2, 2)),
    "BoundedScalar": f32(-1.0, 3.0, ()),
    "HalfBounded": spaces.Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 1.0], np.float32)),
    "Unbounded": f32(-np.inf, np.inf, (2,)),
    "Whole": spaces.Box(-3, 3, (2,), np.int32),
}

for _name, _space in OBSERVATIONS.items():
    gym.register(
        f"Obs{_name}-v0",
        entry_point=World,  # type: ignore[arg-type]
        max_episode_steps=7,
        kwargs={"observations": _space, "actions": spaces.Discrete(2)},
    )
    gym.register(
        f"ObsBox{_name}-v0",
        entry_point=World,  # type: ignore[arg-type]
        max_episode_steps=7,
        kwargs={"observations": _space, "actions": f32(-2, 2, (1,))},
    )
for _name, _space in ACTIONS.items():
    gym.register(
        f"Act{_name}-v0",
        entry_point=World,  # type: ignore[arg-type]
        max_episode_steps=7,
        kwargs={"observations": VECTOR, "actions": _space},
    )
gym.register(
    "MaskedWorld-v0",
    entry_point=Masked,  # type: ignore[arg-type]
    max_episode_steps=7,
    kwargs={
        "observations": spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(3)}),
        "actions": spaces.Discrete(3, start=2),
    },
)
gym.register(
    "TupleWorld-v0",
    entry_point=World,  # type: ignore[arg-type]
    kwargs={"observations": spaces.Tuple((VECTOR,)), "actions": spaces.Discrete(2)},
)
gym.register("TextWorld-v0", entry_point=World, kwargs={"observations": VECTOR, "actions": spaces.Text(3)})  # type: ignore[arg-type]
gym.register("SelfKeeping-v0", entry_point=SelfKeeping, max_episode_steps=11)  # type: ignore[arg-type]
gym.register("Opaque-v0", entry_point=Opaque, max_episode_steps=11)  # type: ignore[arg-type]
