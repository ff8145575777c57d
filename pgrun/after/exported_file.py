"""Names of an exported policy's file and of its card, and whether they may be written; checked without torch."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from pgrun.errors import UserError

KIND = "policy exported by pgrun"  # in a card, which tells it from other JSON files
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # of the extra `export`


def card_of(path: Path) -> Path:
    """Name the card of an exported file: policy.onnx.json of policy.onnx."""
    return path.with_name(f"{path.name}.json")


def check_path(path: Path, *, force: bool) -> None:
    """Raise UserError where a file can't be written, or a package for its kind is missing."""
    if path.suffix not in (".onnx", ".pt2"):
        raise UserError(
            f"{path}: give a file that ends in .onnx (for ONNX Runtime and others) or .pt2 (for torch.export)"
        )
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{path}: {above} is no folder")
    card = card_of(path)
    if path.is_dir() or card.is_dir():
        raise UserError(f"{path if path.is_dir() else card} is a folder: give another name")
    if path.exists() and not force:
        raise UserError(f"{path} is there already: give another name, or --force to replace it")
    if card.exists() and not is_card(card) and not force:
        raise UserError(f"{card}, where the card would go, is something else: give another name, or --force")
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise UserError(f"an .onnx file needs {', '.join(missing)}: pip install 'pgrun[export]' (a .pt2 file doesn't)")


def is_card(path: Path) -> bool:
    """Tell whether a file is a card."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND
