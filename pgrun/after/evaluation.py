"""Evaluation of a run's checkpoint, apart from its training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pgrun.after.loading import loaded, traceback_kept
from pgrun.algos.parts.base import Algorithm
from pgrun.collect.demonstrations import DemonstrationRecorder
from pgrun.data.types import VectorEnv
from pgrun.envs.episode_file import episodes as to_episodes
from pgrun.envs.episode_file import save
from pgrun.loop.evaluate import evaluate
from pgrun.run.console import remark
from pgrun.run.result_file import info_fields


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
        overrides: `key=value` of keys within `pgrun.after.loading.EVALUABLE`.
        trust: use its code although it was not made here.

    Returns:
        Fields named as in result.json.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, or a key can't change.
        EnvFailed: the environment raised an error.
    """
    with loaded(folder, which, episodes=episodes, overrides=overrides, trust=trust) as run:
        config, algorithm, env = run.config, run.algorithm, run.env
        stochastic = stochastic or config.eval.get("stochastic", False)
        seed = run.seed if seed is None else seed
        watch = DemonstrationRecorder() if record is not None else None
        how: dict[str, Any] = {"explore": stochastic, "max_steps": config.eval.get("max_steps"), "record": watch}
        with traceback_kept(folder):
            result = evaluate(algorithm, env, episodes, seed=seed, **how)
        if result.note:
            remark(result.note)
        if watch is not None and record is not None:
            write_demonstrations(record, watch, algorithm, env, run.names["env"], density=stochastic)
    return {
        **run.names,
        "seed": config.seed,
        "env_steps": run.clock["steps"],
        "updates": run.clock["updates"],
        "eval_return_mean": result.mean,
        "eval_return_std": result.std,
        **{f"eval_{name}_mean": mean for name, mean in result.stream_means.items()},
        **info_fields("eval", result.info_means),
        "eval_episodes": len(result.returns),
        "eval_length_mean": sum(result.lengths) / len(result.lengths),
        "eval_seed": seed,
        "eval_stochastic": stochastic,
        "eval_episodes_cut": result.cut,
    }


def write_demonstrations(
    path: Path, watch: DemonstrationRecorder, algorithm: Algorithm, env: VectorEnv, env_id: str, *, density: bool
) -> None:
    """Write the episodes that an evaluation counted; with `density`, the log-probabilities of their actions too."""
    rollout = watch.rollout()
    with torch.no_grad():
        log_prob = algorithm.log_prob(rollout) if density else None
    rollout = rollout._replace(extras={} if log_prob is None else {"log_prob": log_prob})
    save(path, to_episodes(rollout), env_id=env_id, obs_space=env.obs_space, action_space=env.action_space)
