"""The end of a study: report the best trial and the importance of each key."""

from __future__ import annotations

import warnings
from typing import Any

from omegaconf import OmegaConf

from pgrun.sweep.session import SweepSession


def folders_of(trial: Any) -> list[str]:
    """List the folders of a trial's jobs within the sweep's."""
    folders = trial.user_attrs.get("folders") or [trial.user_attrs.get("folder")]
    return [folder for folder in folders if folder is not None]


def conclude(study: Any, session: SweepSession, over_seeds: str, seeds: list[int]) -> None:
    """Print the best trial and the keys' importance, and write both to optimization_results.yaml.

    It also tells the session which jobs failed and were replaced by others.

    Args:
        study: Optuna's.
        session: the sweep's.
        over_seeds: how a trial's value is computed from those of its seeds.
        seeds: the seeds of each trial; [] where a trial is one job.
    """
    from optuna.trial import TrialState

    from pgrun.run.console import say

    trials = study.get_trials(deepcopy=False)
    begun = [trial for trial in trials if trial.state != TrialState.WAITING]
    again = {trial.user_attrs.get("again") for trial in begun}
    session.replaced.update(name for trial in begun if trial.number in again for name in folders_of(trial))
    session.replaced.difference_update(
        name for trial in begun if trial.number not in again for name in folders_of(trial)
    )
    states = [trial.state for trial in trials]
    results: dict[str, Any] = {"name": "optuna", "trials": {s.name.lower(): states.count(s) for s in TrialState}}
    if TrialState.COMPLETE in states:
        best = next(t for t in trials if t.state == TrialState.COMPLETE and t.value == study.best_value)  # the first
        weights, why_not = importance(study)
        results |= {"best_trial": best.number, "best_params": best.params, "best_value": best.value}
        results |= {"importance": weights} if weights else {}
        of_seeds = f", the {over_seeds} of {len(seeds)} seeds" if len(seeds) > 1 else ""
        say(f"\nbest trial: {best.number} with {best.value:.1f}{of_seeds}")
        width = max(len(key) for key in best.params)
        for key in sorted(best.params, key=lambda key: -weights.get(key, 0.0)):
            value = best.params[key]
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            say(f"  {key:{width}}  {text:12}" + (f" importance {weights[key]:.2f}" if key in weights else ""))
        if why_not:
            say(f"  importance: {why_not}")
    OmegaConf.save(OmegaConf.create(results), session.folder / "optimization_results.yaml")


def importance(study: Any) -> tuple[dict[str, float], str]:
    """Estimate how much each key matters for good values.

    By PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255), which needs no other package.

    Returns:
        The share of each key, and a reason if there are none.
    """
    import optuna
    from optuna.trial import TrialState

    values = [trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))]
    if len(values) < 2:
        return {}, "it takes at least two finished trials"
    if len(set(values)) < 2:
        return {}, "all trials came to the same"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is experimental, and imprecise for few trials
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except Exception as error:  # it can't compare every space
            return {}, f"it can't be told ({error})"
    return {key: float(value) for key, value in shares.items()}, ""
