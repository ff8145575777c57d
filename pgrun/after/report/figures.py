"""The figures of a report, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from pgrun.after import statistics
from pgrun.after.report.study import Environment, Overall, Row

TOGETHER = 8  # curves in one figure, at most
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7f3fbf", "#555555")
LINES = ("-", "--", "-.", ":")
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def short(text: str, width: int = 34, lines: int = 3) -> str:
    """Break a long name into a few lines, and cut what is longer than these."""
    broken = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    return "\n".join(broken if len(broken) <= lines else [*broken[: lines - 1], f"{broken[lines - 1][: width - 1]}…"])


@contextmanager
def drawn(width: float, height: float) -> Iterator[tuple[Any, Callable[[], bytes]]]:
    """Make axes, and a function that returns the picture as PNG."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)

        def png() -> bytes:
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=150)
            return file.getvalue()

        yield figure.add_subplot(), png


def legend(axes: Any) -> None:
    """Put the names beside the curves, where they hide none."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, labelspacing=0.8)


def learning_curves(env: Environment) -> list[bytes]:
    """Draw the groups' learning curves: the interquartile mean, its band, the worst seed, and runs apart."""
    rows = [row for row in env.rows if row.curve is not None]
    limits = heights(rows, env.threshold)
    return [learning_curves_of(env, rows[at : at + TOGETHER], limits) for at in range(0, len(rows), TOGETHER)]


def heights(rows: Sequence[Row], threshold: float | None) -> tuple[float, float]:
    """Return the limits of the axis of returns, the same for all figures of an environment."""
    values = [row.curve.values.ravel() for row in rows if row.curve and row.curve.values.size]
    values += [curve.values for row in rows if row.curve for _, curve in row.curve.others]
    if not values:
        return 0.0, 1.0
    every = np.concatenate([*values, np.array([] if threshold is None else [threshold])])
    low, high = float(every.min()), float(every.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def learning_curves_of(env: Environment, rows: Sequence[Row], limits: tuple[float, float]) -> bytes:
    """Draw the learning curves of a few groups."""
    with drawn(9.0, max(3.4, 0.5 * len(rows) + 0.6)) as (axes, png):
        for row, colour in zip(rows, COLOURS, strict=False):
            draw_group(axes, row, colour)
        if env.threshold is not None:
            axes.axhline(env.threshold, color="#888888", linewidth=0.9, linestyle=(0, (2, 3)), zorder=0)
            axes.annotate(
                f"threshold {env.threshold:g}",
                (0, env.threshold),
                xycoords=("axes fraction", "data"),
                xytext=(3, 2),
                textcoords="offset points",
                fontsize=7,
                color="#666666",
            )
        axes.set_ylim(*limits)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("environment steps")
        axes.set_ylabel("return")
        legend(axes)
        return png()


def draw_group(axes: Any, row: Row, colour: str) -> None:
    """Draw one group's curve."""
    curve, name = row.curve, short(row.group.method)
    if curve is None:
        return
    seeds, runs = row.group.seeds, len(curve.values)
    more = f", {runs} runs" if runs > seeds else ""
    label = f"{name} ({seeds} seed{'s' * (seeds != 1)}{more})" if runs else f"{name} (none counted)"
    if curve.band:
        marker = "o" if len(curve.steps) < 3 else None
        axes.plot(curve.steps, curve.band[0], color=colour, label=label, linewidth=1.9, marker=marker, markersize=4)
    else:
        axes.plot([], [], color=colour, label=label)
    if len(curve.band) == 3:
        axes.fill_between(curve.steps, *curve.band[1:], color=colour, alpha=0.16, linewidth=0)
        axes.plot(curve.steps, curve.values[curve.worst], color=colour, linewidth=0.8, linestyle="--", alpha=0.8)
    for status, (steps, values) in curve.others:
        axes.plot(steps, values, color=colour, linewidth=0.8, linestyle=":")
        axes.plot(steps[-1:], values[-1:], color=colour, marker="x" if "diverged" in status else "|", markersize=6)


def profiles(methods: Sequence[tuple[str, Sequence[np.ndarray]]], label: str) -> bytes:
    """Draw performance profiles: the share of runs above each score.

    Args:
        methods: names with scores, of each environment an array; at most eight are drawn.
        label: of the axis of scores.
    """
    every = np.concatenate([x for _, scores in methods for x in scores])
    margin = 0.02 * float(every.max() - every.min()) or 1.0
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 400)
    few = methods[:TOGETHER]
    with drawn(9.0, max(2.8, 0.5 * len(few) + 0.4)) as (axes, png):
        for number, (name, scores) in enumerate(few):
            share = statistics.profile(scores, thresholds)
            line = LINES[number % len(LINES)]
            axes.step(thresholds, share, color=COLOURS[number], linestyle=line, label=short(name), where="post")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(label)
        axes.set_ylabel("share of runs above it")
        legend(axes)
        return png()


def aggregates(overall: Sequence[Overall], bounded: bool) -> bytes:
    """Draw the aggregates over environments with their intervals, one column a statistic."""
    columns = [("IQM", "iqm"), ("median", "median"), ("mean", "mean")]
    columns += [("optimality gap (less is better)", "gap")] if bounded else []
    with rc_context(STYLE):
        figure = Figure(figsize=(9.0, 0.9 + 0.42 * len(overall)), layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(1, len(columns), sharey=True)
        for axes, (title, name) in zip(np.atleast_1d(every), columns, strict=True):
            for place, each in enumerate(overall):
                value, low, high = getattr(each, name)
                colour = COLOURS[place % len(COLOURS)]
                if low is not None:
                    axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.35)
                axes.plot([value], [place], "|", color=colour, markersize=13, markeredgewidth=2.2)
            axes.set_title(title, fontsize=9)
            axes.set_ylim(len(overall) - 0.5, -0.5)
            axes.grid(axis="y", visible=False)
        np.atleast_1d(every)[0].set_yticks(range(len(overall)), [short(each.method, 30, 2) for each in overall])
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150)
        return file.getvalue()


def shade(probability: float) -> str:
    """Return a table cell's colour for a probability: white at 1/2, blue above, orange below."""
    red, green, blue, _ = colormaps["PuOr"](0.5 + 0.6 * (probability - 0.5))
    return f"#{int(255 * red):02x}{int(255 * green):02x}{int(255 * blue):02x}"
