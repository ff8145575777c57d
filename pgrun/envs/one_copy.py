"""One copy of an environment in the process that holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from pgrun.envs.interface import flag, number
from pgrun.envs.wrapping import OwnReward, innermost
from pgrun.errors import failing, told

READ: tuple[str, ...] = ()  # the keys of `info` that are handed on


Make = Callable[[], gym.Env]


class Copy:
    """One copy of an environment; of its `info` only what is read is handed on.

    Its observations have to be its caller's own, as `Checked` gives them: the next step must not write into them.

    Args:
        make: makes the environment.
        index: of the copy, for messages.
        same_step: whether the step that ends an episode begins the next one.
    """

    def __init__(self, make: Make, index: int, same_step: bool) -> None:
        self.env, self.index, self.same_step = make(), index, same_step
        self.own: OwnReward | None = innermost(self.env)
        self.at = failing(f"environment {index}", "reset")
        self.filmed, self.final_frame = False, None

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Return the spaces of observations and actions."""
        return self.env.observation_space, self.env.action_space

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; return the observation, and what is read of `info`."""
        self.at.where = "reset"
        if self.own is not None:
            self.own.paid = 0.0
        with self.at:
            obs, info = self.env.reset() if seed is None else self.env.reset(seed=seed)
            return obs, kept(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step, and begin the next episode if this one ended; return as `gymnasium.Env.step` does."""
        self.at.where = "step"
        with self.at:
            obs, reward, terminated, truncated, info = self.env.step(action)
            reward, terminated, truncated = number(reward), flag(terminated, "terminated"), flag(truncated, "truncated")
        self.at.begun = True
        said = {} if self.own is None else {"own_reward": self.own.take()}
        if self.same_step and (terminated or truncated):
            said["final_obs"] = obs
            self.final_frame = self.render() if self.filmed else None
            obs, fresh = self.reset(None)
            if self.own is not None:
                said["goes_on"] = not self.own.fresh
            return obs, reward, terminated, truncated, {**fresh, **said}
        return obs, reward, terminated, truncated, {**kept(info), **said}

    def anew(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Start an episode in place of a step."""
        obs, said = self.reset(None)
        return obs, 0.0, False, False, said

    def render(self) -> Any:
        """Return what the environment's `render` does."""
        self.at.where = "render"
        with self.at:
            return self.env.render()

    def frames(self) -> list[Any]:
        """Return the frames since the last step; see `pgrun.envs.frames`."""
        final, self.final_frame, self.filmed = self.final_frame, None, True
        return [self.render()] if final is None else [final, self.render()]

    def call(self, name: str, *args: Any) -> Any:
        """Call a method of the environment with these arguments, or return an attribute."""
        attribute = self.env.get_wrapper_attr(name)
        return attribute(*args) if callable(attribute) else attribute

    def close(self) -> str:
        """Close the environment, and return what went wrong, "" if nothing."""
        try:
            self.env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return told(error)
        return ""


def kept(info: Any) -> dict[str, Any]:
    """Return the entries of a copy's info that are read."""
    return {key: info[key] for key in READ if key in info} if READ and isinstance(info, dict) else {}
