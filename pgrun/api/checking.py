"""Checking a run from Python: running it again, and comparing its files with their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgrun.api.arguments import Override, PathLike, check_names, check_whole, find_code
from pgrun.api.independent import independent
from pgrun.api.words import command_line
from pgrun.config.command_line import whole_numbers

if TYPE_CHECKING:
    from pgrun.after.reproduced import Reproduced
    from pgrun.after.verifying import Verified


@independent
def reproduce(
    run: PathLike,
    *overrides: Override,
    until: int | None = None,
    into: PathLike | None = None,
    config_dir: PathLike | None = None,
    trust: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Reproduced:
    """Run a run again, in a new directory, and find the first evaluation at which the two part.

    Args:
        run: the run, or its directory.
        overrides: `key=value` each, to see when a change first shows.
        until: stop at the first evaluation from this environment step on; None: go to the run's end.
        into: the new run directory; None: one beside the run.
        config_dir: a folder of your own configs, beside which code of yours lies.
        trust: use the code of a run that was not made here.
        quiet: show no progress and no messages.
        settings: as overrides, by key.

    Returns:
        The outcome: `identical`, or `then` and `now`, the evaluations that differ; and `differences` of the two runs.

    Raises:
        UserError: it is no run directory, has no evaluations to compare with, or can't be run here.
    """
    from pgrun.after.reproducing import reproduce_run

    if until is not None:
        check_whole("until", until, 1)
    check_names(reproduce, settings)
    words = [whole_numbers(text) for text in command_line(overrides, settings)]
    find_code(config_dir)
    place = None if into is None else Path(into)
    return reproduce_run(Path(run), words, until=until, into=place, trust=trust, quiet=quiet)


@independent
def verify(run: PathLike) -> Verified:
    """Check that a run's config, provenance, results and checkpoints are as it wrote them.

    Args:
        run: the run, or its directory.

    Returns:
        The number of `files` that were checked, and `problems`: one line for each that is not as it was written.

    Raises:
        UserError: it is no run directory, or has no hashes.
    """
    from pgrun.after.verifying import verify_run

    return verify_run(Path(run))
