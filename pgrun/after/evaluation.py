"""Evaluation of a run's checkpoint, apart from its training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.demonstrations import DemonstrationRecorder
from pgrun.data.types import VectorEnv
from pgrun.envs.episode_file import episodes as to_episodes
from pgrun.envs.episode_file import save
from pgrun.errors import EnvFailed
from pgrun.loop.evaluate import evaluate
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


def evaluate_checkpoint(
    folder: Path,
    which: str,
    *,
    episodes: int,
    seed: int | None,
    stochastic: bool,
    record: Path | None = None,
    overrides: Sequence[str] = (),
    trust: bool = False,
) -> dict[str, Any]:
    """Evaluate a run's checkpoint, and perhaps write its episodes to a file.

    Args:
        folder: the run directory.
        which: `latest`, `best` or a checkpoint's file.
        episodes: how many whole episodes to average over.
        seed: the environments' seed; None for the one of the run's final evaluation.
        stochastic: sample actions instead of taking the mode.
        record: the file to which the episodes are written as demonstrations.
        overrides: `key=value` of keys within `EVALUABLE`.
        trust: use its code although it was not made here.

    Returns:
        Fields named as in result.json.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, or a key can't change.
        EnvFailed: the environment raised an error.
    """
    check_run(folder)
    path = find_checkpoint(folder, which)
    state = checkpoint.load(path)
    config, names = load_run(folder, state if own_checkpoint(folder, path) else None, trust=trust)
    allow(top_names_of(overrides))
    config = change(config, overrides, EVALUABLE, "in an evaluation")
    config.device = config.act_device = "cpu"
    config.compile = False
    stochastic = stochastic or config.eval.get("stochastic", False)
    with (
        report_stale_config(folder),
        interruptible(),
        closing(make_eval_env(config, episodes, trained_in(config))) as env,
    ):
        algorithm = make_algorithm(config, env)
        with fitting(path):
            algorithm.restore(state["algorithm"], optimizers=False)
            steps, updates = int(state["clock"]["steps"]), int(state["clock"]["updates"])
        seed = config.seed + EVAL_SEED if seed is None else seed
        watch = DemonstrationRecorder() if record is not None else None
        how: dict[str, Any] = {"explore": stochastic, "max_steps": config.eval.get("max_steps"), "record": watch}
        try:
            result = evaluate(algorithm, env, episodes, seed=seed, **how)
        except EnvFailed as error:
            note_traceback(folder, error)
            raise EnvFailed(f"{error}; the traceback is in {shown(folder / 'pgrun.log')}") from error
        if result.note:
            print(result.note, file=sys.stderr)
        if watch is not None and record is not None:
            write_demonstrations(record, watch, algorithm, env, names["env"], density=stochastic)
    return {
        **names,
        "seed": config.seed,
        "env_steps": steps,
        "updates": updates,
        "eval_return_mean": result.mean,
        "eval_return_std": result.std,
        **{f"eval_{name}_mean": mean for name, mean in result.stream_means.items()},
        "eval_episodes": len(result.returns),
        "eval_length_mean": sum(result.lengths) / len(result.lengths),
        "eval_seed": seed,
        "eval_stochastic": stochastic,
        "eval_episodes_cut": result.cut,
    }


def trained_in(config: DictConfig) -> VectorEnv | None:
    """Make and close one of training's environments, for its spaces; None if evaluation's are the same."""
    if not config.eval.get("env"):
        return None
    plain = config.copy()
    plain.eval.env = {}
    env = make_env(plain, 1)
    env.close()
    return env


def write_demonstrations(
    path: Path, watch: DemonstrationRecorder, algorithm: Algorithm, env: VectorEnv, env_id: str, *, density: bool
) -> None:
    """Write the episodes that an evaluation counted; with `density`, the log-probabilities of their actions too."""
    rollout = watch.rollout()
    with torch.no_grad():
        log_prob = algorithm.log_prob(rollout) if density else None
    rollout = rollout._replace(extras={} if log_prob is None else {"log_prob": log_prob})
    save(path, to_episodes(rollout), env_id=env_id, obs_space=env.obs_space, action_space=env.action_space)
