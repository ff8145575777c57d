"""Findings of an examination of an environment, and the report that holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import gymnasium as gym

from pgrun.errors import UserError, told


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an environment."""

    where: str  # the method, the space, …
    what: str
    right: str  # what would be right
    breaks: bool  # whether a run breaks or learns from something wrong; else it is a warning


@dataclass
class Report:
    """The findings of an examination of an environment."""

    name: str
    observations: str = ""  # their space, in words
    actions: str = ""
    action_space: gym.Space | None = None  # as policies see it; None if none can act in it
    findings: list[Finding] = field(default_factory=list)
    known: set[str] = field(default_factory=set)  # kinds of findings that are there already

    def add(self, kind: str, where: str, what: str, right: str = "", *, breaks: bool = True) -> None:
        """Add a finding, unless there is one of its kind."""
        if kind not in self.known:
            self.known.add(kind)
            self.findings.append(Finding(where, " ".join(what.split()), right, breaks))

    @property
    def breaks(self) -> bool:
        """Whether something was found that breaks a run."""
        return any(finding.breaks for finding in self.findings)


class Hopeless(Exception):
    """Raised where nothing more can be examined after what was found."""


@contextmanager
def found(report: Report, kind: str, where: str, *, breaks: bool = True) -> Iterator[None]:
    """Turn an error in the block into a finding."""
    try:
        yield
    except UserError as error:
        report.add(kind, where, str(error), breaks=breaks)
    except (Exception, SystemExit) as error:
        report.add(kind, where, f"it raises {told(error)}", breaks=breaks)
