"""A trial as its job sees it, in whatever process that runs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pgrun.sweep.optuna.seeds import aggregate

HOPELESS = "hopeless"  # a trial's mark that all its jobs are to end


def open_storage(storage: str) -> Any:
    """A journal file by its path, or a database by its URL."""
    import optuna

    if "://" in storage:
        return optuna.storages.RDBStorage(storage)
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def open_trial(study: Any, number: int) -> Any:
    """A trial that may have been begun by another process; its values are those that it was given there."""
    import optuna

    (identifier,) = (t._trial_id for t in study.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(study, identifier)


@dataclass
class TrialReporter:
    """How a job reports to its trial."""

    storage: str
    study_name: str
    number: int
    pruner: Any
    every: int | None  # environment steps between evaluations: the trial's steps are their numbers
    seed: int | None = None  # the job's, where a trial has several
    seeds: Sequence[int] = ()  # of all its jobs
    over_seeds: str = "mean"

    def hopeless(self, steps: int, value: float) -> bool:
        """Report an evaluation; -> whether the pruner sees no point in going on.

        Where a trial has several seeds, what is reported is made of all of them: an evaluation counts once each has
        had it, and the answer is for all.
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
            warnings.simplefilter("ignore")  # of an evaluation that is done again after a checkpoint
            trial.report(value, step)
        prune = bool(trial.should_prune())
        if prune and len(self.seeds) > 1:
            trial.set_user_attr(HOPELESS, True)
        return prune

    def note(self, trial: Any, step: int, value: float) -> list[float]:
        """Keep this seed's evaluation with the trial; -> those of all seeds that have had it."""
        mine = {**trial.user_attrs.get(f"seed {self.seed}", {}), str(step): value}
        trial.set_user_attr(f"seed {self.seed}", mine)
        every = {seed: trial.user_attrs.get(f"seed {seed}", {}) for seed in self.seeds} | {self.seed: mine}
        return [values[str(step)] for values in every.values() if str(step) in values]
