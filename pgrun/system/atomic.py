"""Files that are written completely or not at all, whatever crashes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pgrun.errors import UserError

TEMPORARY = ".pgrun-tmp"  # ends the names of half-written files, and no others
NO_LINKS = {  # how file systems say that they have no symbolic links
    *(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP),
}


def temporary(path: Path) -> Path:
    """Return the name under which a file is written before it is complete."""
    return path.with_name(f".{path.name}{TEMPORARY}")


def replace(path: Path, data: Any) -> None:
    """Write a file anew, in one piece as far as anybody (or a crash) can see."""
    draft = temporary(path)
    try:
        with open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)  # a full disk needs the room
        raise
    sync(path.parent)


def sync(folder: Path) -> None:
    """Put a folder's names on disk, if its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def point(link: Path, target: str) -> bool:
    """Make `link` a symbolic link to `target` in the same folder, atomically.

    Returns:
        False if the file system has no symbolic links.
    """
    draft = temporary(link)
    draft.unlink(missing_ok=True)
    try:
        os.symlink(target, draft)
    except (NotImplementedError, AttributeError):
        return False
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise
    rename(draft, link)
    return True


def double(link: Path, target: Path) -> None:
    """Make `link` the same file as `target` by a hard link, or copy it if the file system has no links at all."""
    draft = temporary(link)
    draft.unlink(missing_ok=True)
    try:
        os.link(target, draft)
    except (OSError, NotImplementedError, AttributeError):
        replace(link, target.read_bytes())
    else:
        rename(draft, link)


def rename(draft: Path, path: Path) -> None:
    """Give a finished link its name."""
    try:
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def clean(*folders: Path) -> None:
    """Delete the half-written files that a crash left in these folders, as far as possible."""
    for folder in folders:
        for draft in folder.glob(f".*{TEMPORARY}"):
            with suppress(OSError):
                draft.unlink()


@contextmanager
def told(what: str, path: Path) -> Iterator[None]:
    """Turn an I/O error in the block into one line.

    Args:
        what: what the block does, for the message.
        path: of the file.

    Raises:
        UserError: an I/O error.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror or error}") from error
