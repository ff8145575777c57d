"""Optuna asks for the jobs: search spaces in Hydra's syntax, pruning, storage that outlives the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.pgrun_launcher._base import SweepLauncher
from hydra_plugins.pgrun_launcher._worker import Job
from hydra_plugins.pgrun_sweeper._trial import Link, open_storage, open_trial


class OptunaSweeper(Sweeper):
    """A trial for each job, through whatever launcher is chosen.

    The storage knows each trial's number and values from its beginning, so after a kill the same command finds them:
    trials that ended are kept, those that were running go on, and those that failed are tried once more.
    """

    def __init__(
        self,
        *,
        sampler: Callable[..., Any],
        pruner: Any,
        n_trials: int,
        n_jobs: int | None,
        direction: str,
        seed: int | None,
        storage: str | None,
        study_name: str,
        params: DictConfig | None,
    ) -> None:
        self.sampler, self.pruner, self.n_trials, self.n_jobs = sampler, pruner, n_trials, n_jobs
        self.direction, self.seed, self.storage, self.study_name = direction, seed, storage, study_name
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `sweep`."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until there are `n_trials`."""
        import optuna

        from pgrun.errors import UserError

        if not isinstance(self.launcher, SweepLauncher):
            raise UserError("hydra/sweeper=optuna works with hydra/launcher=basic, joblib, ray or slurm")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(str(self.config.hydra.sweep.dir)).resolve()
        self.search, self.fixed = search_space([*(f"{k}={v}" for k, v in self.params.items()), *arguments])
        if not self.search:
            raise UserError("there is nothing to search: give a key values, as optimizer.lr='interval(1e-4,1e-2)'")
        self.storage = self.storage or str(folder / "optuna.journal")
        self.study = self.open_study()
        self.check_space(folder)
        self.check_fixed()
        OmegaConf.save(self.config, folder / "multirun.yaml")
        over, running = self.take_up()
        left = self.n_trials - over
        wanted = min(left, self.n_jobs or left)
        with self.launcher.at_work(wanted if left > 0 else 0):
            if left > 0:
                kept = f", {over} over before, {len(running)} to go on" if over or running else ""
                self.launcher.announce(f"{self.n_trials} trials{kept}")
                self.run(over, running, min(wanted, self.n_jobs or self.launcher.parallel))
        self.conclude(folder)

    def open_study(self) -> Any:
        """The study in the storage, or a new one; UserError where either can't be."""
        import optuna

        from pgrun.errors import UserError

        key = "hydra.sweeper.sampler"
        try:
            tried = optuna.create_study(sampler=self.sampler(seed=self.seed))  # in memory: whether it samples at all
            tried.ask({key: distribution for key, (distribution, _) in self.search.items()})
            key = f"hydra.sweeper.storage={self.storage}"
            return optuna.create_study(
                study_name=self.study_name,
                storage=open_storage(str(self.storage)),
                direction=self.direction,
                pruner=self.pruner,
                load_if_exists=True,
            )
        except Exception as error:  # a database's driver has errors of its own
            raise UserError(f"{key}: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from error

    def run(self, over: int, running: list[int], at_once: int) -> None:
        """Keep `at_once` trials running: those that were before, then new ones."""
        begun, busy = over, 0
        while True:
            while busy < at_once and begun < self.n_trials:
                job = self.begin(running.pop(0) if running else None)
                begun += 1
                if (result := self.launcher.over(job)) is not None:  # killed before the storage was told
                    self.end(job, result)
                    self.launcher.progress.count()
                else:
                    self.launcher.submit(job)
                    busy += 1
            if not busy:
                return
            job, result = self.launcher.next_result()
            busy -= 1
            self.end(job, result)

    def take_up(self) -> tuple[int, list[int]]:
        """What an earlier process left; -> how many trials are over, and the numbers of those that were running."""
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.FAIL and trial.number not in again:
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
        over = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        self.launcher.ended = over
        return over, [trial.number for trial in trials if trial.state == TrialState.RUNNING]

    def check_space(self, folder: Path) -> None:
        """UserError where the search space is not the one that the storage's trials are from."""
        from pgrun.errors import UserError

        space = {key: repr(distribution) for key, (distribution, _) in sorted(self.search.items())}
        before = self.study.user_attrs.get("space")
        if before is None:
            self.study.set_user_attr("space", space)
        elif before != space:
            changed = ", ".join(key for key in sorted({*before, *space}) if before.get(key) != space.get(key))
            raise UserError(f"{folder} was searched over another space ({changed} changed): choose another folder")

    def check_fixed(self) -> None:
        """UserError where what is not searched is composed otherwise than when the storage's trials began.

        One trial is composed again for each choice of groups' members, since these may bring other fixed values.
        """
        from pgrun.sweep import check_unchanged

        trials = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        self.launcher.enlist(t.user_attrs["folder"] for t in trials.values() if "folder" in t.user_attrs)
        for kept in self.study.user_attrs.get("fixed", {}).values():
            job = self.launcher.job(kept["trial"], self.overrides(trials[kept["trial"]].params))
            what = f"the study {self.study_name} in {self.storage}"
            over = "with another hydra.sweeper.study_name or another hydra.sweep.dir"
            check_unchanged(kept["config"], job.config, what, over)

    def keep_fixed(self, job: Job) -> None:
        """Note in the storage what a trial's config is, for `check_fixed`."""
        from pgrun.run_directory import flat

        choices = job.config.hydra.runtime.choices
        groups = ",".join(f"{key}={choices[key]}" for key in sorted(self.search) if key in choices)
        fixed = self.study.user_attrs.get("fixed", {})
        if groups not in fixed:
            kept = {"trial": job.number, "config": flat(job.config)}
            self.study.set_user_attr("fixed", {**fixed, groups: kept})

    def overrides(self, values: dict[str, Any]) -> list[str]:
        """The command line of a job, with these values of what is searched."""
        searched = [f"{key}={texts.get(str(values[key]), values[key])}" for key, (_, texts) in self.search.items()]
        return [*self.fixed, *searched]

    def begin(self, number: int | None) -> Job:
        """Ask for a trial, or go on with this one; -> its job."""
        import numpy as np

        if number is None:
            # a sampler for each trial, so that a study that was killed goes on as if it had not been
            number = len(self.study.get_trials(deepcopy=False))
            seed = None if self.seed is None else int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
            self.study.sampler = self.sampler(seed=seed)
            trial = self.study.ask()
        else:
            trial = open_trial(self.study, number)
        values = {key: trial._suggest(key, distribution) for key, (distribution, _) in self.search.items()}
        job = self.launcher.job(trial.number, self.overrides(values))
        self.launcher.enlist([self.launcher.place(job)])
        trial.set_user_attr("folder", self.launcher.place(job))
        self.keep_fixed(job)
        every = job.config.eval.every
        if every is not None:
            assert self.storage is not None
            job.trial = Link(self.storage, self.study_name, trial.number, self.pruner, every)
        return job

    def end(self, job: Job, result: dict[str, Any]) -> None:
        """Tell the storage what came of a job; one that was interrupted stays a running trial, for next time."""
        from optuna.trial import TrialState

        from pgrun.sweep import WORST, objective

        status = result["status"]
        if status == "finished":
            self.study.tell(job.number, objective(result))
        elif status == "diverged":
            self.study.tell(job.number, WORST if self.direction == "maximize" else -WORST)
        elif status == "pruned":
            self.study.tell(job.number, state=TrialState.PRUNED)
        elif status == "failed":
            self.study.tell(job.number, state=TrialState.FAIL)

    def conclude(self, folder: Path) -> None:
        """Write the best trial's values to optimization_results.yaml, and name the folders that others stand for."""
        from optuna.trial import TrialState

        from pgrun.app import replaced

        trials = self.study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if trial.state != TrialState.WAITING]
        again = {trial.user_attrs.get("again") for trial in begun}
        replaced.update(trial.user_attrs.get("folder", "") for trial in begun if trial.number in again)
        replaced.difference_update(trial.user_attrs.get("folder", "") for trial in begun if trial.number not in again)
        states = [trial.state for trial in trials]
        results: dict[str, Any] = {"name": "optuna", "trials": {s.name.lower(): states.count(s) for s in TrialState}}
        if TrialState.COMPLETE in states:
            best = self.study.best_trial
            results |= {"best_trial": best.number, "best_params": best.params, "best_value": best.value}
        OmegaConf.save(OmegaConf.create(results), folder / "optimization_results.yaml")


def search_space(overrides: list[str]) -> tuple[dict[str, tuple[Any, dict[str, str]]], list[str]]:
    """The keys that are searched, with their distributions and how choices are written; and the other overrides.

    A key that is given twice is what it is given last: the command line's word stands over a file's.
    """
    given: dict[str, Override] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        given.pop(override.key_or_group, None)
        given[override.key_or_group] = override
    search, fixed = {}, []
    for override in given.values():
        if override.is_sweep_override():
            search[override.get_key_element()] = distribution(override)
        else:
            fixed.append(str(override.input_line))
    return search, fixed


def distribution(override: Override) -> tuple[Any, dict[str, str]]:
    """Optuna's distribution for a swept override, and the text of each choice.

    Raises:
        UserError: Optuna has none for it.
    """
    from pgrun.errors import UserError

    value: Any = override.value()
    try:
        if isinstance(value, ChoiceSweep):
            return choices(override)
        return numbers(value), {}
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{override.input_line} can't be searched: {error}") from error


def numbers(value: Any) -> Any:
    """Optuna's distribution over an interval or a range; ValueError where there is none."""
    from optuna.distributions import FloatDistribution, IntDistribution

    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        whole = isinstance(low, int) and isinstance(high, int)
        return (IntDistribution if whole else FloatDistribution)(low, high, log=log)
    if not isinstance(value, RangeSweep):
        raise ValueError("Optuna takes choice, interval and range")
    low, high, step = value.start, value.stop, value.step
    if all(isinstance(each, int) for each in (low, high, step)):
        return IntDistribution(low, high - (high - low) % step, log=log, step=1 if log else step)
    return FloatDistribution(low, high, step=step)


def choices(override: Override) -> tuple[Any, dict[str, str]]:
    """Optuna's distribution over choices, and the text of each."""
    from optuna.distributions import CategoricalDistribution

    value: Any = override.value()
    texts = list(override.sweep_string_iterator())
    plain = [v.text if isinstance(v, QuotedString) else v for v in value.list]
    found = [v if isinstance(v, (bool, int, float, str)) else t for v, t in zip(plain, texts, strict=True)]
    return CategoricalDistribution(found), dict(zip(map(str, found), texts, strict=True))
