"""Read NumPy archives (.npz) that somebody else may have made: no objects, and no more than the file lets expect."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pgrun.errors import UserError

INFLATED = 200_000_000  # bytes that any archive's arrays may take
MOST_PACKED = 20  # times a larger archive's own size


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a file of demonstrations, as far as they have these names, or `NAME/KEY` of one.

    Raises:
        UserError: there is no such file, it is none of NumPy's, or its arrays are larger than they may be.
    """
    if not path.is_file():
        raise UserError(f"there is no file of demonstrations {path}; pgrun eval RUN --record {path} writes one")
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files if key.split("/")[0] in names}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no file of demonstrations (a NumPy archive, .npz), or torn") from error


def check_archive(path: Path) -> None:
    """Check that an archive's arrays are as large as they say, and no larger than the file lets expect.

    Raises:
        UserError: they are not.
        ValueError: it is no archive of arrays.
    """
    with zipfile.ZipFile(path) as archive:
        whole = sum(entry.file_size for entry in archive.infolist())
        if whole > max(INFLATED, MOST_PACKED * path.stat().st_size):
            raise UserError(f"{path} would take {whole:,} bytes of memory, and has {path.stat().st_size:,}")
        for entry in archive.infolist():
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
                if kind.hasobject or kind.names:
                    raise ValueError("neither numbers nor text")
                if math.prod(shape) * kind.itemsize != entry.file_size - file.tell():
                    raise UserError(f"{path}: {entry.filename} is not as large as it says, {shape}")
