"""A run's policy in action: the frames of its episodes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from omegaconf import DictConfig

from pgrun.after.loading import EVALUABLE, open_checkpoint, traceback_kept, trained_in
from pgrun.data.types import VectorEnv
from pgrun.envs.frames import MODE, check_drawable, draw_without_display, frames, frames_per_second, prepare_mujoco
from pgrun.errors import UserError
from pgrun.loop.evaluate import Evaluation, Moment, evaluate, evaluation_steps
from pgrun.run.build import make_algorithm
from pgrun.run.changes import change, report_stale_config
from pgrun.run.checkpoint_content import fitting
from pgrun.run.console import remark
from pgrun.run.directory import find_checkpoint
from pgrun.run.environments import make_env, make_eval_env
from pgrun.run.run import EVAL_SEED
from pgrun.system.randomness import Randomness, own_randomness

Pick = Literal["best", "median", "worst"]
PICKS = get_args(Pick)


@dataclass(frozen=True)
class Frame:
    """One picture of an episode, after `step` of its steps; the first one, at step 0, is before any action."""

    image: np.ndarray  # [H, W, 3] uint8, without the caption
    episode: int  # from 1 on
    episodes: int  # of how many
    step: int
    total: float  # the return so far
    ended: bool  # whether it is the episode's last
    fps: float  # how many frames a second look natural

    @property
    def caption(self) -> str:
        """The line that belongs below the picture: step and return so far, and the episode where there are several."""
        number = f"episode {self.episode}/{self.episodes}   " if self.episodes > 1 else ""
        return f"{number}step {self.step}   return {self.total:.1f}"


def play_checkpoint(
    folder: Path,
    which: str = "latest",
    *,
    episodes: int = 1,
    seed: int | None = None,
    stochastic: bool = False,
    pick: Pick | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> Generator[Frame]:
    """Let a run's policy act, and yield the frames of its episodes, one episode after the other.

    The episodes are those that `evaluate_checkpoint` runs with the same arguments. No more than one frame is kept.
    Between two frames the global random generators are the caller's.

    Args:
        folder: the run directory.
        which: `latest`, `best` or a checkpoint's file.
        episodes: how many whole episodes to run.
        seed: the environments' seed; None for the one of the run's final evaluation.
        stochastic: sample actions instead of taking the mode.
        pick: yield only the episode with the largest, the middle or the smallest return; None: all of them.
        overrides: `key=value` of keys within `EVALUABLE`.
        trust: use its code although it was not made here.

    Yields:
        A frame before each episode's first step and after each step.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, a key can't change, or the environment can't be
            drawn.
        EnvFailed: the environment raised an error.
    """
    if pick is not None and pick not in PICKS:
        raise UserError(f"pick={pick} is not known; choose one of {', '.join(PICKS)}")
    state, plain, names = open_checkpoint(folder, which, overrides, trust=trust)
    draw_without_display()
    seed = plain.seed + EVAL_SEED if seed is None else seed
    how = {
        "seed": seed,
        "explore": stochastic or plain.eval.get("stochastic", False),
        "max_steps": plain.eval.get("max_steps"),
    }

    def begin(config: DictConfig, env: VectorEnv) -> Any:
        with own_randomness(config.seed):  # of the first weights
            algorithm = make_algorithm(config, env)
        with fitting(find_checkpoint(folder, which)):
            algorithm.restore(state["algorithm"], optimizers=False)
        return algorithm

    with report_stale_config(folder), traceback_kept(folder):
        check_backend(plain)
        name = str((plain.eval.get("env") or {}).get("id") or plain.env.get("id") or f"env={names['env']}")
        with closing(make_env(plain, 1)) as trial:
            check_drawable(trial, name)
            fps = frames_per_second(trial)
        prepare_mujoco()
        picked = None
        if pick is not None:
            with closing(make_eval_env(plain, episodes, trained_in(plain))) as env:
                returns = evaluate(begin(plain, env), env, episodes, **how)
            picked = choose(returns, pick)
            if returns.note:
                remark(returns.note)
        drawn = change(plain.copy(), drawing(plain), EVALUABLE, "here")
        check_constructor(drawn, name)
        with closing(make_eval_env(drawn, episodes, trained_in(plain))) as env:
            film = Film(env, episodes, name, fps)
            algorithm = begin(drawn, env)

            def steps() -> Iterator[Moment]:
                return evaluation_steps(algorithm, env, episodes, **how)

            if picked is None:
                for copy in range(min(env.num_envs, episodes)):
                    yield from film.of(copy, steps, seed)
                return
            for frame in film.of(picked.copy, steps, seed, picked.number):
                if frame.ended and frame.total != picked.total:
                    raise UserError(
                        f"pick={pick} plays that episode once more from its seed, and this environment's second time "
                        f"was another (return {picked.total:g}, then {frame.total:g}): its reset(seed=…) has to decide "
                        "all that is random in it; without a pick all episodes are shown"
                    )
                yield frame


@dataclass(frozen=True)
class Picked:
    """An episode of an evaluation: the copy that it ran in, which one it was there, and its return."""

    copy: int
    number: int
    total: float


def choose(result: Evaluation, pick: Pick) -> Picked:
    """Choose the episode with the largest, the middle or the smallest return; of equal ones the first."""
    order = sorted(range(len(result.returns)), key=lambda k: result.returns[k], reverse=pick == "best")
    k = order[(len(order) - 1) // 2 if pick == "median" else 0]
    return Picked(result.copies[k], result.copies[:k].count(result.copies[k]), result.returns[k])


def check_backend(config: DictConfig) -> None:
    """Raise UserError if an evaluation's copies are where they can't be drawn."""
    backend = (config.eval.get("env") or {}).get("backend", config.env.get("backend"))
    own = (config.eval.get("env") or {}).get("backend")
    if backend == "envpool" or own == "async":
        raise UserError(f"copies of env.backend={backend} can't be drawn: use eval.env.backend=sync")


def drawing(config: DictConfig) -> list[str]:
    """Return the changes that make an evaluation's environments return pictures."""
    return [f"eval.env.kwargs.render_mode={MODE}"] if "kwargs" in config.env else []


def check_constructor(drawn: DictConfig, name: str) -> None:
    """Raise UserError if an environment can't be made in the render mode that it says it has."""
    try:
        make_env(drawn, 1).close()
    except UserError as error:
        raise UserError(
            f"{name} has {MODE} among its render modes, but can't be made with it: its constructor has to take "
            f"render_mode=None ({error})"
        ) from error


class Film:
    """The frames of single copies of an evaluation's environments.

    Args:
        env: the environments, in the render mode that returns pictures.
        episodes: how many the evaluation counts.
        name: of the environment, for refusals.
        fps: how many frames a second look natural.
    """

    def __init__(self, env: VectorEnv, episodes: int, name: str, fps: float) -> None:
        self.env, self.episodes, self.name, self.fps = env, episodes, name, fps

    def share(self, copy: int) -> int:
        """Return how many of the episodes a copy runs."""
        return self.episodes // self.env.num_envs + (copy < self.episodes % self.env.num_envs)

    def of(
        self, copy: int, begin: Callable[[], Iterator[Moment]], seed: int, only: int | None = None
    ) -> Generator[Frame]:
        """Run the evaluation and yield the frames of one copy's episodes.

        Args:
            copy: its number.
            begin: begins the evaluation, step by step.
            seed: of the global random generators.
            only: yield this one of the copy's episodes alone; None: all.
        """
        share, earlier = self.share(copy), sum(self.share(i) for i in range(copy))
        steps, own = begin(), Randomness(seed)
        number, latest, begun = 0, None, False  # of the open episode; the last picture; whether it had a step
        while number < (share if only is None else only + 1):
            with own():
                moment = next(steps, None)
                if moment is None:  # no more were begun, as none ended
                    return
                due = only is None or number >= only - 1
                pictures = frames(self.env, copy, self.name) if due or moment.taken is None else []
            shows = only in (None, number)
            taken = moment.taken is not None and bool(moment.counted[copy] & moment.taken[3].valid[copy])
            if taken and shows:
                at = earlier + number + 1, self.episodes
                if not begun and latest is not None:
                    yield Frame(latest, *at, 0, 0.0, False, self.fps)
                total, ended = float(moment.total[copy]), bool(moment.ended[copy])
                yield Frame(pictures[0], *at, int(moment.length[copy]), total, ended, self.fps)
            if taken:
                begun = not moment.ended[copy]
                number += not begun
            latest = pictures[-1] if pictures else None
