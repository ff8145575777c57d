"""The content of checkpoints: one dict of tensors and plain values a file. `checkpoint_files` manages the files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from pgrun.errors import UserError
from pgrun.run.checkpoint_content import Odd, check_archive, check_content
from pgrun.run.checkpoint_files import beside, current, read_list, sha256, step_of
from pgrun.system.atomic import told
from pgrun.trust.files import read_text

FORMAT = 1
SUM = 100_000  # bytes of a file that holds another's SHA-256, at most


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
        sums = _sums(path)
        if sums is not None and sha256(path) not in sums:
            raise UserError(f"{path} is torn (its SHA-256 is not the one beside it); {_others(path)}")
        try:
            check_archive(path)
            # mapped, not read: what nobody asks for takes no memory, and a tensor that claims too much finds nothing
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
            check_content(content)
        except Odd as error:
            raise UserError(
                f"{path} is no checkpoint of pgrun's, or torn: it holds {error}; {_others(path)}"
            ) from error
        except OSError:
            raise
        except Exception as error:
            raise UserError(f"{path} is no checkpoint of pgrun's, or torn; {_others(path)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not in this version's checkpoint format ({FORMAT})")
    return content


def tensors_of(path: Path) -> dict[str, Any]:
    """Read the tensors of a checkpoint's algorithm, by name.

    Raises:
        UserError: it can't be read, or holds anything else there.
    """
    algorithm = load(path).get("algorithm")
    tensors = algorithm.get("module") if isinstance(algorithm, dict) else None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in tensors.items()
    ):
        raise UserError(f"{path} holds no policy: its algorithm is no list of tensors by name")
    return tensors


def _others(path: Path) -> str:
    """Advise what to use instead: the newest other checkpoint of this run, and the best if it is whole."""
    wrote = read_list(path.parent)
    others = [p for p in path.parent.glob("step_*.pt") if p != path and (wrote is None or p.name in wrote)]
    others.sort(key=step_of, reverse=True)
    best_one = best(path.parent).resolve()
    whole = path.parent.name == "checkpoints" and best_one != path and sha256(best_one) in (_sums(best_one) or ())
    said = f"use an older one: --checkpoint {others[0]}" if others else "there is no older one in its folder"
    return f"{said}; --checkpoint best is whole" if whole else said


def _sums(path: Path) -> list[str] | None:
    """Read the SHA-256 beside a checkpoint, and its name; None where there is none."""
    kept = read_text(beside(path), SUM, errors="replace")
    return None if kept is None else kept.split()


def latest(folder: Path) -> Path:
    """Return the file behind `latest.pt`; without that link, the last one that was written."""
    return current(folder, "latest.pt")


def best(folder: Path) -> Path:
    """Return the file behind `best.pt`; without that link, the last one that was written."""
    return current(folder, "best.pt")
