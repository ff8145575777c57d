"""The checkpoints that a run wrote into its folder: no other file there is ever overwritten or deleted."""

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

log = logging.getLogger("pgrun")

LIST = ".written-by-pgrun"
POINTERS = {"latest.pt": "step", "best.pt": "best"}  # and how the names of the files begin to which they point


class Written:
    """The files that a run has in its checkpoints' folder, by a list of their names and SHA-256 that it keeps there.

    A file is written once, under a name that was free, after its line in the list and its `<name>.sha256`, in the form
    that `sha256sum -c` reads: so at any moment each has the sum beside it that is its own. Which of them is the latest
    and the best is said by one link each, which changes at once. A file whose name is not in the list, or whose content
    is another, is somebody else's.

    Args:
        folder: where the checkpoints are.
        keep: how many step_<n>.pt to keep.
        resumed: whether the run goes on from a checkpoint.

    Raises:
        UserError: latest.pt or best.pt is somebody else's.
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
        self.seen: dict[str, tuple[int, int, int]] = {}  # what this process wrote need not be read again
        self.complained = False

    def begin(self) -> None:
        """Delete what a crash left half written, and start the list.

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
        """Write a checkpoint <stem>.pt, point to it, and delete what is older than need be; -> the file.

        Raises:
            UserError: it can't be written, as on a full disk. What was there before is as it was.
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
        """Give a file the name of the one that it took the place of; at any moment the pointer's file is whole."""
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
        """Make latest.pt or best.pt stand for a file."""
        link = self.folder / pointer
        if point(link, path.name):
            with suppress(OSError):  # there is one where the folder has moved here from a disk without symbolic links
                beside(link).unlink(missing_ok=True)
        else:  # a file and its sum can't change at once: for a moment there is none, and the list says which is current
            link.unlink(missing_ok=True)
            replace(beside(link), sum_line(digest, pointer))
            double(link, path)
        self.current[pointer] = path.name

    def free(self, stem: str) -> str:
        """Find a name that no file has; one of this run's own to which nothing points gives way."""
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
        """Delete all but the newest step_<n>.pt, which after going back are not the furthest, and all but one best."""
        there = [name for name in self.wrote if os.path.lexists(self.folder / name)]
        steps = [name for name in there if name.startswith("step_")]
        for name in [*steps[: -self.keep], *(name for name in there if name.startswith("best_"))]:
            if name not in self.current.values():
                self.delete(name)

    def discard(self) -> None:
        """Delete all that the run wrote.

        Raises:
            UserError: it can't be deleted.
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
        """Delete a file and its sum, if they are this run's; -> whether both are gone."""
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
        """Find the file that latest.pt or best.pt stands for; None where it is missing, or not of this run."""
        link = self.folder / pointer
        if link.is_symlink():
            target = os.readlink(link)
            lost = not link.exists() and "/" not in target  # it holds nothing
            return target if target in self.wrote or lost else None
        sums = beside(link)
        if link.exists():  # a disk without symbolic links, or a copy that followed them
            digest = sha256(link)
        else:
            digest = sums.read_text(encoding="utf-8", errors="replace").partition(" ")[0] if sums.exists() else ""
        kind = POINTERS[pointer]
        return next((name for name, each in self.wrote.items() if each == digest and name.startswith(kind)), None)

    def write_list(self) -> None:
        """Put the list on disk."""
        replace(self.folder / LIST, b"".join(sum_line(digest, name) for name, digest in self.wrote.items()))


def read_list(folder: Path) -> dict[str, str] | None:
    """Read which files runs wrote here, oldest first, with their SHA-256; None where no list was kept."""
    try:
        text = (folder / LIST).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    pairs = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in pairs if re.fullmatch(r"(step|best)_\d+(_\d+)?\.pt", name)}


def current(folder: Path, pointer: str = "latest.pt") -> Path:
    """Find where latest.pt or best.pt points; the last that was written where a crash or a copy left no such link."""
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
    """Read a checkpoint's environment step off its name; -1 where it has none."""
    found = re.fullmatch(r"(?:step|best)_(\d+)(?:_\d+)?", path.stem)
    return int(found[1]) if found else -1


def beside(path: Path) -> Path:
    """Name the file that holds another's SHA-256."""
    return path.with_name(f"{path.name}.sha256")


def sum_line(digest: str, name: str) -> bytes:
    """Write a line as `sha256sum` does."""
    return f"{digest}  {name}\n".encode()


def sha256(path: Path) -> str:
    """Compute a file's SHA-256; "" of what is no file."""
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def look(path: Path) -> tuple[int, int, int]:
    """Tell a file from another, or from what it was, without reading it."""
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
