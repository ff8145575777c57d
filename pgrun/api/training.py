"""Training, going on, evaluating and loading from Python: what the shell's commands call, too."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pgrun.api.app import App
from pgrun.api.arguments import Override, PathLike, check_names, check_whole, find_code
from pgrun.api.composing import checked_config
from pgrun.api.independent import ONE_AT_A_TIME, independent, undisturbed
from pgrun.api.runs import Run
from pgrun.api.words import command_line
from pgrun.config.command_line import whole_numbers


@independent
def train(*overrides: Override, config_dir: PathLike | None = None, quiet: bool = False, **settings: Any) -> Run:
    """Train, as `pgrun [overrides]` does in the shell, and with the same bits.

        run = pgrun.train("algo=ppo", "env=cartpole", {"algo.gamma": 0.98}, seed=1)

    An interrupt (Ctrl-C, a notebook's stop button) writes a checkpoint first; the run that is returned then has the
    status `interrupted`, and `pgrun.resume` goes on with it. Before the first step it raises KeyboardInterrupt.

    Args:
        overrides: `key=value` each, as in the shell, or dicts of values by key.
        config_dir: a folder of your own configs, as the shell's --config-dir.
        quiet: show no progress and no messages.
        settings: values by key, where that is a word.

    Returns:
        The run, with its folder, result, curves and policy.

    Raises:
        UserError: a setting is wrong, and nothing is written; or an environment failed.
        Diverged: the run diverged; its last good checkpoint is kept.
    """
    check_names(train, settings)
    argv = command_line(overrides, settings, config_dir)
    find_code(config_dir)
    ended = App(argv, begin=time.perf_counter(), own_log=True, quiet=quiet).run()
    assert ended is not None
    if ended.error is not None:
        raise ended.error
    return Run(ended.folder)


@independent
def resume(
    run: PathLike,
    *overrides: Override,
    checkpoint: PathLike = "latest",
    config_dir: PathLike | None = None,
    trust: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Go on with a run from its last checkpoint, as `pgrun resume RUN` does; exactly, unless a value is changed.

    Args:
        run: the run, or its directory.
        overrides: what changes, `key=value` each: total_steps, eval, checkpoint, log, device, threads, compile.
        checkpoint: `latest`, or a checkpoint's file.
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.
        quiet: show no progress and no messages.
        settings: what changes, by key.

    Returns:
        The run; its `over` says why nothing was left to do, if so.

    Raises:
        UserError: it is no run directory, another process uses it, or a key can't change.
        Diverged: the run diverged; its last good checkpoint is kept.
    """
    from pgrun.run.resuming import resume_run

    check_names(resume, settings)
    words = command_line(overrides, settings)
    find_code(config_dir)
    went = resume_run(
        Path(run), os.fspath(checkpoint), [whole_numbers(text) for text in words], trust=trust, quiet=quiet
    )
    return Run(went.folder, over=went.over)


@independent
def evaluate(
    run: PathLike,
    *overrides: Override,
    episodes: int = 100,
    seed: int | None = None,
    checkpoint: PathLike = "latest",
    stochastic: bool = False,
    record: PathLike | None = None,
    config_dir: PathLike | None = None,
    trust: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a run's policy over whole episodes, as `pgrun eval RUN` does.

    Args:
        run: the run, or its directory.
        overrides: what differs, `key=value` each: eval.env.KEY, eval.max_steps, eval.num_envs.
        episodes: whole episodes to average over.
        seed: the environments' seed; None: the one of the run's final evaluation.
        checkpoint: `latest`, `best` or a checkpoint's file.
        stochastic: sample actions instead of taking the mode.
        record: write the episodes to this file, as demonstrations (.npz).
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.
        settings: what differs, by key.

    Returns:
        What `pgrun eval --json` prints: eval_return_mean and so on.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, or a key can't change; or an environment failed.
    """
    from pgrun.after.evaluation import evaluate_checkpoint

    check_whole("episodes", episodes, 1)
    if seed is not None:
        check_whole("seed", seed, 0)
    check_names(evaluate, settings)
    words = command_line(overrides, settings)
    find_code(config_dir)
    return evaluate_checkpoint(
        Path(run),
        os.fspath(checkpoint),
        episodes=episodes,
        seed=seed,
        stochastic=stochastic,
        record=None if record is None else Path(record),
        trust=trust,
        overrides=[whole_numbers(text) for text in words],
    )


def compose(*overrides: Override, config_dir: PathLike | None = None, **settings: Any) -> DictConfig:
    """Compose the config that `train` would run, check it, and run nothing. See `train` for the arguments.

    Raises:
        UserError: a setting is wrong.
    """
    with ONE_AT_A_TIME, undisturbed():  # and without torch, which takes seconds to load
        argv = command_line(overrides, settings, config_dir)
        find_code(config_dir)
        return checked_config(argv)
