"""Reading the files that wandb writes offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

Record: Any = vars(wandb_internal_pb2)["Record"]

BLOCK, HEAD = 32768, 7  # bytes of a block of LevelDB's log format, and of a chunk's head: checksum, length, type


def chunks(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, which begins with seven bytes of wandb's own."""
    at, whole = 7, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 4):  # whole, or the last of several
            yield whole
            whole = b""


def records(folder: Path) -> list[Any]:
    """Read all records of a folder's offline runs, by wandb's own messages, in the order in which they were written."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        found += [Record.FromString(chunk) for chunk in chunks(path.read_bytes())]
    return found


def history(folder: Path) -> list[dict[str, Any]]:
    """List what was logged, row by row."""
    rows = [record.history for record in records(folder) if record.HasField("history")]
    return [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in rows]
