"""The types of a diagnosis: rules, what they find, and the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgrun.after.doctor.evidence import Evidence


@dataclass(frozen=True)
class Found:
    """One thing that a rule saw in a run.

    Attributes:
        evidence: the curve, its numbers and steps, in a sentence.
        changes: words to try, `key=value` each; the most promising first.
        otherwise: what to do where no key does it.
    """

    evidence: str
    changes: tuple[str, ...] = ()
    otherwise: str = ""


@dataclass(frozen=True)
class Rule:
    """One reason why a run may not learn, and how its curves show it.

    Attributes:
        name: a short name, as in `rewards-tiny`.
        title: the finding, in a line.
        why: what it does to learning.
        source: the paper or guide that says so.
        link: where that is.
        check: looks at a run; None where there is nothing to say.
        symptom: whether it says only that the run doesn't learn, and no reason.
    """

    name: str
    title: str
    why: str
    source: str
    link: str
    check: Callable[[Evidence], Found | None]
    symptom: bool = False


@dataclass(frozen=True)
class Finding:
    """A rule that applies to a run: its evidence, and what to change.

    Attributes:
        changes: words to try, `key=value` each; the most promising first.
        leave_out: what the command leaves out of what was typed, and which value then counts; empty where nothing.
        command: to paste; it keeps what the commands of the findings before it have changed.
        others: of the changes, those that may be tried instead: the commands before it don't mend them already.
        symptom: whether it says only that the run doesn't learn, and no reason.
    """

    rule: str
    title: str
    why: str
    evidence: str
    changes: tuple[str, ...]
    leave_out: str
    command: str
    others: tuple[str, ...]
    otherwise: str
    source: str
    link: str
    symptom: bool

    def record(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {**vars(self), "changes": list(self.changes), "others": list(self.others)}


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor says of a run.

    Attributes:
        folder: the run directory.
        algo: the algorithm's name.
        env: the environment's name.
        steps: environment steps that it took.
        learning: one sentence on how its return went.
        findings: the reasons first, then the symptoms.
        unseen: curves that rules look for and this run lacks, with what would log them.
        probes: lines on each probe environment, where they were asked for.
        probes_say: what to look at where one of them is not learnt; empty where all are.
    """

    folder: Path
    algo: str
    env: str
    steps: int
    learning: str
    findings: tuple[Finding, ...]
    unseen: tuple[str, ...] = ()
    probes: tuple[Any, ...] = field(default=())
    probes_say: str = ""

    def record(self) -> dict[str, Any]:
        """Return the diagnosis as plain values, for JSON."""
        return {
            "run": str(self.folder),
            **{key: getattr(self, key) for key in ("algo", "env", "steps", "learning")},
            "findings": [finding.record() for finding in self.findings],
            "unseen": list(self.unseen),
            "probes": [probe.record() for probe in self.probes],
            "probes_say": self.probes_say,
        }
