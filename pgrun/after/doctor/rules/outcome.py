"""Rules on the return: no better than at the start, and in evaluation unlike in training."""

from __future__ import annotations

import numpy as np

from pgrun.after.doctor.evidence import EVALUATION, RETURN, Evidence
from pgrun.after.doctor.findings import Found, Rule

KEPT = 0.25  # of training's rise that evaluations have to show
ENOUGH = 5  # points of training's return
EVALUATIONS = 3  # points


def no_better(run: Evidence) -> Found | None:
    """Find a return that is no better than that of the untrained policy."""
    tag = RETURN if run.has(RETURN, ENOUGH) else EVALUATION
    if run.learning or not run.has(tag, EVALUATIONS) or run.setting("algo.init_from") is not None:
        return None
    first, last, error = run.rise(tag)
    return Found(
        f"{tag} is {first:.4g} at the start, when the policy is still random, and {last:.4g} at the end "
        f"(± {error:.2g})",
        otherwise="the other findings say why; without any, train longer (total_steps=…); pgrun doctor RUN --probe "
        "tries the recipe where the answer is known",
    )


def evaluation_differs(run: Evidence) -> Found | None:
    """Find evaluations that don't show what training has gained."""
    if not run.risen(RETURN) or not run.has(EVALUATION, EVALUATIONS):
        return None
    first, last, _ = run.rise(RETURN)
    shown = float(np.max(run.late(EVALUATION)))
    if shown >= first + KEPT * (last - first):
        return None
    return Found(
        f"{RETURN} rose from {first:.4g} to {last:.4g}, and {EVALUATION} is at best {shown:.4g} in the run's second "
        "half",
        run.choose("eval.stochastic=true"),
        "compare eval.env with env: wrappers, limits and arguments have to be those of training; if evaluation with "
        "eval.stochastic=true is as good as training, it is the mode of the policy that is bad",
    )


RULES = (
    Rule(
        "evaluation-unlike-training",
        "evaluation is unlike training",
        "other wrappers, other statistics, or a policy that needs its noise",
        "Machado et al. 2018, Revisiting the Arcade Learning Environment, section 3; Henderson et al. 2018",
        "https://arxiv.org/abs/1709.06560",
        evaluation_differs,
    ),
    Rule(
        "no-better-than-random",
        "the policy is no better than a random one",
        "this is a symptom, and the reasons stand above it",
        "Henderson et al. 2018, on baselines",
        "https://arxiv.org/abs/1709.06560",
        no_better,
        symptom=True,
    ),
)
