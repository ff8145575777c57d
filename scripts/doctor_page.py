"""The generated parts of docs/doctor.md: the rules, and what they said of the trials' runs."""

from __future__ import annotations

import csv
from pathlib import Path

from pgrun.after.doctor.rules import RULES

RESULTS = Path(__file__).resolve().parent / "results" / "doctor.csv"


def rules() -> str:
    """List every rule with its reason and its source, in Markdown."""
    lines = ["| finding | what it says | why that matters | source |", "| --- | --- | --- | --- |"]
    lines += [f"| `{r.name}` | {r.title} | {r.why} | [{r.source}]({r.link}) |" for r in RULES]
    return "\n".join(lines)


def trials() -> str:
    """Show what the doctor named in each trial, in Markdown."""
    with open(RESULTS, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| fault | algorithm | environment | named | as it should be |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        right = "yes" if row["right"] == "True" else "**no**"
        lines.append(f"| {row['fault']} | {row['algo']} | {row['env']} | {row['named'] or '–'} | {right} |")
    return "\n".join(lines)
