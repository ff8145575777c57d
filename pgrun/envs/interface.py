"""Checks that an environment keeps to Gymnasium's interface: its spaces, its methods, and what they return at first.

The first reset and step of the copies that a run uses are checked, so no extra copy is made and no extra step taken.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.envs.reading import reader, shown
from pgrun.errors import UserError

RESET = "reset(self, *, seed=None, options=None)"
STEP = "step(self, action)"
WANTED = {
    "reset": "(observation, info)",
    "step": "(observation, reward, terminated, truncated, info)",
}


def number(x: Any, what: str = "the reward") -> float:
    """Return a reward as a float, from a number or an array of one number.

    Raises:
        UserError: it is anything else.
    """
    if type(x) is float:
        return x
    try:
        if isinstance(x, (list, tuple, np.ndarray, np.generic)):
            a = np.asarray(x)
            if a.size == 1 and a.dtype.kind in "biuf":
                return float(a.reshape(-1)[0])
        elif not isinstance(x, (str, bytes, complex)):
            return float(x)
    except Exception as error:  # a ragged list is a ValueError, None a TypeError, and so on
        raise UserError(f"{what} is {shown(x)}; Gymnasium's interface wants a number") from error
    raise UserError(f"{what} is {shown(x)}; Gymnasium's interface wants a number")


def flag(x: Any, what: str) -> bool:
    """Return a sign of an episode's end as a bool; None is False.

    Raises:
        UserError: it is a text, several values or the like.
    """
    if type(x) is bool:
        return x
    if x is None:
        return False
    try:
        a = np.asarray(x)
        if a.size == 1 and a.dtype.kind in "biuf":
            return bool(a.reshape(-1)[0])
    except Exception as error:
        raise UserError(f"{what} is {shown(x)}; Gymnasium's interface wants True or False") from error
    raise UserError(f"{what} is {shown(x)}; Gymnasium's interface wants True or False")


def check_spaces(env: gym.Env, name: str) -> None:
    """Raise UserError if an environment lacks a space, or has something else in its place."""
    for which in ("observation_space", "action_space"):
        space = getattr(env, which, None)
        if isinstance(space, gym.Space):
            continue
        has = f"has no {which}" if space is None else f"has {shown(space)} for its {which}"
        module = type(space).__module__
        old = f" (it is of {module.split('.')[0]}, another package)" if module.startswith("gym.") else ""
        raise UserError(
            f"{name} {has}{old}; Gymnasium's interface wants a gymnasium.spaces.Space, such as Box or Discrete"
        )


def check_methods(layer: gym.Env, name: str) -> None:
    """Raise UserError if reset and step can't be called as Gymnasium calls them."""
    for method, wanted, arguments, options in (
        ("reset", RESET, (), {"seed": None, "options": None}),
        ("step", STEP, (None,), {}),
    ):
        if getattr(type(layer), method) is getattr(gym.Env, method):
            raise UserError(f"{name} has no {method} of its own; Gymnasium's interface wants {wanted}")
        try:
            signature = inspect.signature(getattr(layer, method))
        except (ValueError, TypeError):  # of compiled code
            continue
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            lacks = [key for key in options if key not in signature.parameters]
            why = f"takes no {' and no '.join(lacks)}" if lacks else f"can't be called ({error})"
            bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
            plain = signature.replace(parameters=bare, return_annotation=signature.empty)
            raise UserError(f"{method}{plain} of {name} {why}; Gymnasium's interface wants {wanted}") from error


def check_reset(answer: Any, name: str) -> None:
    """Raise UserError if `reset` returned anything but (observation, info)."""
    check_form(answer, "reset", name)


def check_step(answer: Any, name: str) -> None:
    """Raise UserError if `step` returned anything but (observation, reward, terminated, truncated, info)."""
    check_form(answer, "step", name)
    number(answer[1], f"the reward of {name}")
    for value, what in ((answer[2], "terminated"), (answer[3], "truncated")):
        flag(value, f"{what} of {name}")


def check_form(answer: Any, method: str, name: str) -> None:
    """Raise UserError unless a method returned as many parts as it should, the last of them a dict (or None)."""
    length = WANTED[method].count(",") + 1
    form = isinstance(answer, (tuple, list)) and len(answer) == length
    if form and (answer[-1] is None or isinstance(answer[-1], Mapping)):
        return
    came = f"{shown(answer[-1])} for its info" if form else shown(answer)
    older = ", as gym before 0.26 had it" if method == "step" and isinstance(answer, tuple) and len(answer) == 4 else ""
    raise UserError(f"{method}() of {name} returned {came}{older}; Gymnasium's interface wants {WANTED[method]}")


def layers_of(env: gym.Env, name: str) -> Iterator[tuple[gym.Env, str]]:
    """Yield the environment and its wrappers, outermost first, without pgrun's own, each with a name for messages."""
    while isinstance(env, gym.Wrapper):
        if type(env).__module__.split(".")[0] != "pgrun":
            yield env, f"the wrapper {type(env).__name__} of {name}"
        env = env.env
    yield env, name


class FirstAnswers:
    """Checks what each layer of a copy returns, until the first step is done.

    A layer's method is replaced on that object alone. Without the check, the layer above would take a wrong answer
    apart and fail with a message that explains nothing.

    Args:
        env: the copy.
        name: of the environment.

    Raises:
        UserError: a method can't be called.
    """

    def __init__(self, env: gym.Env, name: str) -> None:
        self.layers: list[Any] = []
        self.shown: list[tuple[str, gym.Space | None, list[Any]]] = []  # layers from the outermost on: their last ones
        layers = list(layers_of(env, name))
        for layer, called in reversed(layers):
            check_methods(layer, called)
        for layer, called in layers:
            self.watch(layer, called)

    def culprit(self, name: str) -> str:
        """Name the layer whose observations are wrong, where the outermost one's are.

        Args:
            name: of the environment, where it can't be told.
        """
        found = name
        for called, space, last in self.shown:
            if space is None or not last:
                break
            try:
                reader(space, "it", copy=False)(last[0])
                break
            except UserError:
                found = called
        return found

    def watch(self, layer: Any, name: str) -> None:
        """Check what a layer returns from now on."""
        last: list[Any] = []
        self.shown.append((name, getattr(layer, "observation_space", None), last))

        def reset(self: Any, *args: Any, **kwargs: Any) -> Any:
            answer = type(self).reset(self, *args, **kwargs)
            check_reset(answer, name)
            last[:] = [answer[0]]
            return answer

        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            answer = type(self).step(self, *args, **kwargs)
            check_step(answer, name)
            last[:] = [answer[0]]
            return answer

        if not hasattr(layer, "__dict__") or {"reset", "step"} & vars(layer).keys():
            return  # its methods can't be replaced, or it replaced them itself
        # bound methods: a copy of the layer has its own
        layer.reset, layer.step = types.MethodType(reset, layer), types.MethodType(step, layer)
        self.layers.append(layer)

    def end(self) -> None:
        """Put the layers' own methods back."""
        for layer in self.layers:
            for method in ("reset", "step"):
                vars(layer).pop(method, None)
        self.layers.clear()
        self.shown.clear()
