"""A run's policy in action, from Python."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from pgrun.api.arguments import Override, PathLike, check_whole
from pgrun.api.words import command_line
from pgrun.config.command_line import whole_numbers

if TYPE_CHECKING:
    from pgrun.after.playing import Frame, Pick


def play(
    run: PathLike,
    *overrides: Override,
    episodes: int = 1,
    seed: int | None = None,
    checkpoint: PathLike = "latest",
    stochastic: bool = False,
    pick: Pick | None = None,
    trust: bool = False,
) -> Generator[Frame]:
    """Let a run's policy act, and yield the frames of its episodes, which are those of `pgrun.evaluate`.

    Each frame has its `image`, [H, W, 3] of uint8, and its `caption`, `step`, `total` and `episode`. Between two frames
    the random generators are yours. Close the generator, or use it up, to free the environment.

    Args:
        run: the run, or its directory.
        overrides: what differs, `key=value` each or dicts: eval.env.KEY, eval.max_steps.
        episodes: how many whole episodes to run.
        seed: the environments' seed; None: the one of the run's final evaluation.
        checkpoint: `latest`, `best` or a checkpoint's file.
        stochastic: sample actions instead of taking the mode.
        pick: yield only the `best`, the `median` or the `worst` of the episodes, by their returns; None: all of them.
        trust: use the code of a run that was not made here.

    Yields:
        A frame before each episode's first step and after each step.

    Raises:
        UserError: it is no run directory, holds no such checkpoint, a key can't change, or the environment can't be
            drawn; or an environment failed.
    """
    from pgrun.after.playing import play_checkpoint

    check_whole("episodes", episodes, 1)
    if seed is not None:
        check_whole("seed", seed, 0)
    return play_checkpoint(
        Path(run),
        os.fspath(checkpoint),
        episodes=episodes,
        seed=seed,
        stochastic=stochastic,
        pick=pick,
        trust=trust,
        overrides=[whole_numbers(text) for text in command_line(overrides, {})],
    )
