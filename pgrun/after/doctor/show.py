"""A diagnosis on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pgrun.after.doctor.findings import Diagnosis, Finding
from pgrun.run.console import shown


def page(diagnosis: Diagnosis, width: int = 100, *, colour: bool = False) -> str:
    """Format a diagnosis for a terminal of this width."""
    return "\n".join(lines(diagnosis, max(width, 60), colour=colour)) + "\n"


def lines(diagnosis: Diagnosis, width: int, *, colour: bool) -> Iterator[str]:
    """Yield the lines of a diagnosis."""
    where = f"{diagnosis.algo} on {diagnosis.env}, {diagnosis.steps:,} steps, {shown(diagnosis.folder.absolute())}"
    yield where
    yield from wrapped(diagnosis.learning, width, "")
    for number, finding in enumerate(diagnosis.findings, start=1):
        yield ""
        yield from of_finding(finding, f"{number}", width, colour=colour)
    if not diagnosis.findings:
        yield ""
        yield "no finding: none of the rules applies"
    if diagnosis.probes:
        yield ""
        yield "probes: your recipe where the answer is known"
        for probe in diagnosis.probes:
            yield from wrapped(probe.line(), width, "  ")
        if diagnosis.probes_say:
            yield from wrapped(diagnosis.probes_say, width, "  ")
    if diagnosis.unseen:
        yield ""
        yield from wrapped(f"not logged, so not looked at: {'; '.join(diagnosis.unseen)}", width, "")


def of_finding(finding: Finding, number: str, width: int, *, colour: bool) -> Iterator[str]:
    """Yield the lines of one finding."""
    title = f"{finding.title}  [{finding.rule}]"
    yield f"{number}. " + (f"\x1b[1m{title}\x1b[0m" if colour else title)
    yield from wrapped(finding.evidence, width, "   seen    ")
    yield from wrapped(finding.why, width, "   why     ")
    if finding.command:
        yield f"   try     {finding.command}"  # in one line, to be pasted
    if finding.leave_out:
        yield from wrapped(f"({', or '.join((finding.leave_out, *finding.others))})", width, "           ")
    elif finding.others:
        yield from wrapped(f"or {', '.join(finding.others)}", width, "           ")
    if finding.otherwise:
        yield from wrapped(finding.otherwise, width, "   or      " if finding.command else "   try     ")
    yield from wrapped(f"{finding.source}, {finding.link}", width, "   source  ")


def wrapped(text: str, width: int, first: str) -> list[str]:
    """Break a text into lines, the later ones indented as far as the first."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
