"""Checkpoints: one dict of tensors and plain values a file, written atomically, with a checksum beside it."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from pgrun.errors import UserError

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old file or the new one, never half of one.

    Temporary file, fsync, rename; its SHA-256 goes to `<path>.sha256` first, in the form that `sha256sum -c` reads.
    While a file is replaced, the sum of the old one stands beside the new one's.

    Raises:
        UserError: it can't be written, as on a full disk.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    data = buffer.getbuffer()
    line = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    sums = Path(f"{path}.sha256")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and sums.exists():
            replace(sums, (line + sums.read_text()).encode())
            replace(path, data)
            replace(sums, line.encode())
        else:
            replace(sums, line.encode())
            replace(path, data)
    except OSError as error:
        raise UserError(f"can't write the checkpoint {path}: {error.strerror or error}") from error


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target` in the same folder, atomically."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    os.replace(temporary, link)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; UserError where there is none, or it is torn."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}")
    path = path.resolve()
    data = path.read_bytes()
    sums = Path(f"{path}.sha256")
    if sums.exists() and hashlib.sha256(data).hexdigest() not in sums.read_text().split():
        raise UserError(f"{path} is torn (its SHA-256 is not the one beside it); {_others(path)}")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no checkpoint of pgrun's, or torn; {_others(path)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not in this version's checkpoint format ({FORMAT})")
    return content


def _others(path: Path) -> str:
    """What to do instead: the other checkpoints of this run, newest first."""
    others = sorted((p for p in path.parent.glob("step_*.pt") if p != path), key=_step, reverse=True)
    return f"use an older one: --checkpoint {others[0]}" if others else "there is no older one in its folder"


def _step(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    return int(number) if number.isdecimal() else -1


def latest(folder: Path) -> Path:
    """Where `latest.pt` points; the furthest step_<n>.pt where a crash or a copy left no such link."""
    link = folder / "latest.pt"
    steps = sorted(folder.glob("step_*.pt"), key=_step)
    return link if link.exists() or not steps else steps[-1]


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints step_<n>.pt, and what a crash left half written.

    The newest are the last written, which after going back to an older one are not the furthest.
    """
    written = sorted(folder.glob("step_*.pt"), key=lambda p: (p.stat().st_mtime_ns, _step(p)))
    current = (folder / "latest.pt").resolve()
    for path in written[:-keep]:
        if path.resolve() != current:
            path.unlink()
            Path(f"{path}.sha256").unlink(missing_ok=True)
    for torn in folder.glob(".*.tmp"):
        torn.unlink(missing_ok=True)


def replace(path: Path, data: Any) -> None:
    """Write a file anew, in one piece as far as anybody (or a crash) can see."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
