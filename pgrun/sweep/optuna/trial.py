"""A trial as one of its jobs sees it, in whatever process the job runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgrun.sweep.optuna.seeds import aggregate

HOPELESS = "hopeless"  # the attribute of a trial all of whose jobs are to end


def open_storage(storage: str) -> Any:
    """Open a storage: a journal file by its path, or a database by its URL."""
    import optuna

    if "://" in storage:
        return optuna.storages.RDBStorage(storage)
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def open_trial(study: Any, number: int) -> Any:
    """Open a trial of a study, perhaps begun by another process, with the values that it was given there."""
    import optuna

    (identifier,) = (t._trial_id for t in study.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(study, identifier)


@dataclass
class TrialReporter:
    """Reports a job's evaluations to its trial."""

    storage: str
    study_name: str
    number: int
    pruner: Any
    every: int | None  # environment steps between evaluations; a trial's steps count evaluations
    seed: int | None = None  # the job's, if the trial has several
    seeds: Sequence[int] = ()  # of all the trial's jobs
    over_seeds: str = "mean"

    def hopeless(self, steps: int, value: float) -> bool:
        """Report an evaluation, and return whether the pruner wants to stop the trial.

        If a trial has several seeds, the values of all are combined: an evaluation counts once each seed has reached
        it, and the answer holds for all.

        Args:
            steps: environment steps of the job.
            value: the mean return of the evaluation.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(
            study_name=self.study_name,
            storage=open_storage(self.storage),
            sampler=optuna.samplers.RandomSampler(),
            pruner=self.pruner,
        )
        trial, step = open_trial(study, self.number), steps // (self.every or 1)
        if len(self.seeds) > 1:
            if trial.user_attrs.get(HOPELESS):
                return True
            known = self.note(trial, step, value)
            if len(known) < len(self.seeds):
                return False
            value = aggregate(known, self.over_seeds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an evaluation may be repeated after a checkpoint
            trial.report(value, step)
        prune = bool(trial.should_prune())
        if prune and len(self.seeds) > 1:
            trial.set_user_attr(HOPELESS, True)
        return prune

    def note(self, trial: Any, step: int, value: float) -> list[float]:
        """Keep this seed's evaluation with the trial.

        Returns:
            The evaluations at this step of all seeds that have reached it.
        """
        own_values = {**trial.user_attrs.get(f"seed {self.seed}", {}), str(step): value}
        trial.set_user_attr(f"seed {self.seed}", own_values)
        by_seed = {seed: trial.user_attrs.get(f"seed {seed}", {}) for seed in self.seeds} | {self.seed: own_values}
        return [values[str(step)] for values in by_seed.values() if str(step) in values]
