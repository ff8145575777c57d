"""Clips of a report: how the best, the median and the worst run of an environment act."""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from pgrun.after.groups import Group, score
from pgrun.after.playing import PICKS, Frame, play_checkpoint
from pgrun.after.records import Record
from pgrun.after.video import write_video
from pgrun.errors import EnvFailed, NotTrusted, UserError
from pgrun.run.console import pasted, remarks_by

LONGEST = 500  # frames of a clip: a longer episode is cut
WIDEST = 360  # pixels: a wider picture loses every second row and column, or more of them


@dataclass(frozen=True)
class Clip:
    """A film of one episode.

    Attributes:
        name: best, median or worst: the run's place among all counted runs of its environment.
        method: the group's name.
        seed: the run's.
        score: the run's.
        shown: the return of the episode, or of the part that is shown.
        cut: how many steps are shown of a longer episode; 0 for a whole one.
        film: the content of an MP4 file.
    """

    name: str
    method: str
    seed: int
    score: float
    shown: float
    cut: int
    film: bytes


def choose(groups: list[Group]) -> dict[str, tuple[Group, Record]]:
    """Choose the best, the median and the worst of all counted runs; each run once, the median last."""
    order = sorted(
        ((group, run) for group in groups for run in group.counted),
        key=lambda one: score(one[1]) or 0.0,
        reverse=True,
    )
    if not order:
        return {}
    places = {"best": 0, "worst": len(order) - 1, "median": (len(order) - 1) // 2}
    chosen: dict[int, str] = {}
    for name, place in places.items():
        chosen.setdefault(place, name)
    names = {name: order[place] for place, name in chosen.items()}
    return {name: names[name] for name in PICKS if name in names}


def clips_of(groups: list[Group]) -> tuple[list[Clip], list[str]]:
    """Film an environment's best, median and worst run: the first episode of each one's final evaluation.

    Args:
        groups: the environment's groups.

    Returns:
        The clips, and why there are no more, one line a reason.
    """
    found: list[Clip] = []
    missing: dict[str, list[str]] = {}
    for name, (group, run) in choose(groups).items():
        try:
            shown, cut, film = filmed(run.folder)
        except NotTrusted:
            where = f"pgrun play {pasted(run.folder)} --trust --video {name}.mp4"
            missing.setdefault(f"it wasn't made here; {where} films it", []).append(run.folder.name)
            continue
        except (UserError, EnvFailed) as error:
            missing.setdefault(str(error), []).append(run.folder.name)
            continue
        found.append(Clip(name, group.method, run.seed, score(run) or 0.0, shown, cut, film))
    return found, [f"no clip of {', '.join(names)}: {why}" for why, names in missing.items()]


def filmed(folder: Path) -> tuple[float, int, bytes]:
    """Film the first episode of a run's final evaluation.

    Returns:
        The return of what is shown; how many steps that are of a longer episode, or 0; the film.

    Raises:
        UserError: the environment can't be drawn, the run's code is not trusted, or a package is missing.
        EnvFailed: the environment raised an error.
    """
    last: Frame | None = None
    with tempfile.TemporaryDirectory() as place, remarks_by(lambda _: None):
        path = Path(place) / "clip.mp4"
        with closing(play_checkpoint(folder)) as frames:
            for frame in write_video(path, map(smaller, islice(frames, LONGEST + 1))):
                last = frame
        if last is None:
            raise UserError("it has no steps to show")
        return last.total, 0 if last.ended else last.step, path.read_bytes()


def smaller(frame: Frame) -> Frame:
    """Reduce a wide picture to a clip's size, by leaving out rows and columns."""
    times = -(-frame.image.shape[1] // WIDEST)
    return replace(frame, image=np.ascontiguousarray(frame.image[::times, ::times]))
