"""The files of a report: one HTML page that needs no other file, and pictures and tables beside it."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from pgrun import __version__
from pgrun.after.records import Record
from pgrun.after.report import figures, tables
from pgrun.after.report.clips import clips_of
from pgrun.after.report.own_files import check_free, write_files
from pgrun.after.report.study import Bounds, Environment, Study, study
from pgrun.after.statistics import Estimate

PAGE = "report.html"
TEXTS = (PAGE, "groups.csv", "runs.csv", "curves.csv", "report.md", "report.tex")


def write_report(
    records: Sequence[Record],
    out: Path,
    *,
    thresholds: Mapping[str, float] | None = None,
    bounds: Bounds | None = None,
    clips: bool = True,
) -> list[Path]:
    """Write a report on runs into a folder.

    Args:
        records: the runs.
        out: the folder, which is made if it isn't there.
        thresholds: by an environment's id the return to reach, in place of what it has registered.
        bounds: for each environment, by its id, the scores that count as 0 and as 1.
        clips: whether to film the best, the median and the worst run of each environment.

    Returns:
        The files, the page first.

    Raises:
        UserError: a file can't be written, or is there and was not written by a report.
    """
    check_free(out, TEXTS)
    numbers = study(records, thresholds, bounds)
    pictures: dict[str, bytes] = {}
    sections = [section(env, pictures, clips=clips) for env in numbers.environments]
    overall = over_all(numbers, pictures)
    page = (
        templates()
        .get_template("page.html.j2")
        .render(
            study=numbers,
            sections=sections,
            overall=overall,
            runs=tables.run_lines(numbers),
            version=__version__,
            now=time.strftime("%Y-%m-%d %H:%M"),
        )
    )
    tabled = (tables.groups_csv, tables.runs_csv, tables.curves_csv, tables.markdown, tables.latex)
    texts = dict(zip(TEXTS, (page, *(table(numbers) for table in tabled)), strict=True))
    files = {**{name: text.encode() for name, text in texts.items()}, **pictures}
    write_files(out, files)
    return [out / name for name in files]


def templates() -> Templates:
    """Load the page's template; what comes from runs is escaped."""
    found = Templates(loader=PackageLoader("pgrun.after.report", "."), autoescape=True, undefined=StrictUndefined)
    found.trim_blocks = found.lstrip_blocks = True
    return found


def inline(name: str, content: bytes, pictures: dict[str, bytes], kind: str = "image/png") -> dict[str, str]:
    """Keep a picture or film for its file, and return it as a part of the page."""
    file = f"{name}.{kind.rpartition('/')[2]}"
    pictures[file] = content
    return {"name": file, "source": f"data:{kind};base64,{base64.b64encode(content).decode()}"}


def films(env: Environment, name: str, pictures: dict[str, bytes]) -> dict[str, Any]:
    """Film the best, the median and the worst run of an environment."""
    clips, missing = clips_of([row.group for row in env.rows])
    shown = [{"clip": clip, **inline(f"{name}_{clip.name}", clip.film, pictures, "video/mp4")} for clip in clips]
    return {"shown": shown, "missing": missing}


def section(env: Environment, pictures: dict[str, bytes], *, clips: bool) -> dict[str, Any]:
    """Draw the figures of an environment, film its runs, and lay out its tables."""
    name = unused(re.sub(r"[^\w.-]+", "_", env.name), pictures)
    drawn = figures.learning_curves(env)
    counted = [(row.group.method, [np.array(row.group.scores)]) for row in env.rows if row.group.scores]
    several = len(counted) > 1 or any(len(scores[0]) > 1 for _, scores in counted)
    return {
        "env": env,
        "curves": [
            inline(f"{name}_curves" + (f"_{number + 1}" if len(drawn) > 1 else ""), png, pictures)
            for number, png in enumerate(drawn)
        ],
        "profile": inline(f"{name}_profile", figures.profiles(counted, "final score"), pictures) if several else None,
        "profiled": min(len(counted), figures.TOGETHER),
        "counted": len(counted),
        "head": tables.heads(env),
        "cells": list(tables.cells(env)),
        "improvement": matrix([row.group.method for row in env.rows], env.improvement),
        "films": films(env, name, pictures) if clips else None,
    }


def unused(name: str, pictures: dict[str, bytes]) -> str:
    """Return a name that no picture has yet."""
    number, free = 1, name
    while any(picture.startswith(f"{free}_") for picture in pictures):
        number += 1
        free = f"{name}_{number}"
    return free


def over_all(numbers: Study, pictures: dict[str, bytes]) -> dict[str, Any] | None:
    """Draw the figures over environments, and lay out their tables; None where no method has several."""
    if not numbers.overall:
        return None
    methods = [(each.method, each.scores) for each in numbers.overall]
    drawn = figures.aggregates(numbers.overall[:20], numbers.bounded)
    return {
        "aggregates": inline("overall_aggregates", drawn, pictures),
        "profile": inline("overall_profile", figures.profiles(methods, "normalised score"), pictures),
        "head": tables.overall_heads(numbers),
        "cells": list(tables.overall_cells(numbers)),
        "improvement": matrix([each.method for each in numbers.overall], numbers.improvement),
    }


def matrix(names: Sequence[str], improvement: dict[tuple[int, int], Estimate]) -> dict[str, Any] | None:
    """Lay out the probabilities of improvement as a square table; None for fewer than two groups."""
    numbers = sorted({number for pair in improvement for number in pair})
    if len(numbers) < 2:
        return None
    lines = []
    for i in numbers:
        cells = []
        for j in numbers:
            found = improvement.get((i, j))
            ends = "" if found is None or found.low is None else f"[{found.low:.2f}, {found.high:.2f}]"
            value = "" if found is None else f"{found.value:.2f}"
            cells.append({"value": value, "ends": ends, "colour": figures.shade(found.value) if found else "#f4f4f4"})
        lines.append({"name": names[i], "cells": cells})
    return {"names": [names[number] for number in numbers], "lines": lines, "of": len(names)}
