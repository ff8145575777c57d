"""A run's curves, as its TensorBoard files hold them."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.run.curve_file import FINAL, Curve


class Curves(dict[str, Curve]):
    """Curves by name; one that isn't there is a KeyError that names those that are like it."""

    def __missing__(self, name: str) -> Curve:
        near = difflib.get_close_matches(str(name), self, 3)
        hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(sorted(self)) or 'none yet'}"
        raise KeyError(f"there is no curve {name}; {hint}")


def read_curves(folder: Path) -> Curves:
    """Read all curves of a run directory, by TensorBoard's names of them; {} where there are none yet."""
    if not any(folder.glob("events.out.tfevents.*")):
        return Curves()
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    points = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag not in FINAL}
    return Curves(
        {
            tag: Curve(
                np.array([x.step for x in each], dtype=np.int64), np.array([x.value for x in each], dtype=np.float64)
            )
            for tag, each in points.items()
        }
    )
