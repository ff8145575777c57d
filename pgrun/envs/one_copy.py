"""One copy of an environment, as the process that holds it sees it."""

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
    """One copy as the process that holds it sees it, with what it says boiled down to what is read.

    Its observations have to be its caller's own, as `Checked` gives them: the next step must not write into them.
    """

    def __init__(self, make: Make, index: int, same_step: bool) -> None:
        self.env, self.index, self.same_step = make(), index, same_step
        self.own: OwnReward | None = innermost(self.env)
        self.at = failing(f"environment {index}", "reset")

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Of observations and actions."""
        return self.env.observation_space, self.env.action_space

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; -> the observation, and what is read of `info`."""
        self.at.where = "reset"
        if self.own is not None:
            self.own.paid = 0.0
        with self.at:
            obs, info = self.env.reset() if seed is None else self.env.reset(seed=seed)
            return obs, kept(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, and where it ends an episode the next one's start; -> as Gymnasium has it."""
        self.at.where = "step"
        with self.at:
            obs, reward, terminated, truncated, info = self.env.step(action)
            reward, terminated, truncated = number(reward), flag(terminated, "terminated"), flag(truncated, "truncated")
        self.at.begun = True
        said = {} if self.own is None else {"own_reward": self.own.take()}
        if self.same_step and (terminated or truncated):
            said["final_obs"] = obs
            obs, fresh = self.reset(None)
            if self.own is not None:
                said["goes_on"] = not self.own.fresh
            return obs, reward, terminated, truncated, {**fresh, **said}
        return obs, reward, terminated, truncated, {**kept(info), **said}

    def anew(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Start an episode in the place of a step."""
        obs, said = self.reset(None)
        return obs, 0.0, False, False, said

    def call(self, name: str, *args: Any) -> Any:
        """A method's result, or an attribute."""
        found = self.env.get_wrapper_attr(name)
        return found(*args) if callable(found) else found

    def close(self) -> str:
        """Free what it holds; -> what went wrong, "" where nothing did."""
        try:
            self.env.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return told(error)
        return ""


def kept(info: Any) -> dict[str, Any]:
    """Pick the keys of a copy's info that are read."""
    return {key: info[key] for key in READ if key in info} if READ and isinstance(info, dict) else {}
