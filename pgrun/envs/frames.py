"""Frames: pictures of one copy of an environment, step by step.

An adapter that can be filmed has a method `frames(row)`. It returns the pictures since the last step of the copy that a
row is of: the state that the step led to and, where the next episode began in that step, its first state. Its first
call begins the filming.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np

from pgrun.data.types import VectorEnv
from pgrun.envs.reading import shown
from pgrun.errors import UserError

MODE = "rgb_array"  # the render mode in which an environment returns its pictures
FPS = 30.0  # of an environment that doesn't say its own

# Draws one picture with MuJoCo, in a process of its own: a driver that is missing may end the process.
TRIAL = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
print("drawn", flush=True)
"""


def metadata(env: VectorEnv) -> dict[str, Any]:
    """Return an environment's metadata: its render modes and its frames a second, as Gymnasium has them."""
    own = getattr(env, "metadata", None) or getattr(getattr(env, "env", None), "metadata", None)
    return dict(own or {})


def check_drawable(env: VectorEnv, name: str) -> None:
    """Raise UserError if an environment can't return pictures.

    Args:
        env: the environment, in any render mode.
        name: of the environment, for the message.
    """
    inner: Any = getattr(env, "env", None)
    modes = [str(mode) for mode in metadata(env).get("render_modes") or ()]
    if hasattr(env, "frames") and MODE in modes:
        return
    has = f"its render modes are {', '.join(modes)}" if modes else "it has no render modes"
    if hasattr(env, "world"):
        todo = "give its World a method render(state) that returns an array [H, W, 3] of uint8"
    elif not hasattr(env, "frames"):
        todo = "it needs a method frames(row), as pgrun.envs.frames describes it, and its metadata"
    elif not hasattr(inner, "copies") and hasattr(inner, "spec") and not modes:
        todo = "with eval.env.backend=sync it may have some, as copies are then drawn one by one"
    else:
        todo = f'its class needs metadata = {{"render_modes": ["{MODE}"], …}} and a render() that returns the picture'
    raise UserError(f"{name} can't be drawn: {has}, and {MODE} is the one that is needed; {todo}")


def frames_per_second(env: VectorEnv) -> float:
    """Return how many steps a second look natural, as the environment's metadata says."""
    rate = metadata(env).get("render_fps") or FPS
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        return FPS
    for copy in getattr(getattr(env, "env", None), "envs", [])[:1]:
        for layer in layers(copy):
            rate /= max(int(getattr(layer, "frame_skip", 1)), 1)  # a wrapper that makes one step of several
    return rate if 0.0 < rate < 1000.0 else FPS


def layers(env: gym.Env) -> Iterator[gym.Wrapper]:
    """Yield an environment's wrappers, outermost first."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def frames(env: Any, row: int, name: str) -> list[np.ndarray]:
    """Return the pictures since the last step of a row's copy, each [H, W, 3] uint8.

    Raises:
        EnvFailed: the environment's `render` raised an error.
        UserError: it returned no picture.
    """
    return [picture(frame, name) for frame in env.frames(row)]


def picture(frame: Any, name: str) -> np.ndarray:
    """Return what `render` returned as an array [H, W, 3] of uint8."""
    if isinstance(frame, list) and frame and getattr(frame[-1], "ndim", 0) == 3:  # all since the last call
        frame = frame[-1]
    x = np.asarray(frame) if hasattr(frame, "shape") else np.empty(0)
    x = x[:, :, None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[-1] not in (1, 3, 4) or not x.size or x.dtype.kind not in "biuf":
        raise UserError(
            f"render() of {name} returned {shown(frame)}; with render_mode={MODE} it should be an array [H, W, 3] of "
            "uint8"
        )
    if x.dtype != np.uint8:
        x = np.clip(x * 255.0 if x.dtype.kind == "f" and x.max() <= 1.0 else x, 0, 255).astype(np.uint8)
    return np.repeat(x, 3, axis=2) if x.shape[-1] == 1 else np.ascontiguousarray(x[:, :, :3])


def draw_without_display() -> None:
    """Let SDL draw into memory where there is no display; else it says on stderr that it finds none."""
    if not any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def prepare_mujoco() -> None:
    """Choose a way to draw for MuJoCo, if it is in use: each is tried in a process of its own.

    Raises:
        UserError: none works here.
    """
    if "mujoco" not in sys.modules:
        return
    chosen = os.environ.get("MUJOCO_GL")
    display = ["glfw"] if os.environ.get("DISPLAY") else []
    for driver in [chosen] if chosen else [*display, "egl", "osmesa"]:
        if draws(driver):
            os.environ["MUJOCO_GL"] = driver
            return
    tried = f"MUJOCO_GL={chosen} doesn't work here" if chosen else "neither EGL nor OSMesa works here"
    raise UserError(
        f"MuJoCo can't draw: {tried}; install one (Debian, Ubuntu: apt install libegl1 or libosmesa6) and try again"
        + (", or leave MUJOCO_GL unset" if chosen else "")
    )


@cache
def draws(driver: str) -> bool:
    """Try whether MuJoCo draws with a driver: glfw, egl or osmesa."""
    command = [sys.executable, "-c", TRIAL]
    try:
        done = subprocess.run(
            command, env={**os.environ, "MUJOCO_GL": driver}, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "drawn" in done.stdout
