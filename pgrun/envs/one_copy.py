"""One copy of an environment in the process that holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from pgrun.envs.infos import Over, numbers_in
from pgrun.envs.interface import flag, number
from pgrun.envs.wrapping import OwnReward, innermost
from pgrun.errors import UserError, failing, told

Make = Callable[..., gym.Env]  # makes an environment, perhaps with arguments that take the place of others
NOTHING: dict[str, Over] = {}  # never written to


class Copy:
    """One copy of an environment; of its `info` only the numbers that are asked for are handed on.

    Its observations have to be its caller's own, as `Checked` gives them: the next step must not write into them.

    Args:
        make: makes the environment.
        index: of the copy, for messages.
        same_step: whether the step that ends an episode begins the next one.
        reads: the keys of `info` that are asked for.
    """

    def __init__(self, make: Make, index: int, same_step: bool, reads: Mapping[str, Over] = NOTHING) -> None:
        self.env, self.index, self.same_step, self.make, self.reads = make(), index, same_step, make, reads
        self.has: dict[str, Any] = {}  # the arguments that the environment was made with in place of others
        self.wanted: tuple[dict[str, Any], int] = {}, 0  # those of its next episode, and the seed of the first of these
        self.own: OwnReward | None = innermost(self.env)
        self.at = failing(f"environment {index}", "reset")
        self.filmed, self.final_frame = False, None

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Return the spaces of observations and actions."""
        return self.env.observation_space, self.env.action_space

    def reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, made anew if its arguments are to change; return the observation and a dict."""
        self.at.where = "reset"
        if self.wanted[0] != self.has:
            with self.at:
                self.renew()
            seed = self.wanted[1] if seed is None else seed
        if self.own is not None:
            self.own.paid = 0.0
        with self.at:
            obs, _ = self.env.reset() if seed is None else self.env.reset(seed=seed)
            return obs, {}

    def renew(self) -> None:
        """Make the environment anew with the arguments that are wanted.

        Raises:
            UserError: it has other spaces than before.
        """
        spaces, self.has = self.spaces(), self.wanted[0]
        self.env.close()
        self.env = self.make(self.has)
        self.own = innermost(self.env)
        if self.spaces() != spaces:
            given = ", ".join(f"{key}={value}" for key, value in self.has.items())
            raise UserError(f"with {given} it has other spaces than before: {spaces} became {self.spaces()}")

    def change(self, arguments: dict[str, Any], seed: int) -> None:
        """Have the next episode begin with other arguments; `seed` is that episode's, if it is given none."""
        self.wanted = arguments, seed

    def changes(self) -> dict[str, Any]:
        """Return the arguments that were changed, as plain values."""
        return {"has": self.has, "wanted": list(self.wanted)}

    def put_changes(self, state: dict[str, Any]) -> None:
        """Restore changed arguments; the environment's state is restored after this."""
        if state["has"] != self.has:
            self.wanted = state["has"], 0
            self.reset(0)
        self.wanted = state["wanted"][0], state["wanted"][1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step, and begin the next episode if this one ended; return as `gymnasium.Env.step` does."""
        self.at.where = "step"
        with self.at:
            obs, reward, terminated, truncated, info = self.env.step(action)
            reward, terminated, truncated = number(reward), flag(terminated, "terminated"), flag(truncated, "truncated")
        self.at.begun = True
        said: dict[str, Any] = {} if self.own is None else {"own_reward": self.own.take()}
        if self.reads and (numbers := numbers_in(info, self.reads)):
            said["numbers"] = numbers
        if self.same_step and (terminated or truncated):
            said["final_obs"] = obs
            self.final_frame = self.render() if self.filmed else None
            obs, _ = self.reset(None)
            if self.own is not None:
                said["goes_on"] = not self.own.fresh
        return obs, reward, terminated, truncated, said

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
