"""The complete state of an environment as tensors and plain values, so that a resumed run goes on bit for bit.

Python environments keep their state in plain attributes (numbers, arrays, generators), which are read and put back.
Of MuJoCo's simulator every array of its data is read: the integration state alone would lose derived arrays that some
environments read before the next step (Ant's contact forces and body positions). Environments that hold anything else
(Box2D's world, an emulator) can't be captured, unless they offer `snapshot()` and `restore(state)` themselves. Nothing
is left out silently: an attribute that can't be read makes the whole capture fail, with its name. (A MuJoCo model is
taken to be fixed; an environment that changes its own offers `snapshot` and `restore`.)
"""

from __future__ import annotations

import functools
import types
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from pgrun.data.plain import CantCapture, decode, encode
from pgrun.errors import UserError

# Spaces, settings and code: the same in every copy of an environment, so not state.
FIXED_TYPES = (
    gym.Space,
    EnvSpec,
    type,
    functools.partial,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    np.ufunc,
)
FIXED_MODULES = ("mujoco", "gymnasium.envs.mujoco")  # MuJoCo's model, data (captured apart) and renderer
FIXED_NAMES = ("spec", "_spec", "metadata", "_cached_spec")


def capture_object(obj: Any, seen: dict[int, str] | None = None) -> dict[str, Any]:
    """Return the plain attributes of one layer.

    Args:
        obj: the layer.
        seen: names, by id, of the objects in other layers; it is added to. One object under two names would come back
            as two, so it is refused.

    Raises:
        CantCapture: the layer holds anything else that may be state.
    """
    seen = {} if seen is None else seen
    state: dict[str, Any] = {}
    if hidden := [slot for kind in type(obj).__mro__ for slot in getattr(kind, "__slots__", ()) if slot[:2] != "__"]:
        raise CantCapture(f"{type(obj).__name__} keeps {hidden[0]} in a slot")
    for attribute, value in vars(obj).items():
        module = type(value).__module__
        if attribute in FIXED_NAMES or isinstance(value, FIXED_TYPES):
            continue
        if attribute == "env" and isinstance(obj, gym.Wrapper):
            continue
        if any(module == fixed or module.startswith(f"{fixed}.") for fixed in FIXED_MODULES):
            continue
        name = f"{type(obj).__name__}.{attribute}"
        state[attribute] = encode(value, name)
        if (
            value is not None
            and type(value) not in (bool, int, float, str, tuple)
            and not isinstance(value, np.generic)
        ):
            if id(value) in seen:
                raise CantCapture(f"{name} and {seen[id(value)]} are one {type(value).__name__}")
            seen[id(value)] = name
    return state


def apply_object(obj: Any, state: dict[str, Any]) -> None:
    """Restore a layer's attributes."""
    for name, value in state.items():
        setattr(obj, name, decode(value))


def copy_axes(two: Any, three: Any) -> dict[str, int]:
    """Find which axis of which array runs over the copies of a natively vectorised environment.

    It is the axis that is 2 long in an environment of two copies and 3 long in one of three.

    Args:
        two: an environment of two copies.
        three: the same of three.

    Returns:
        The axes by the arrays' names.

    Raises:
        CantCapture: anything else differs in its form.
    """
    axes = {}
    for env in (two, three):
        env.reset(seed=0)
    a, b = capture_object(two), capture_object(three)
    for name in a:
        one, other = _form(a[name]), _form(b.get(name))
        if one == other:
            continue
        arrays = isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other)
        differing = [i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]] if arrays else []
        if [(one[i], other[i]) for i in differing] != [(2, 3)]:
            raise CantCapture(f"{type(two).__name__}.{name} runs over the copies in a way of its own")
        axes[name] = differing[0]
    return axes


def _form(value: Any) -> Any:
    """Return an encoded value's form without its content: shapes of arrays as tuples, forms in lists and dicts."""
    if isinstance(value, dict):
        if "ndarray" in value:
            return tuple(value["shape"])
        return {key: _form(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor):
        return ["tensor", *value.shape]
    return [_form(part) for part in value] if isinstance(value, list) else type(value)


def copies_of(state: dict[str, Any], axes: dict[str, int], index: np.ndarray) -> dict[str, Any]:
    """Return a captured state in which copy i is what copy index[i] was."""
    moved = {name: encode(np.take(decode(state[name]), index, axis=axis)) for name, axis in axes.items()}
    return {**state, **moved}


def offers_state(env: Any) -> bool:
    """Tell whether an environment captures itself, by `snapshot()` and `restore(state)`."""
    return callable(getattr(env, "snapshot", None)) and callable(getattr(env, "restore", None))


def capture(env: gym.Env) -> dict[str, Any]:
    """Return the state of an environment and all its wrappers, each layer by itself."""
    layers, seen = [], dict[int, str]()
    while True:
        if offers_state(env):
            own: Any = env
            layers.append({"own": encode(own.snapshot(), f"{type(env).__name__}.snapshot()")})
        else:
            layers.append({"attributes": capture_object(env, seen)})
            if _is_mujoco(env):
                layers[-1]["mujoco"] = _mujoco_arrays(env)
        if not isinstance(env, gym.Wrapper):
            return {"layers": layers}
        env = env.env


def apply(env: gym.Env, state: dict[str, Any]) -> None:
    """Restore a captured state."""
    for depth, layer in enumerate(state["layers"]):
        if isinstance(env, gym.Wrapper) != (depth < len(state["layers"]) - 1):
            raise UserError("the checkpoint's environment has other wrappers than this one")
        if "own" in layer:
            own: Any = env
            own.restore(decode(layer["own"]))
        else:
            apply_object(env, layer["attributes"])
            if "mujoco" in layer:
                _put_mujoco_arrays(env, layer["mujoco"])
        if isinstance(env, gym.Wrapper):
            env = env.env


def _is_mujoco(env: Any) -> bool:
    data = vars(env).get("data")
    return type(data).__module__.split(".")[0] == "mujoco"


def _mujoco_arrays(env: Any) -> dict[str, Any]:
    state = {"time": float(env.data.time)}
    for name in dir(env.data):
        # constraint and contact arrays are rebuilt in the first half of every step and change their size
        if name.startswith(("_", "efc_", "iefc_", "contact")):
            continue
        value = getattr(env.data, name)
        if isinstance(value, np.ndarray) and value.size and value.dtype.names is None:
            state[name] = encode(value)
    return state


def _put_mujoco_arrays(env: Any, state: dict[str, Any]) -> None:
    env.data.time = state["time"]
    for name, value in state.items():
        target = getattr(env.data, name)
        if isinstance(target, np.ndarray):
            source = decode(value)
            if target.shape == source.shape and target.flags.writeable:
                target[...] = source


class Stateful(gym.Wrapper):
    """A wrapper of each copy, through which a vector environment (in-process or not) reads its state."""

    def __init__(self, env: gym.Env, index: int) -> None:
        super().__init__(env)
        self.index = index

    def capture_state(self) -> dict[str, Any] | str:
        """Return the state, or in words why there is none."""
        try:
            return capture(self.env)
        except CantCapture as reason:
            return str(reason)

    def apply_state(self, states: list[dict[str, Any]]) -> None:
        """Restore this copy's entry of the states."""
        apply(self.env, states[self.index])
