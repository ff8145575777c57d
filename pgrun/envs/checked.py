"""The outermost wrapper of each copy of an environment: observations arrive unaltered, or are refused.

Gymnasium leaves it to the caller to copy an observation before the next step, and its vector environments don't where
an episode ends; they broadcast what has too few numbers, and round what has the wrong type. So each copy is read here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.interface import FirstAnswers, flag
from pgrun.envs.masks import KEY, MaskReader, check_space
from pgrun.envs.reading import look_at_bounds, look_closely, reader
from pgrun.envs.state import Stateful
from pgrun.errors import UserError
from pgrun.system.randomness import generators, restore_generators, seed_generators

spaces = gym.spaces
log = logging.getLogger("pgrun")
ALONE = "observation"  # the observation's key, if only the mask makes it a Dict


@dataclass
class Known:
    """Knowledge that all copies of one environment share.

    Args:
        name: of the environment, for refusals.
        seeds: of each copy.
        float64: whether 64-bit numbers stay as they are.
        process: the process that the run is in; a copy in another one has generators of its own.
        told: whether info has the mask; None until the first copy was begun.
    """

    name: str
    seeds: list[int]
    float64: bool
    process: int = field(default_factory=os.getpid)
    told: bool | None = None


class Checked(gym.Wrapper):
    """Reads observations into fresh arrays, adds the action mask to them, and seeds a worker process's generators.

    The first copy is begun at once, so that a run is refused before it leaves anything behind. A reset with the same
    seed then returns that episode.
    """

    def __init__(self, env: Stateful, known: Known) -> None:
        super().__init__(env)
        self.known, self.index = known, env.index
        self.apart = os.getpid() != known.process
        name = f"the observation of {known.name}"
        given, actions = env.observation_space, env.action_space
        for codec, space in ((observation_codec, given), (action_codec, actions)):
            codec(space)  # refuses spaces that no network can read or no policy act in
        hint = check_space(given, actions, name)
        self.begun: tuple[int, Any, dict[str, Any]] | None = None
        self.first = FirstAnswers(env, known.name)
        if known.told is None:
            look_at_bounds(actions, known.name)
            if hint:
                log.warning("%s", hint)
            self.begin(known.seeds[self.index])
        method = env.get_wrapper_attr("action_masks") if env.has_wrapper_attr("action_masks") else None
        inside = isinstance(given, spaces.Dict) and KEY in given.spaces
        self.masks: Callable[[dict[str, Any]], Any] | None = None
        adds = False
        if inside:
            mask_name, low = f"{name}[{KEY!r}]", getattr(given[KEY], "low", None)  # type: ignore[index]
            adds = low is not None and bool((low < 0).any())
        elif callable(method):
            mask_name, self.masks = f"action_masks() of {known.name}", lambda info: method()
        elif known.told:
            mask_name, self.masks = (
                f"info[{KEY!r}] of {known.name}",
                lambda info: info.get(KEY) if isinstance(info, dict) else None,
            )
        else:
            mask_name = ""
        self.read_mask = MaskReader(actions, mask_name, adds=adds) if mask_name else None
        self.seen = spaces.Dict({k: v for k, v in given.items() if k != KEY}) if inside else given  # type: ignore[attr-defined]
        self.read, self.name, self.looks = reader(self.seen, name), name, True
        if self.read_mask is not None:
            parts = dict(self.seen.items()) if isinstance(self.seen, spaces.Dict) else {ALONE: self.seen}
            self.observation_space = spaces.Dict({**parts, KEY: spaces.MultiBinary(self.read_mask.width)})
        if self.begun is not None:
            self.take(*self.begun[1:], False)

    def begin(self, seed: int) -> None:
        """Reset once, to see what info has; an environment's own failure here is reported when the run resets.

        Raises:
            UserError: the environment does not keep to the interface.
        """
        try:
            obs, info = self.fresh(seed)
        except UserError:
            raise
        except (Exception, SystemExit):
            self.known.told = False
            return
        self.known.told = isinstance(info, dict) and KEY in info
        self.begun = seed, obs, info

    def fresh(self, seed: int | None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset; in a worker process, a seed also seeds the global generators."""
        if self.apart and seed is not None:
            seed_generators(seed)
        return self.env.reset(seed=seed, options=options)

    def take(self, obs: Any, info: dict[str, Any], ended: bool) -> Any:
        """Check an observation and return it as it is handed on."""
        try:
            seen = self.read(obs)
        except UserError as error:
            raise self.blamed(error) from error
        if self.looks:
            look_closely(self.seen, seen, self.name, float64=self.known.float64)
            if self.read_mask is None and isinstance(info, dict) and KEY in info:
                raise UserError(f"info[{KEY!r}] of {self.known.name} was not there at its first reset: always tell it")
        if self.read_mask is None:
            return seen
        mask = self.read_mask(obs.get(KEY) if self.masks is None else self.masks(info), ended)
        return {**(seen if isinstance(seen, dict) else {ALONE: seen}), KEY: mask}

    def blamed(self, error: UserError) -> UserError:
        """Return a refusal of an observation, with the name of the wrapper that showed it where that is known."""
        whose = self.first.culprit(self.known.name)
        return UserError(str(error).replace(self.name, f"the observation of {whose}", 1))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see `gymnasium.Env.reset`."""
        begun, self.begun = self.begun, None
        if begun is not None and begun[0] == seed and options is None:
            _, obs, info = begun
        else:
            obs, info = self.fresh(seed, options)
        return self.take(obs, info, False), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step; see `gymnasium.Env.step`."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        ended = flag(terminated, "terminated") or flag(truncated, "truncated")
        obs = self.take(obs, info, ended)
        if self.looks:
            self.looks = False
            self.first.end()
        return obs, reward, terminated, truncated, info  # type: ignore[return-value]

    def capture_state(self) -> Any:
        """Return the copy's state (in a worker process with its generators'), or in words why there is none."""
        state = self.env.capture_state()  # type: ignore[attr-defined]
        return {**state, "generators": generators()} if self.apart and isinstance(state, dict) else state

    def apply_state(self, states: list[dict[str, Any]]) -> None:
        """Restore this copy's entry of the states."""
        self.env.apply_state(states)  # type: ignore[attr-defined]
        if self.apart and "generators" in states[self.index]:
            restore_generators(states[self.index]["generators"])
