"""A run's curves in one small file, curves.npz, which reports read instead of TensorBoard's events."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pgrun.run.manifest import write_known

FILE = "curves.npz"
FINAL = (
    "eval_return_mean",
    "train_return_mean",
    "best_eval_return_mean",
)  # figures of TensorBoard's that are no curves
POINTS = 1000  # of a curve in the file, at most
LARGEST = 100_000_000  # bytes of all curves, unpacked: thousands of them


class Curve(NamedTuple):
    """One curve: `plt.plot(*curve)`."""

    steps: np.ndarray  # [K] int64, environment steps
    values: np.ndarray  # [K] float64


class Thinned:
    """A curve that is kept as it grows, as points of it at even distances, and its last one.

    Args:
        most: points to keep at most; where there are more, every second one is dropped.
    """

    def __init__(self, most: int = POINTS) -> None:
        self.most, self.every, self.seen = most, 1, 0
        self.steps: list[int] = []
        self.values: list[float] = []
        self.last: tuple[int, float] | None = None

    def add(self, step: int, value: float) -> None:
        """Add a point; one of the last point's step takes its place."""
        if self.last is not None and step == self.last[0]:
            if self.steps and self.steps[-1] == step:
                self.values[-1] = value
            self.last = step, value
            return
        self.last = step, value
        if self.seen % self.every == 0:
            self.steps.append(step)
            self.values.append(value)
            if len(self.steps) >= self.most:
                self.steps, self.values, self.every = self.steps[::2], self.values[::2], 2 * self.every
        self.seen += 1

    def points(self) -> Curve:
        """Return the points that are kept, and the last one."""
        more = [self.last] if self.last is not None and self.steps[-1:] != [self.last[0]] else []
        steps = [*self.steps, *(step for step, _ in more)]
        return Curve(np.array(steps, dtype=np.int64), np.array([*self.values, *(v for _, v in more)], dtype=np.float64))


class CurveRecorder:
    """All curves of a run, thinned, by TensorBoard's names of them.

    Args:
        earlier: curves of earlier sessions.
        start: the step that this session goes on from; later points of theirs are dropped.
    """

    def __init__(self, earlier: Mapping[str, Curve] | None = None, start: int = 0) -> None:
        self.curves: dict[str, Thinned] = {}
        for tag, curve in (earlier or {}).items():
            for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
                if step <= start:
                    self.add(tag, value, step)

    def add(self, tag: str, value: float, step: int) -> None:
        """Add one point of one curve."""
        self.curves.setdefault(tag, Thinned()).add(step, value)

    def write(self, folder: Path) -> None:
        """Write curves.npz into a run directory, in one step."""
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for tag, thinned in self.curves.items():
                member = io.BytesIO()
                np.save(member, np.stack([np.asarray(x, dtype=np.float64) for x in thinned.points()]))
                archive.writestr(f"{tag}.npy", member.getvalue())
        write_known(folder, FILE, file.getvalue())


def read_curve_file(folder: Path, *tags: str) -> dict[str, Curve] | None:
    """Read curves from curves.npz; None where it is missing or torn, as in a run that was killed, or is none.

    Args:
        folder: the run directory.
        tags: the curves to read; none: all. Those that the run doesn't have are left out.
    """
    try:
        with zipfile.ZipFile(folder / FILE) as archive:
            found = {}
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                return None
            for name in archive.namelist():
                if not tags or name.removesuffix(".npy") in tags:
                    steps, values = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                    found[name.removesuffix(".npy")] = Curve(steps.astype(np.int64), values)
            return found
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
