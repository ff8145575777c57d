"""The tables of a report as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from pgrun.after.groups import score
from pgrun.after.report.study import Environment, Row, Study
from pgrun.after.statistics import Estimate
from pgrun.run.console import duration, shown

COLUMNS = (
    *("environment", "group", "seeds", "runs", "iqm", "iqm_low", "iqm_high", "mean", "median", "worst", "best"),
    *("threshold", "reached", "steps_to_threshold", "seconds_to_threshold"),
)
RUN_COLUMNS = ("environment", "group", "algo", "seed", "status", "env_steps", "score", "wall_seconds", "folder")
LATEX = {**{c: f"\\{c}" for c in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\^{}", "\\": r"\textbackslash{}"}


def figure(value: float | None) -> str:
    """Write a number for a reader: with as many digits as say something."""
    if value is None:
        return "–"
    size = abs(value)
    digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) else text.lstrip("-")


def spread(estimate: Estimate | None) -> str:
    """Write an estimate with its interval."""
    if estimate is None:
        return "–"
    value, low, high = estimate
    return figure(value) if low is None else f"{figure(value)} [{figure(low)}, {figure(high)}]"


def counts(row: Row) -> str:
    """Write how many seeds are counted, of how many; and how many runs, if a seed has several."""
    counted, seeds = row.group.seeds, len({record.seed for record in row.group.records})
    text = str(counted) if counted == seeds else f"{counted} of {seeds}"
    runs = len(row.group.counted)
    return text if runs == counted else f"{text} ({runs} runs)"


def arrival(row: Row, write: Callable[[float], str], value: float | None) -> str:
    """Write when a group reaches the threshold: the median, or how many runs do where that is not known."""
    counted = len(row.group.counted)
    if not counted:
        return "–"
    if value is None:
        return f"{row.reached} of {counted} reach it" if row.reached else "never"
    return write(value) + ("" if row.reached == counted else f" ({row.reached} of {counted})")


def heads(env: Environment) -> list[str]:
    """Return the head of an environment's table."""
    more = [f"steps to {env.threshold:g}", f"seconds to {env.threshold:g}"] if env.threshold is not None else []
    return ["group", "seeds", "IQM", "median", "mean", "worst", "best", *more]


def cells(env: Environment) -> Iterator[list[str]]:
    """Return the rows of an environment's table as text."""
    for row in env.rows:
        more = []
        if env.threshold is not None:
            more = [arrival(row, lambda x: f"{x:,.0f}", row.steps), arrival(row, duration, row.seconds)]
        numbers = map(figure, (row.median, row.mean, row.worst, row.best))
        yield [row.group.method, counts(row), spread(row.iqm), *numbers, *more]


def overall_heads(study: Study) -> list[str]:
    """Return the head of the table over environments."""
    return ["group", "runs", "IQM", "median", "mean", *(["optimality gap"] if study.bounded else [])]


def overall_cells(study: Study) -> Iterator[list[str]]:
    """Return the rows of the table over environments as text."""
    for each in study.overall:
        runs = str(sum(map(len, each.scores)))
        gap = [spread(each.gap)] if study.bounded else []
        yield [each.method, runs, spread(each.iqm), spread(each.median), spread(each.mean), *gap]


def groups_csv(study: Study) -> str:
    """Write all groups, with unrounded numbers, as CSV."""
    lines = []
    for env in study.environments:
        for row in env.rows:
            iqm = row.iqm or (None, None, None)
            numbers = (row.mean, row.median, row.worst, row.best, env.threshold)
            size = (row.group.seeds, len(row.group.records))
            when = (row.reached if env.threshold is not None else None, row.steps, row.seconds)
            lines.append((env.name, row.group.method, *size, *iqm, *numbers, *when))
    return as_csv(COLUMNS, lines)


def runs_csv(study: Study) -> str:
    """Write all runs as CSV."""
    lines = [
        (
            env.name,
            row.group.method,
            run.algo,
            run.seed,
            run.status,
            run.steps,
            score(run),
            run.wall_seconds,
            run.folder,
        )
        for env in study.environments
        for row in env.rows
        for run in row.group.records
    ]
    return as_csv(RUN_COLUMNS, lines)


def curves_csv(study: Study) -> str:
    """Write the averaged learning curves as CSV."""
    lines = []
    for env in study.environments:
        for row in env.rows:
            if row.curve is None or not row.curve.band:
                continue
            band = row.curve.band if len(row.curve.band) == 3 else (*row.curve.band, None, None)
            for number, step in enumerate(row.curve.steps.tolist()):
                ends = [None if part is None else float(part[number]) for part in band]
                lines.append((env.name, row.group.method, step, *ends))
    return as_csv(("environment", "group", "env_steps", "iqm", "iqm_low", "iqm_high"), lines)


def as_csv(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """Write lines as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if cell is None else cell for cell in line] for line in lines)
    return file.getvalue()


def titled(study: Study) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Return the tables with their titles."""
    for env in study.environments:
        yield env.name, heads(env), list(cells(env))
    if study.overall:
        yield f"Over {', '.join(study.shared)}: normalised scores", overall_heads(study), list(overall_cells(study))


def markdown(study: Study) -> str:
    """Write the tables as Markdown."""
    parts = []
    for title, head, lines in titled(study):
        rows = [head, ["---"] * len(head), *lines]
        text = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
        parts.append(f"## {title}\n\n{text}\n")
    notes = [f"- {note}" for note in study.notes]
    notes += [f"- {env.name}: {note}" for env in study.environments for note in env.notes]
    return "\n".join([*parts, *(["## Notes\n", *notes] if notes else [])]).rstrip("\n") + "\n"


def latex(study: Study) -> str:
    """Write the tables as LaTeX, for the package booktabs."""
    parts = []
    for title, head, lines in titled(study):
        body = [" & ".join(map(escaped, row)) + r" \\" for row in lines]
        parts += [
            f"% {title}",
            r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
            r"\toprule",
            " & ".join(map(escaped, head)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Write a text so that LaTeX prints it."""
    text = "".join(LATEX.get(character, character) for character in text)
    return text.replace("−", "$-$").replace("–", "--")


def run_lines(study: Study) -> list[list[str]]:
    """Return the rows of the page's table of all runs."""
    return [
        [
            env.name,
            row.group.method,
            str(run.seed),
            run.status,
            "–" if run.steps is None else f"{run.steps:,}",
            figure(score(run)),
            "–" if run.wall_seconds is None else duration(run.wall_seconds),
            str(shown(run.folder)),
        ]
        for env in study.environments
        for row in env.rows
        for run in row.group.records
    ]
