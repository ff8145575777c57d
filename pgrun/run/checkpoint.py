"""The content of checkpoints: one dict of tensors and plain values a file. `checkpoint_files` manages the files."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from pgrun.errors import UserError
from pgrun.run.checkpoint_files import beside, current, read_list, step_of
from pgrun.system.atomic import told

FORMAT = 1


def dump(content: dict[str, Any]) -> memoryview:
    """Serialize a checkpoint's content to the bytes of a file."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    return buffer.getbuffer()


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: there is no checkpoint, or it is torn or of another format.
    """
    if not os.path.isfile(path):
        raise UserError(f"there is no checkpoint {path}")
    with told("can't read", path):
        path = path.resolve()
        data, sums = path.read_bytes(), beside(path)
        digests = sums.read_text(encoding="utf-8", errors="replace").split() if sums.exists() else None
    if digests is not None and hashlib.sha256(data).hexdigest() not in digests:
        raise UserError(f"{path} is torn (its SHA-256 is not the one beside it); {_others(path)}")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no checkpoint of pgrun's, or torn; {_others(path)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not in this version's checkpoint format ({FORMAT})")
    return content


def _others(path: Path) -> str:
    """Advise what to use instead: the newest other checkpoint of this run."""
    wrote = read_list(path.parent)
    others = [p for p in path.parent.glob("step_*.pt") if p != path and (wrote is None or p.name in wrote)]
    others.sort(key=step_of, reverse=True)
    return f"use an older one: --checkpoint {others[0]}" if others else "there is no older one in its folder"


def latest(folder: Path) -> Path:
    """Return the file behind `latest.pt`; without that link, the last one that was written."""
    return current(folder, "latest.pt")


def best(folder: Path) -> Path:
    """Return the file behind `best.pt`; without that link, the last one that was written."""
    return current(folder, "best.pt")
