"""Lines, points and words of the picture that a script draws."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def picture(path: Path, draw: Callable[[], None]) -> Figure:
    """Call what draws one figure into a file; return the figure, of whose panels none is blank in the file."""
    plt.close("all")
    draw()
    (number,) = plt.get_fignums()
    figure = plt.figure(number)
    pixels = plt.imread(path)
    height, width, _ = pixels.shape
    for ax in figure.axes:
        left, bottom, right, top = ax.get_position().extents
        panel = pixels[int((1 - top) * height) : int((1 - bottom) * height), int(left * width) : int(right * width)]
        assert len(np.unique(panel.reshape(-1, panel.shape[-1]), axis=0)) > 2, ax.get_title(loc="left")
    return figure


def lines(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """The points of each line of a panel: xs and ys."""
    return [points(line) for line in ax.lines]


def named_lines(ax: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The points of each line that the legend names."""
    handles, labels = ax.get_legend_handles_labels()
    return {label: points(handle) for handle, label in zip(handles, labels, strict=True)}


def points(line: Any) -> tuple[list[float], list[float]]:
    """The points of a line: xs and ys."""
    return [float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()]


def words(ax: Axes) -> list[str]:
    """The texts that are written within a panel."""
    return [text.get_text() for text in ax.texts]
