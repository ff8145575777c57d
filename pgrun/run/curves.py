"""A run's curves, as its TensorBoard files hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.run.curve_file import FINAL, Curve


def read_curves(folder: Path) -> dict[str, Curve]:
    """Read all curves of a run directory, by TensorBoard's names of them; {} where there are none yet."""
    if not any(folder.glob("events.out.tfevents.*")):
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    points = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag not in FINAL}
    return {
        tag: Curve(
            np.array([x.step for x in each], dtype=np.int64), np.array([x.value for x in each], dtype=np.float64)
        )
        for tag, each in points.items()
    }
