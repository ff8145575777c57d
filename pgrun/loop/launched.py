"""Processes that a launcher such as torchrun started: which one this is, and messages between them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import cache
from typing import Any

from pgrun.trust.finder import state

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


BRIEF = timedelta(seconds=20)  # how long to try to tell others, who may not be there, that there is nothing to do


PATIENCE = timedelta(hours=2)  # how long to wait for the leader to begin


def here() -> bool:
    """Tell whether this process is one of several that a launcher started.

    Clusters set these variables for purposes of their own, too. So a world of one process counts only if torchrun
    itself made it, and values that are not numbers are ignored.
    """
    try:
        number, count, _ = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    except (KeyError, ValueError):
        return False
    return bool(os.environ.get("MASTER_ADDR")) and 0 <= number < count and (count > 1 or by_torchrun())


def by_torchrun() -> bool:
    """Tell whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Return this process's number, from 0."""
    return int(os.environ["RANK"])


def world() -> int:
    """Return the number of processes."""
    return int(os.environ["WORLD_SIZE"])


@cache
def store(patience: timedelta = PATIENCE) -> Any:
    """Return the launcher's store of keys and values, which all processes see."""
    import torch.distributed as dist

    shared, _, _ = next(dist.rendezvous("env://", timeout=patience))
    return shared


_begun: list[bool] = []  # whether the leader has told the others what the run is


def over() -> None:
    """Tell the other processes, if any, that there is nothing to do; do nothing if they know what the run is."""
    if not _begun:
        with nullcontext() if by_torchrun() else suppress(Exception):  # there may be nobody to be told
            store(PATIENCE if by_torchrun() else BRIEF).set("over", "")


def lead(settings: dict[str, Any]) -> Any:
    """Tell the other processes what the run is, and return the store."""
    _begun.append(True)
    if not by_torchrun():
        print(
            f"RANK={rank()} and WORLD_SIZE={world()} are set: waiting for the other processes to learn with "
            "(parallel=none learns without them)",
            file=sys.stderr,
            flush=True,
        )
    store().set("code", json.dumps(state()))  # where the others find the user's modules
    store().set("settings", json.dumps(settings))
    return store()
