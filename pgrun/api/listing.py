"""Records of runs from Python."""

from __future__ import annotations

import os

from pgrun.after.records import Record, read_runs


def runs(*dirs: str | os.PathLike[str]) -> list[Record]:
    """Read the records of all runs in folders and below them, the oldest first, as `pgrun runs` lists them.

    Args:
        dirs: run directories, sweeps, or folders above; none: runs/ and multirun/ of the working directory.

    Returns:
        The records; none where folders hold no runs. Each can be given where a run's folder can, as to `pgrun.load`.

    Raises:
        UserError: a folder doesn't exist.
    """
    return read_runs(*dirs, least=0)
