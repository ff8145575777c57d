"""Videos of a policy, made while it learns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pgrun.config.ranges import Count, Seed
from pgrun.data.types import Obs, Step, VectorEnv
from pgrun.envs.frames import check_drawable, draw_without_display, frames
from pgrun.errors import UserError
from pgrun.hooks.packages import need
from pgrun.loop.evaluate import evaluate
from pgrun.loop.moments import Plan, RunHook, RunView


class Video(RunHook):
    """Films one episode after every so many evaluations, into RUN/videos/step_<n>.mp4.

    It is played as evaluation's are, in an environment of its own that draws itself (render_mode=rgb_array).

    Args:
        every: evaluations from one film to the next; the first is filmed.
        fps: frames a second.
        max_steps: a film ends after so many steps.
        seed: the episode's seed, the same in each film.
    """

    def __init__(self, *, every: Count, fps: Count, max_steps: Count, seed: Seed) -> None:
        need("video", "imageio", "imageio_ffmpeg")
        draw_without_display()
        if not any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")):
            os.environ.setdefault("MUJOCO_GL", "egl")  # where there is none, MUJOCO_GL=osmesa may do
        self.every, self.fps, self.max_steps, self.seed = every, fps, max_steps, seed
        self.evaluations = 0

    def check(self, plan: Plan) -> None:
        """Refuse a run without evaluations, and environments that can't draw themselves."""
        if plan.config["eval"]["every"] is None:
            raise UserError("it films after evaluations, and eval.every=null makes none: give it a number of steps")
        try:
            env = plan.make_env({"render_mode": "rgb_array"})
        except UserError as error:
            raise UserError(f"the environment can't draw itself (render_mode=rgb_array): {error}") from error
        try:
            env.reset(self.seed)
            check_drawable(env, "the environment")
            film_of(env)
        finally:
            env.close()

    def evaluation(self, view: RunView) -> None:
        """Film an episode if it is due."""
        self.evaluations += 1
        if (self.evaluations - 1) % self.every == 0:
            self.film(view, view.folder / "videos" / f"step_{view.steps}.mp4")

    def film(self, view: RunView, path: Path) -> None:
        """Play an episode and write its film, whole or not at all."""
        import imageio

        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.part.mp4")
        env = view.make_env(render_mode="rgb_array")
        try:
            with imageio.get_writer(part, fps=self.fps, macro_block_size=1) as writer:  # type: ignore[arg-type]
                filmed: Any = Filmed(env, writer)
                evaluate(view.policy, filmed, 1, seed=self.seed, max_steps=self.max_steps)
            os.replace(part, path)
        finally:
            env.close()
            part.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return how many evaluations there were."""
        return {"evaluations": self.evaluations}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore that."""
        self.evaluations = state["evaluations"]


class Filmed:
    """One environment whose every state is drawn into a film.

    Args:
        env: the environment.
        writer: takes its frames.
    """

    def __init__(self, env: VectorEnv, writer: Any) -> None:
        self.env, self.writer, self.num_envs = env, writer, env.num_envs
        self.obs_space, self.action_space = env.obs_space, env.action_space

    def reset(self, seed: int | None = None) -> Obs:
        """Start an episode and draw its first state."""
        obs = self.env.reset(seed)
        self.writer.append_data(film_of(self.env)[-1])
        return obs

    def step(self, action: Tensor) -> Step:
        """Take a step and draw the state after it."""
        step = self.env.step(action)
        self.writer.append_data(film_of(self.env)[0])
        return step


def film_of(env: VectorEnv) -> list[np.ndarray]:
    """Draw the states of an environment since the last step, [H, W, 3] uint8 each, of an even height and width."""
    pictures = frames(env, 0, "the environment")
    return [np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)), mode="edge") for x in pictures]
