"""Action masks: the actions that a state allows, in whatever way an environment says so.

An environment has its mask in `observation["action_mask"]`, in `info["action_mask"]` of every reset and step, or
returns it from a method `action_masks()`, as for sb3-contrib. The mask holds a number for each choice: for all actions
of a Discrete space from its start on, for the parts of a MultiDiscrete one after the other, for each bit of a
MultiBinary.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.reading import said, shown
from pgrun.errors import UserError

spaces = gym.spaces
KEY = "action_mask"
NAMESAKES = ("mask", "masks", "action_masks", "legal_actions", "valid_actions", "available_actions", "avail_actions")
FORBIDDEN = -1e4  # an addend to logits forbids from here down


def choices(space: gym.Space) -> list[int]:
    """Return the number of choices for each part of an action; a bit of a MultiBinary is a part of one choice."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.flatten()]
    return [1] * int(np.prod(space.shape)) if isinstance(space, spaces.MultiBinary) else []


def check_space(space: gym.Space, actions: gym.Space, name: str) -> str:
    """Check the mask that an observation space declares.

    Returns:
        A warning of a part that may be meant as a mask but isn't called so; "" if there is none.

    Raises:
        UserError: a mask that no policy could obey.
    """
    if not isinstance(space, spaces.Dict):
        return ""
    if nested := [key for key, part in space.items() if isinstance(part, spaces.Dict) and _holds(part)]:
        raise UserError(
            f"{name}[{nested[0]!r}] has an {KEY!r} inside, where no policy looks for one: put it beside {nested[0]!r}, "
            f"as observation[{KEY!r}]"
        )
    width = sum(choices(actions))
    if KEY not in space.spaces:
        like = [key for key in NAMESAKES if key in space.spaces and np.prod(space[key].shape or (0,)) == width]
        if not like or not width:
            return ""
        return f"{name}[{like[0]!r}] is read as something to see, not as a mask of actions, which is called {KEY!r}"
    check_actions(actions, f"{name}[{KEY!r}]")
    mask = space[KEY]
    size = int(np.prod(mask.shape)) if mask.shape is not None else 0
    if not isinstance(mask, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)) or size != width:
        raise UserError(f"{name}[{KEY!r}] is in {said(mask)}, but {said(actions)} needs a mask of {width} numbers")
    if len(space.spaces) == 1:
        raise UserError(f"{name} holds nothing to see but its {KEY!r}: put what the policy should read beside it")
    return ""


def _holds(space: spaces.Dict) -> bool:
    return KEY in space.spaces or any(_holds(part) for part in space.values() if isinstance(part, spaces.Dict))


def check_actions(actions: gym.Space, name: str) -> None:
    """Raise UserError if actions are numbers, none of which can be forbidden."""
    if not choices(actions):
        raise UserError(
            f"{name} is a mask of actions in {said(actions)}: only Discrete, MultiDiscrete and MultiBinary actions "
            "can be forbidden; call it something else if it is there to be seen"
        )


class MaskReader:
    """Reads masks as arrays of 0 and 1, 1 where an action is allowed.

    It takes any shape of the right size, a list of a MultiDiscrete's parts, truth values, and 0 and 1 in any type. It
    also takes masks that are added to logits: 0, and −∞ or a large negative number where an action is forbidden.

    Args:
        actions: the space that the mask is of.
        name: what to call it in a refusal.
        adds: whether it is known to be added to logits, so that 0 allows; else the first negative number says so.
    """

    def __init__(self, actions: gym.Space, name: str, *, adds: bool) -> None:
        check_actions(actions, name)
        self.name, self.adds, sizes = name, adds, choices(actions)
        self.width, self.actions, self.sizes = sum(sizes), said(actions), sizes
        bits = isinstance(actions, spaces.MultiBinary)  # none of which has to be set
        self.starts = None if bits else np.cumsum([0, *sizes[:-1]])  # of the parts, each of which has to be chosen

    def __call__(self, mask: Any, ended: bool) -> np.ndarray:
        """Read a mask as [width] int8. If the episode `ended` nobody acts, so nothing needs to be allowed."""
        if mask is None and ended:
            return np.ones(self.width, np.int8)
        a = self.flat(mask)
        if a.dtype == bool and not self.adds:
            legal = a.astype(np.int8)
        else:
            self.adds = self.adds or bool((a < 0).any())
            known = (a == 0) | (a <= FORBIDDEN if self.adds else a == 1)
            if not known.all():
                how = "0 and −∞" if self.adds else "0 and 1"
                raise UserError(f"{self.name} holds {a[~known][0]}, but a mask holds {how} alone")
            legal = (a == 0 if self.adds else a != 0).astype(np.int8)
        if self.starts is not None and not (most := np.maximum.reduceat(legal, self.starts)).all():
            if not ended:
                raise UserError(f"{self.name} forbids every action of {self.actions}: at least one has to be allowed")
            legal[np.repeat(most == 0, self.sizes)] = 1
        return legal

    def flat(self, mask: Any) -> np.ndarray:
        """Return any mask as numbers [width].

        Raises:
            UserError: it has another size, or holds something else.
        """
        try:
            if isinstance(mask, (list, tuple)) and mask and not np.isscalar(mask[0]):
                mask = np.concatenate([np.ravel(part) for part in mask])
            a = np.asarray(mask).ravel()
        except Exception as error:  # whatever an object of the environment's raises
            raise UserError(f"{self.name} is {shown(mask)}, but {self.width} numbers are due") from error
        if a.size != self.width or a.dtype.kind not in "biuf":
            raise UserError(f"{self.name} is {shown(mask)}, but {self.actions} needs a mask of {self.width} numbers")
        return a
