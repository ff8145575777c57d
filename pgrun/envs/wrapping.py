"""A user's wrappers round one copy of an environment, and the environment's own rewards beneath them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym

from pgrun.envs.arguments import Arguments
from pgrun.envs.interface import number
from pgrun.errors import UserError, told

# these keep statistics that evaluation and a resumed run would begin anew
BUILT_IN = {
    gym.wrappers.NormalizeObservation: "network.normalize_obs=true",
    gym.wrappers.NormalizeReward: "algo.normalize_reward=true",
}


class OwnReward(gym.Wrapper):
    """Sums the environment's own rewards, however many steps the wrappers above make of one."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.paid, self.fresh = 0.0, True

    def reset(self, **kwargs: Any) -> Any:
        """Start an episode, and note that it began; see `gymnasium.Env.reset`."""
        self.fresh = True
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        """Take one step and add its reward; see `gymnasium.Env.step`."""
        answer = self.env.step(action)
        self.paid += number(answer[1])
        return answer

    def take(self) -> float:
        """Return the rewards since the last call, and watch from here on whether the environment is reset."""
        paid, self.paid, self.fresh = self.paid, 0.0, False
        return paid


def innermost(env: gym.Env) -> OwnReward | None:
    """Return the `OwnReward` layer of a copy; None if there is none."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, OwnReward):
            return env
        env = env.env
    return None


def wrapped(env: gym.Env, wrappers: Sequence[Callable[[gym.Env], gym.Env]]) -> gym.Env:
    """Put an environment into a user's wrappers, innermost first.

    Raises:
        UserError: a wrapper can't be put round it, or pgrun has something better for it.
    """
    if not wrappers:
        return env
    env = bare = OwnReward(env)
    for i, wrapper in enumerate(wrappers):
        target, given = getattr(wrapper, "func", wrapper), getattr(wrapper, "keywords", {})
        name = getattr(target, "__name__", type(wrapper).__name__)
        if not callable(wrapper):
            raise UserError(
                f"env.wrappers: {wrapper!r} is no wrapper: write {{_target_: module.Class, _partial_: true}}"
            )
        label, way = f"env.wrappers[{i}]: {name}", "{}: … beside its _target_"
        try:
            below = (*getattr(wrapper, "args", ()), env)
            arguments = Arguments(target, given, label=label, way=way, first=len(below))
            env = arguments.call(functools.partial(target, *below), "can't be put round the environment")
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{label} can't be put round the environment ({told(error)})") from error
        if not isinstance(env, gym.Env):
            raise UserError(f"{label} made a {type(env).__name__} of the environment, not an environment")
        if isinstance(env, gym.Wrapper) and getattr(env, "env", None) is None:
            raise UserError(f"{label} has no environment inside: begin its __init__ with super().__init__(env)")
    layer: Any = env
    while isinstance(layer, gym.Wrapper) and layer is not bare:
        for kind, key in BUILT_IN.items():
            if isinstance(layer, kind):
                raise UserError(
                    f"env.wrappers: {kind.__name__} would begin its statistics anew in evaluation and on resume: use "
                    f"{key}, where they are kept with the policy"
                )
        layer = layer.env
    return env
