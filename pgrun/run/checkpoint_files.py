"""The checkpoint files of a run. No file that the run didn't write is ever overwritten or deleted."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pgrun.errors import UserError
from pgrun.system.atomic import clean, double, point, replace, told
from pgrun.trust.files import read_text

log = logging.getLogger("pgrun")

LIST = ".written-by-pgrun"
POINTERS = {"latest.pt": "step", "best.pt": "best"}  # links, and how the names of their files begin


class Written:
    """The checkpoint files that a run wrote, known by a list of names and SHA-256 sums in their folder.

    A file is written once, under a free name. Before it come its line in the list and its `<name>.sha256`, in the form
    that `sha256sum -c` reads. So at any moment each file has its own sum beside it. The latest and the best file are
    each named by a link, which changes in one step. A file that is not in the list, or has other content, belongs to
    somebody else.

    Args:
        folder: where the checkpoints are.
        keep: how many step_<n>.pt to keep.
        resumed: whether the run goes on from a checkpoint.

    Raises:
        UserError: latest.pt or best.pt belongs to somebody else.
    """

    def __init__(self, folder: Path, *, keep: int, resumed: bool) -> None:
        self.folder, self.keep = folder, keep
        with told("can't read", folder):
            wrote = read_list(folder)
            self.wrote = wrote or {}  # oldest first
            self.current = {pointer: self.aim(pointer) for pointer in POINTERS}
            for pointer, name in self.current.items():
                there = os.path.lexists(folder / pointer) or os.path.lexists(beside(folder / pointer))
                if there and name is None and not (resumed and wrote is None):  # an older version kept no list
                    raise UserError(
                        f"{folder / pointer} is not of this run, which would overwrite it: move it away, or choose "
                        "another hydra.run.dir"
                    )
        self.seen: dict[str, tuple[int, int, int]] = {}  # files that this process wrote need not be read again
        self.complained = False

    def begin(self) -> None:
        """Delete files that a crash left half written, and write the list.

        Raises:
            UserError: the folder can't be written.
        """
        with told("can't write checkpoints into", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            clean(self.folder, self.folder.parent, self.folder.parent / ".hydra")
            for name in set(self.wrote) - set(self.current.values()):
                if not os.path.lexists(self.folder / name):
                    self.delete(name)  # its sum
            self.write_list()

    def write(self, stem: str, pointer: str, data: Any) -> Path:
        """Write the checkpoint <stem>.pt, point a link to it, and delete checkpoints that are no longer kept.

        Args:
            stem: the file's name without suffix.
            pointer: the link: latest.pt or best.pt.
            data: the file's bytes.

        Returns:
            The file.

        Raises:
            UserError: it can't be written, for example on a full disk. All earlier files are then unchanged.
        """
        digest = hashlib.sha256(data).hexdigest()
        with told("can't write the checkpoint", self.folder / f"{stem}.pt"):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / self.free(stem)
            self.wrote.pop(path.name, None)
            self.wrote[path.name] = digest
            self.write_list()
            try:
                replace(beside(path), sum_line(digest, path.name))
                replace(path, data)
            except OSError:
                if not os.path.lexists(path):
                    with suppress(OSError):
                        beside(path).unlink(missing_ok=True)
                raise
            self.seen[path.name] = look(path)
            self.point(pointer, path, digest)
            plain = f"{stem}.pt"
            if path.name != plain and plain in self.wrote and self.delete(plain):
                path = self.rename(path, plain, pointer, digest)
        self.prune()
        return path

    def rename(self, path: Path, name: str, pointer: str, digest: str) -> Path:
        """Give a file the name of the one that it replaces; the link points to a whole file at any moment."""
        renamed = self.folder / name
        self.wrote[name] = digest
        self.write_list()
        replace(beside(renamed), sum_line(digest, name))
        double(renamed, path)
        self.seen[name] = look(renamed)
        self.point(pointer, renamed, digest)
        self.delete(path.name)
        return renamed

    def point(self, pointer: str, path: Path, digest: str) -> None:
        """Point latest.pt or best.pt to a file."""
        link = self.folder / pointer
        if point(link, path.name):
            with suppress(OSError):  # it exists if the folder came from a disk without symbolic links
                beside(link).unlink(missing_ok=True)
        else:  # a file and its sum can't change in one step: for a moment there is none, and the list serves instead
            link.unlink(missing_ok=True)
            replace(beside(link), sum_line(digest, pointer))
            double(link, path)
        self.current[pointer] = path.name

    def free(self, stem: str) -> str:
        """Find a free name; a file of this run's that no link points to is deleted for it."""
        for n in itertools.count(1):
            name = f"{stem}.pt" if n == 1 else f"{stem}_{n}.pt"
            path = self.folder / name
            if name not in self.current.values():
                self.delete(name)
            if not os.path.lexists(path) and not os.path.lexists(beside(path)):
                return name
            if name not in self.current.values():
                log.warning("%s is not of this run: it stays, and the run's own gets another name", path)
        raise AssertionError

    def prune(self) -> None:
        """Delete all but the newest step_<n>.pt and one best_<n>.pt.

        After going back to an earlier checkpoint, the newest are not those with the highest step.
        """
        there = [name for name in self.wrote if os.path.lexists(self.folder / name)]
        steps = [name for name in there if name.startswith("step_")]
        for name in [*steps[: -self.keep], *(name for name in there if name.startswith("best_"))]:
            if name not in self.current.values():
                self.delete(name)

    def discard(self) -> None:
        """Delete all files that the run wrote.

        Raises:
            UserError: one can't be deleted.
        """
        with told("can't delete", self.folder):
            for pointer, name in self.current.items():
                if name is not None:
                    for path in (self.folder / pointer, beside(self.folder / pointer)):
                        path.unlink(missing_ok=True)
                    self.current[pointer] = None
            for name in list(self.wrote):
                self.delete(name)
            self.write_list()

    def delete(self, name: str) -> bool:
        """Delete a file and its sum if they are this run's, and return whether both are gone."""
        path, digest = self.folder / name, self.wrote.get(name)
        if digest is None:
            return False
        try:
            if os.path.lexists(path):
                if self.seen.get(name) != look(path) and sha256(path) != digest:
                    return False
                path.unlink()
            if beside(path).exists() and beside(path).read_bytes() == sum_line(digest, name):
                beside(path).unlink()
        except OSError as error:
            if not self.complained:
                log.warning("can't delete the old checkpoint %s: %s; the run goes on", path, error.strerror or error)
            self.complained = True
            return False
        self.wrote.pop(name)
        return True

    def aim(self, pointer: str) -> str | None:
        """Find the file that latest.pt or best.pt points to; None if it is missing or not of this run."""
        link = self.folder / pointer
        if link.is_symlink():
            target = os.readlink(link)
            lost = not link.exists() and "/" not in target  # a dangling link holds nothing
            return target if target in self.wrote or lost else None
        sums = beside(link)
        # on a disk without symbolic links, or in a copy that followed them, it is a file
        digest = sha256(link) or (read_text(sums, errors="replace") or "").partition(" ")[0]
        kind = POINTERS[pointer]
        return next((name for name, kept in self.wrote.items() if kept == digest and name.startswith(kind)), None)

    def end(self) -> None:
        """Leave a list of what is there, as far as the disk takes it: files deleted since the last are still in it."""
        if self.wrote:
            with suppress(OSError):
                self.write_list()

    def write_list(self) -> None:
        """Write the list to disk."""
        replace(self.folder / LIST, b"".join(sum_line(digest, name) for name, digest in self.wrote.items()))


def read_list(folder: Path) -> dict[str, str] | None:
    """Read the names and SHA-256 sums of the files that runs wrote here, oldest first; None without a list."""
    text = read_text(folder / LIST, errors="replace") if folder.is_dir() else None
    if text is None:
        return None
    pairs = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in pairs if re.fullmatch(r"(step|best)_\d+(_\d+)?\.pt", name)}


def current(folder: Path, pointer: str = "latest.pt") -> Path:
    """Return the file that latest.pt or best.pt points to; without such a link, the last one that was written."""
    link, kind = folder / pointer, POINTERS[pointer]
    if os.path.exists(link):
        return link
    wrote = read_list(folder)
    if wrote is None:
        names = [path.name for path in sorted(folder.glob(f"{kind}_*.pt"), key=step_of)]
    else:
        names = [name for name in wrote if name.startswith(kind) and os.path.exists(folder / name)]
    return folder / names[-1] if names else link


def step_of(path: Path) -> int:
    """Read a checkpoint's environment step from its name; -1 if it has none."""
    match = re.fullmatch(r"(?:step|best)_(\d+)(?:_\d+)?", path.stem)
    return int(match[1]) if match else -1


def beside(path: Path) -> Path:
    """Return the path of the file that holds another file's SHA-256."""
    return path.with_name(f"{path.name}.sha256")


def sum_line(digest: str, name: str) -> bytes:
    """Format a line as `sha256sum` does."""
    return f"{digest}  {name}\n".encode()


def sha256(path: Path) -> str:
    """Compute a file's SHA-256; empty if it is no file."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def look(path: Path) -> tuple[int, int, int]:
    """Return inode, size and time of a file, which change when the file does."""
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
