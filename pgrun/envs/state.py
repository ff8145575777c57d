"""An environment's complete state as tensors and plain values, so that a resumed run goes on bit for bit.

Python environments keep their state in plain attributes (numbers, arrays, generators), which are read and put back.
MuJoCo's simulator gives up every array of its data: the integration state alone would lose derived arrays that some
environments read before the next step (Ant's contact forces and body positions). What holds anything else (Box2D's
world, an emulator) can't be captured, unless it offers `snapshot()` and `restore(state)` itself.
"""

from __future__ import annotations

import types
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

from pgrun.errors import UserError


class CantCapture(Exception):
    """An attribute that is no plain value; the message names it."""


# Settings, drawing and space objects: the same in every copy of an environment, so not state.
FIXED_NAMES = {
    "env",
    "spec",
    "_spec",
    "metadata",
    "unwrapped",
    "_cached_spec",
    "mujoco_renderer",
    "model",
    "data",
    "viewer",
}
FIXED_TYPES = (gym.Space, EnvSpec, type, types.FunctionType, types.MethodType, types.ModuleType)


def encode(value: Any, name: str = "value") -> Any:
    """A plain value as something torch.load(weights_only=True) takes; CantCapture otherwise."""
    if value is None or (isinstance(value, (bool, int, float, str)) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        array = np.ascontiguousarray(value)
        return {
            "ndarray": torch.from_numpy(array.copy().reshape(-1).view(np.uint8)),
            "dtype": str(array.dtype),
            "shape": list(value.shape),
        }
    if isinstance(value, np.generic):
        return {"npscalar": encode(np.asarray(value), name)}
    if isinstance(value, np.random.Generator):
        return {"generator": encode(value.bit_generator.state, name)}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.clone()}
    if isinstance(value, tuple):
        return {"tuple": [encode(v, name) for v in value]}
    if isinstance(value, list):
        return [encode(v, name) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(v, f"{name}.{k}") for k, v in value.items()}}
    raise CantCapture(f"{name} is a {type(value).__name__}")


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "ndarray" in value:
        return value["ndarray"].numpy().copy().view(np.dtype(value["dtype"])).reshape(value["shape"])
    if "npscalar" in value:
        return decode(value["npscalar"])[()]
    if "generator" in value:
        state = decode(value["generator"])
        generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
        generator.bit_generator.state = state
        return generator
    if "tensor" in value:
        return value["tensor"].clone()
    if "tuple" in value:
        return tuple(decode(v) for v in value["tuple"])
    return {k: decode(v) for k, v in value["dict"].items()}


def capture_object(obj: Any) -> dict[str, Any]:
    """The plain attributes of one layer; CantCapture where it holds anything else that may be state."""
    state: dict[str, Any] = {}
    for name, value in vars(obj).items():
        if name in FIXED_NAMES or isinstance(value, FIXED_TYPES) or callable(value):
            continue
        state[name] = encode(value, f"{type(obj).__name__}.{name}")
    return state


def apply_object(obj: Any, state: dict[str, Any]) -> None:
    """Put a layer's attributes back."""
    for name, value in state.items():
        setattr(obj, name, decode(value))


def capture(env: gym.Env) -> dict[str, Any]:
    """The state of an environment and all its wrappers."""
    layers = []
    while isinstance(env, gym.Wrapper):
        layers.append(capture_object(env))
        env = env.env
    if hasattr(env, "snapshot") and hasattr(env, "restore"):
        return {"layers": layers, "own": encode(env.snapshot())}
    state = {"layers": layers, "base": capture_object(env)}
    if _is_mujoco(env):
        state["mujoco"] = _mujoco_arrays(env)
    return state


def apply(env: gym.Env, state: dict[str, Any]) -> None:
    """Put a captured state back."""
    for layer in state["layers"]:
        if not isinstance(env, gym.Wrapper):
            raise UserError("the checkpoint's environment has other wrappers than this one")
        apply_object(env, layer)
        env = env.env
    if "own" in state:
        env.restore(decode(state["own"]))  # type: ignore[attr-defined]
        return
    apply_object(env, state["base"])
    if "mujoco" in state:
        _put_mujoco_arrays(env, state["mujoco"])


def _is_mujoco(env: Any) -> bool:
    data = getattr(env, "data", None)
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
    """The outermost wrapper of each copy, through which a vector environment (in-process or not) reads its state."""

    def __init__(self, env: gym.Env, index: int) -> None:
        super().__init__(env)
        self.index = index

    def capture_state(self) -> dict[str, Any] | str:
        """The state, or in words why there is none."""
        try:
            return capture(self.env)
        except CantCapture as reason:
            return str(reason)

    def apply_state(self, states: list[dict[str, Any]]) -> None:
        """Put this copy's one of the states back."""
        apply(self.env, states[self.index])
