"""A walk through one copy of an environment with random actions, and comparisons of what it returned."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.checkup.findings import Hopeless, Report
from pgrun.envs.masks import KEY, choices
from pgrun.errors import UserError, told

spaces = gym.spaces


def leaves(nested: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of an observation, or of its space, by dotted key; "" for one that has no parts."""
    if isinstance(nested, (dict, spaces.Dict)):
        for key, part in nested.items():
            yield from leaves(part, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, nested


def same(a: Any, b: Any) -> bool:
    """Return whether two observations or actions are equal part by part, NaN to NaN."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(x, b[key]) for key, x in a.items())
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    try:
        return np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f")
    except (TypeError, ValueError):
        return True  # of something that can't be compared


def mask_of(env: gym.Env, obs: Any, info: Any) -> tuple[Any, str]:
    """Return the mask of actions and where it was found; None and "" without one."""
    if isinstance(obs, dict) and KEY in obs:
        return obs[KEY], f"observation[{KEY!r}]"
    if isinstance(info, dict) and KEY in info:
        return info[KEY], f"info[{KEY!r}]"
    if env.has_wrapper_attr("action_masks") and callable(method := env.get_wrapper_attr("action_masks")):
        return method(), "action_masks()"
    return None, ""


class Walk:
    """Steps one copy with random actions that its mask allows.

    Args:
        env: the copy.
        seed: of the actions.
        report: where an error of the environment's goes.
    """

    def __init__(self, env: gym.Env, seed: int, report: Report) -> None:
        self.env, self.report = env, report
        self.space = copy.deepcopy(env.action_space)
        self.space.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.taken = self.ended = self.at = 0  # steps, whole episodes, steps of the open one
        self.masked = False

    @property
    def where(self) -> str:
        """The place in the walk, in words."""
        return f" at step {self.at} of episode {self.ended + 1}" if self.at else " of reset()"

    @property
    def limited(self) -> bool:
        """Whether the copy has a time limit of Gymnasium's."""
        return self.env.spec is not None and self.env.spec.max_episode_steps is not None

    def reset(self, seed: int | None) -> Any:
        """Begin an episode; raise Hopeless if that fails."""
        self.at = 0
        try:
            return self.env.reset() if seed is None else self.env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            how = "reset()" if seed is None else f"reset(seed={seed})"
            raise self.broke(how, error) from error

    def step(self, before: Any) -> Any:
        """Take a random step after what the last call returned; raise Hopeless if that fails."""
        action = self.action(before[0], before[-1])
        kept = copy.deepcopy(action)
        self.taken, self.at = self.taken + 1, self.at + 1
        try:
            answer = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.broke(f"step(){self.where}", error) from error
        if not same(kept, action):
            self.report.add(
                "action",
                f"step(){self.where}",
                "it writes into the action that it is given",
                "work on a copy of it",
                breaks=False,
            )
        return answer

    def broke(self, where: str, error: BaseException) -> Hopeless:
        """Note an error that the environment raised."""
        what = str(error) if isinstance(error, UserError) else f"it raises {told(error)}"
        self.report.add("raises", where, what, "let it run for every action of its action_space")
        return Hopeless()

    def over(self, answer: Any) -> bool:
        """Return whether a step ended its episode, and count that."""
        if not (answer[2] or answer[3]):
            return False
        self.ended += 1
        return True

    def action(self, obs: Any, info: Any) -> Any:
        """Draw an action that the mask allows, if there is one."""
        mask, place = mask_of(self.env, obs, info)
        self.masked = self.masked or bool(place)
        if mask is None or not choices(self.space):
            return self.space.sample()
        flat = np.concatenate([np.ravel(x) for x in mask]) if isinstance(mask, (tuple, list)) else np.ravel(mask)
        allowed = flat == 0 if (flat < 0).any() else flat != 0
        parts, begin = [], 0
        if isinstance(self.space, spaces.MultiBinary):
            return (self.space.sample() & allowed.reshape(self.space.shape)).astype(self.space.dtype)
        for n in choices(self.space):
            able = np.flatnonzero(allowed[begin : begin + n])
            parts.append(int(self.rng.choice(able)) if len(able) else 0)
            begin += n
        if isinstance(self.space, spaces.Discrete):
            return self.space.start + parts[0]
        return np.reshape(parts, self.space.shape or ()).astype(self.space.dtype) + self.space.start  # type: ignore[attr-defined]
