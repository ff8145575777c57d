"""A run's algorithm, built from its directory and restored from a checkpoint, to act and not to learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pgrun.algos.parts.base import Algorithm
from pgrun.data.types import VectorEnv
from pgrun.errors import EnvFailed
from pgrun.run import checkpoint
from pgrun.run.build import make_algorithm
from pgrun.run.changes import change, report_stale_config, top_names_of
from pgrun.run.checkpoint_content import fitting
from pgrun.run.console import shown
from pgrun.run.directory import check_run, find_checkpoint, load_run, own_checkpoint
from pgrun.run.environments import make_env, make_eval_env
from pgrun.run.result_file import note_traceback
from pgrun.run.run import EVAL_SEED
from pgrun.system.signals import interruptible
from pgrun.trust.finder import allow

# What an evaluation may do otherwise than the run's own.
EVALUABLE = ("eval.env", "eval.num_envs", "eval.max_steps", "eval.stochastic")


@dataclass
class Loaded:
    """A run's policy, as a checkpoint has it, with the environments of an evaluation."""

    config: DictConfig
    names: dict[str, str]  # of the algorithm and the environment, as they were chosen
    clock: dict[str, int]  # steps and updates
    algorithm: Algorithm
    env: VectorEnv

    @property
    def seed(self) -> int:
        """The seed of the run's own evaluations."""
        return int(self.config.seed) + EVAL_SEED


@contextmanager
def loaded(
    folder: Path,
    which: str,
    *,
    episodes: int,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    trust: bool = False,
) -> Iterator[Loaded]:
    """Build a run's algorithm and environments to evaluate it in, and restore it from a checkpoint.

    The environments are closed after the block. A signal there raises KeyboardInterrupt.

    Args:
        folder: the run directory.
        which: `latest`, `best` or a checkpoint's file.
        episodes: of the evaluation, which say how many environments there are.
        overrides: `key=value` of keys within `EVALUABLE`.
        device: where it acts.
        trust: use its code although it was not made here.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, needs to be trusted, or a key can't change.
    """
    state, config, names = open_checkpoint(folder, which, overrides, device, trust=trust)
    with (
        report_stale_config(folder),
        interruptible(),
        closing(make_eval_env(config, episodes, trained_in(config))) as env,
    ):
        algorithm = make_algorithm(config, env)
        with fitting(find_checkpoint(folder, which)):
            algorithm.restore(state["algorithm"], optimizers=False)
            clock = {key: int(state["clock"][key]) for key in ("steps", "updates")}
        yield Loaded(config, names, clock, algorithm, env)


def open_checkpoint(
    folder: Path, which: str, overrides: Sequence[str] = (), device: str = "cpu", *, trust: bool = False
) -> tuple[dict[str, Any], DictConfig, dict[str, str]]:
    """Load a run's checkpoint, and its config with changes, to act with.

    Args:
        folder: the run directory.
        which: `latest`, `best` or a checkpoint's file.
        overrides: `key=value` of keys within `EVALUABLE`.
        device: where it acts.
        trust: use its code although it was not made here.

    Returns:
        The checkpoint's content, the config, and the names of the algorithm and the environment.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, or a key can't change.
    """
    check_run(folder)
    path = find_checkpoint(folder, which)
    state = checkpoint.load(path)
    config, names = load_run(folder, state if own_checkpoint(folder, path) else None, trust=trust)
    allow(top_names_of(overrides))
    config = change(config, overrides, EVALUABLE, "in an evaluation")
    config.device = config.act_device = device
    config.compile = config.graph = False
    return state, config, names


@contextmanager
def traceback_kept(folder: Path) -> Iterator[None]:
    """Write the traceback of an environment that fails in the block to the run's log, and say so."""
    try:
        yield
    except EnvFailed as error:
        note_traceback(folder, error)
        raise EnvFailed(f"{error}; the traceback is in {shown(folder / 'pgrun.log')}") from error


def trained_in(config: DictConfig) -> VectorEnv | None:
    """Make and close one of training's environments, for its spaces; None if evaluation's are the same."""
    if not config.eval.get("env"):
        return None
    plain = config.copy()
    plain.eval.env = {}
    env = make_env(plain, 1)
    env.close()
    return env
