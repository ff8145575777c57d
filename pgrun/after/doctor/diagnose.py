"""Applying all rules to a run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from pgrun.after.doctor.evidence import Evidence, gather
from pgrun.after.doctor.findings import Diagnosis, Finding, Rule
from pgrun.after.doctor.rules import RULES
from pgrun.errors import UserError
from pgrun.run.directory import load_run

NEEDED = {  # curves that a rule can't do without, and what logs them where they are lacking
    "reward/largest": "a run of this version of pgrun",
    "gradient/snr": "diagnostics.gradient_variance=true",
}


def diagnose(folder: Path, *, probe: bool = False, trust: bool = False) -> Diagnosis:
    """Say why a run doesn't learn, from what it left in its directory.

    Args:
        folder: the run directory.
        probe: also train its recipe where the answer is known.
        trust: use its code although it was not made here.

    Raises:
        UserError: it is no run directory, or it has no curves yet.
    """
    run = gather(folder, trust=trust)
    if not run.curves:
        raise UserError(f"{folder} holds no curves yet: let it run for some log.every steps")
    said = diagnosis(folder, run)
    if not probe:
        return said
    from pgrun.after.doctor.probe import climb  # imports the algorithms

    scales = {"reward_scale": middle(run, "reward/largest"), "obs_scale": middle(run, "obs/largest_rms")}
    return replace(said, probes=tuple(climb(load_run(folder, trust=trust)[0], **scales)))


def middle(run: Evidence, tag: str) -> float:
    """Return a curve's median; 1 where that is 0 or the curve isn't logged."""
    values = run.values(tag)
    return (float(np.median(values)) or 1.0) if len(values) else 1.0


def diagnosis(folder: Path, run: Evidence) -> Diagnosis:
    """Apply all rules to what is known of a run."""
    found = [finding for rule in RULES if (finding := apply(rule, run)) is not None]
    return Diagnosis(
        folder=folder,
        algo=run.names.get("algo", "?"),
        env=run.names.get("env", "?"),
        steps=run.steps,
        learning=run.lasting(),
        findings=tuple(sorted(found, key=lambda finding: finding.symptom)),
        unseen=tuple(f"{tag} ({how})" for tag, how in NEEDED.items() if not run.tags(tag)),
    )


def apply(rule: Rule, run: Evidence) -> Finding | None:
    """Apply a rule, and complete what it found by a command to paste; None where it found nothing."""
    found = rule.check(run)
    if found is None:
        return None
    about = (rule.name, rule.title, rule.why, found.evidence, found.changes)
    return Finding(*about, command(run, found.changes[:1]), found.otherwise, rule.source, rule.link, rule.symptom)


def command(run: Evidence, changes: tuple[str, ...]) -> str:
    """Return the command that runs a run anew with some words changed; empty where nothing changes."""
    if not changes:
        return ""
    keys = {word.partition("=")[0] for word in changes}
    kept = [word for word in run.words if word.lstrip("+~").partition("=")[0] not in keys]
    return shlex.join(["pgrun", *kept, *changes])
