"""Applying all rules to a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pgrun.after.doctor.commands import Advice, Commands
from pgrun.after.doctor.evidence import Evidence
from pgrun.after.doctor.findings import Diagnosis, Finding, Found, Rule
from pgrun.after.doctor.gather import explain_lack, gather
from pgrun.after.doctor.rules import RULES
from pgrun.errors import UserError
from pgrun.run.console import pasted

NEEDED = {  # curves that a rule can't do without, and what logs them where they are lacking
    "reward/largest": "a run of this version of pgrun",
    "gradient/snr": "diagnostics.gradient_variance=true",
}


def diagnose(folder: Path) -> Diagnosis:
    """Say why a run doesn't learn, from what it left in its directory. None of its code is used.

    Args:
        folder: the run directory.

    Raises:
        UserError: it is no run directory, or it has no curves.
    """
    return examined(folder)[1]


def examined(folder: Path) -> tuple[Evidence, Diagnosis]:
    """Return what is known of a run beside what is said of it; see `diagnose`."""
    run = gather(folder)
    if not run.curves and run.result.get("status") != "diverged":
        raise UserError(explain_lack(folder, run))
    return run, diagnosis(folder, run)


def middle(run: Evidence, tag: str) -> float:
    """Return a curve's median; 1 where that is 0 or the curve isn't logged."""
    values = run.values(tag)
    return (float(np.median(values)) or 1.0) if len(values) else 1.0


def diagnosis(folder: Path, run: Evidence) -> Diagnosis:
    """Apply all rules to what is known of a run."""
    seen = [(rule, found) for rule in RULES if (found := rule.check(run)) is not None]
    seen.sort(key=lambda pair: pair[0].symptom)
    commands = Commands(run)
    return Diagnosis(
        folder=folder,
        algo=run.names.get("algo", "?"),
        env=run.names.get("env", "?"),
        steps=run.steps,
        learning=run.lasting(),
        findings=tuple(completed(folder, rule, found, commands.advise(found.changes)) for rule, found in seen),
        unseen=tuple(f"{tag} ({how})" for tag, how in NEEDED.items() if run.curves and not run.tags(tag)),
    )


def completed(folder: Path, rule: Rule, found: Found, advice: Advice) -> Finding:
    """Put together what a rule says, what it found in a run, and a command to paste."""
    about = (rule.name, rule.title, rule.why, found.evidence, found.changes)
    otherwise = found.otherwise.replace("pgrun doctor RUN", f"pgrun doctor {pasted(folder.absolute())}")
    how = (advice.leave_out, advice.command, advice.others, otherwise)
    return Finding(*about, *how, rule.source, rule.link, rule.symptom)
