"""Check that a checkpoint file holds tensors and plain values, of the sizes that it has, before and after it is read.

torch.load(weights_only=True) calls nothing but a few functions of torch's. But it inflates a compressed archive, reads
a tensor's numbers where the file says they are, and makes tensors of any kind, also huge ones of a few bytes.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pgrun.errors import Diverged, UserError
from pgrun.errors import told as told_error

GLOBALS = re.compile(  # the names that a checkpoint of tensors and plain values has
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v[23]|torch \w+Storage|torch\.storage UntypedStorage"
    r"|torch (u?int\d+|b?float\d+|bool|complex\d+)"
)
LARGEST = 64_000_000  # bytes of everything but tensors' numbers
MOST = 3_000_000  # steps in which that is put together; each may take a hundred bytes of memory
DEEPEST = 100  # levels of nesting
SMALL = 16_000_000  # bytes that a tensor may stretch over although the file has less of it: one number for many


class Odd(Exception):
    """Raised for what no checkpoint of pgrun's holds; the message names it."""


def check_archive(path: Path) -> None:
    """Check a file's form, without reading a tensor.

    Raises:
        Odd: it is none that pgrun writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise Odd("compressed parts")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise Odd("more than the file has")
            plain = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(plain) != 1 or plain[0].file_size > LARGEST:
                raise Odd("too much beside its tensors")
            code = archive.read(plain[0])
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise Odd("no archive of tensors") from error
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(code)):
            if opcode.name == "GLOBAL" and not GLOBALS.fullmatch(str(argument)):
                raise Odd(f"a {str(argument)[:60].replace(' ', '.')}")
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4") or number > MOST:
                raise Odd("too much beside its tensors" if number > MOST else "other than tensors and plain values")
    except ValueError as error:
        raise Odd("no archive of tensors") from error


def check_content(content: Any) -> None:
    """Check that nested values are tensors and plain values, of a depth and in a number that pgrun may have written.

    Raises:
        Odd: they are not.
    """
    left = [(content, 0)]
    seen = 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST:
            raise Odd("values that are nested without end")
        if isinstance(value, dict):
            left += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list | tuple):
            left += [(item, depth + 1) for item in value]
        elif isinstance(value, torch.Tensor):
            check_tensor(value)
        elif value is not None and not isinstance(value, bool | int | float | str):
            raise Odd(f"a {type(value).__name__}")


def check_tensor(tensor: torch.Tensor) -> None:
    """Raise Odd for a tensor that is not dense, not on the CPU, or claims more numbers than the file has of it."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.device.type != "cpu":
        raise Odd("a tensor that is not dense, or without numbers")
    if tensor.is_complex():
        raise Odd("complex numbers")
    size = tensor.numel() * tensor.element_size()
    if size > max(SMALL, tensor.untyped_storage().nbytes()):
        raise Odd(f"a tensor of {tensor.numel():,} numbers with {tensor.untyped_storage().nbytes():,} bytes of them")


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn the error of a block that restores a checkpoint's content into one line: something in it is not as it was.

    Args:
        path: the checkpoint's, for the message.

    Raises:
        UserError: the block fails.
    """
    try:
        yield
    except (UserError, Diverged):
        raise
    except (Exception, RecursionError) as error:
        raise UserError(f"{path} holds not what this run's config needs ({told_error(error)})") from error
