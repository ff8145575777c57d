"""The rule on a run that ended because a number was no longer finite."""

from __future__ import annotations

from pgrun.after.doctor.evidence import Evidence
from pgrun.after.doctor.findings import Found, Rule
from pgrun.after.doctor.rules.actions import lower_rate


def diverged(run: Evidence) -> Found | None:
    """Find a run that diverged, before its first point or after it."""
    if run.result.get("status") != "diverged":
        return None
    when = f" (the last point of its curves is at step {run.last_step:,})" if run.curves else ", before its first point"
    said = f"it diverged at step {run.steps:,} ({run.cause or 'a loss or a gradient was no longer finite'}){when}"
    if run.blames_env:
        return Found(
            f"{said}; the environment made that number, and nothing was learnt from it",
            otherwise="look at what the environment and its wrappers return there",
        )
    return Found(said, (*lower_rate(run), *run.choose("algo.max_grad_norm=0.5")))


RULES = (
    Rule(
        "diverged",
        "the run diverged",
        "one number that is not finite makes all parameters so: nothing can be learnt from then on",
        "Goodfellow, Bengio & Courville 2016, Deep learning, section 8.2.4",
        "https://www.deeplearningbook.org/contents/optimization.html",
        diverged,
    ),
)
