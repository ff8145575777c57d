"""A trial as its job sees it, in whatever process that runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any


def open_storage(storage: str) -> Any:
    """A journal file by its path, or a database by its URL."""
    import optuna

    if "://" in storage:
        return optuna.storages.RDBStorage(storage)
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))


def open_trial(study: Any, number: int) -> Any:
    """A trial that may have been begun by another process; its values are those that it was given there."""
    import optuna

    (identifier,) = (t._trial_id for t in study.get_trials(deepcopy=False) if t.number == number)
    return optuna.trial.Trial(study, identifier)


@dataclass
class Link:
    """How a job reports to its trial."""

    storage: str
    study_name: str
    number: int
    pruner: Any
    every: int | None  # environment steps between evaluations: the trial's steps are their numbers

    def hopeless(self, steps: int, value: float) -> bool:
        """Report an evaluation; -> whether the pruner sees no point in going on."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.load_study(
            study_name=self.study_name,
            storage=open_storage(self.storage),
            sampler=optuna.samplers.RandomSampler(),
            pruner=self.pruner,
        )
        trial = open_trial(study, self.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an evaluation that is done again after a checkpoint
            trial.report(value, steps // (self.every or 1))
        return bool(trial.should_prune())
