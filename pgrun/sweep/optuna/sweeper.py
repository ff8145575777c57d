"""The Optuna sweeper: search spaces in Hydra's syntax, pruning, and a storage that outlives the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from pgrun.config.ranges import Count, CountOrZero
from pgrun.sweep.launchers.base import SweepLauncher
from pgrun.sweep.launchers.worker import Job
from pgrun.sweep.optuna.conclude import conclude, folders_of
from pgrun.sweep.optuna.seeds import aggregate, check_aggregate, trial_seeds
from pgrun.sweep.optuna.space import search_space
from pgrun.sweep.optuna.trial import TrialReporter, open_storage, open_trial

__all__ = ["OptunaSweeper", "search_space"]


class OptunaSweeper(Sweeper):
    """Lets Optuna choose the jobs: each trial is one job, or several that differ only in their seed.

    It works with any of pgrun's launchers. The storage knows the number and values of each trial from its beginning. So
    after a kill, the same command finds them: trials that ended are kept, those that were running go on, and those that
    failed are tried once more.

    Args:
        sampler: what is tried next, an Optuna sampler.
        pruner: which trials are stopped early, an Optuna pruner.
        n_trials: in all: the same line again with more of them goes on.
        n_jobs: trials at a time; null: as many as the launcher runs jobs.
        direction: whether the final evaluation's mean return should be high (maximize) or low.
        storage: null: a journal file in the sweep's folder; else a database, as sqlite:///FILE or mysql://….
        study_name: the study's name in its storage.
        seed: of the sampler; null: another one each time.
        params: the search space, a key and its values each: choice(a, b), interval(low, high), tag(log, interval(low,
            high)), int(interval(low, high)) and range(low, high, step), with both ends.
        seeds: of each trial: how many, from the run's own on, or a list; null: the run's own alone.
        over_seeds: what a trial comes to: the mean of its seeds' evaluations, or their interquartile mean.
    """

    def __init__(
        self,
        *,
        sampler: Callable[..., Any],
        pruner: Any,
        n_trials: Count,
        n_jobs: Count | None,
        direction: Literal["maximize", "minimize"],
        seed: CountOrZero | None,
        storage: str | None,
        study_name: str,
        params: Mapping[str, Any] | None,
        seeds: Any = None,
        over_seeds: Literal["mean", "iqm"] = "mean",
    ) -> None:
        self.sampler, self.pruner, self.n_trials, self.n_jobs = sampler, pruner, n_trials, n_jobs
        self.direction, self.seed, self.storage, self.study_name = direction, seed, storage, study_name
        self.params = dict(params or {})
        self.seeds, self.over_seeds = seeds, over_seeds
        self.results: dict[int, dict[str, str | float | None]] = {}  # by trial and job

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Receive the config from Hydra, which calls this first; refuse a launcher that takes batches only."""
        from pgrun.errors import UserError

        self.config: DictConfig = config
        launcher: Any = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        if not isinstance(launcher, SweepLauncher):
            raise UserError("hydra/sweeper=optuna works with hydra/launcher=basic, joblib, ray or slurm")
        self.launcher: SweepLauncher = launcher

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until there are `n_trials`."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(str(self.config.hydra.sweep.dir)).resolve()
        self.prepare([*(f"{k}={v}" for k, v in self.params.items()), *arguments], folder)
        self.check_space(folder)
        self.check_fixed()
        OmegaConf.save(self.config, folder / "multirun.yaml")
        over, running = self.take_up()
        left, per_trial = self.n_trials - over, len(self.trial_seeds) or 1
        wanted = min(left * per_trial, self.n_jobs or left * per_trial)
        with self.launcher.at_work(wanted if left > 0 else 0):
            self.launcher.count(self.n_trials * per_trial, over * per_trial)
            if left > 0:
                kept = f", {over} over before, {len(running)} to go on" if over or running else ""
                seeds = f" of {per_trial} seeds" if per_trial > 1 else ""
                self.launcher.announce(f"{self.n_trials} trials{seeds}{kept}")
                self.run(over, running, min(wanted, self.n_jobs or self.launcher.parallel))
        conclude(self.study, self.launcher.session, self.over_seeds, self.trial_seeds)

    def prepare(self, overrides: list[str], folder: Path) -> None:
        """Separate searched keys, fixed keys and seeds, and open the study."""
        from pgrun.errors import UserError
        from pgrun.run.console import remark

        check_aggregate(self.over_seeds)
        whole, _ = search_space(overrides)
        self.trial_seeds, rest = trial_seeds(overrides, self.seeds)
        self.search, self.fixed = search_space(rest)
        if not self.search:
            raise UserError("there is nothing to search: give a key values, as optimizer.lr='interval(1e-4,1e-2)'")
        self.storage = self.storage or str(folder / "optuna.journal")
        self.study = self.open_study()
        if "seed" in whole and "seed" in (self.study.user_attrs.get("space") or {}):
            remark("this study was begun with the seed among what is searched, and goes on so")
            self.trial_seeds, self.search = [], whole

    def open_study(self) -> Any:
        """Open the study in the storage, or make one; raise UserError if that fails."""
        import optuna

        from pgrun.errors import UserError

        key = "hydra.sweeper.sampler"
        try:
            probe = optuna.create_study(sampler=self.sampler(seed=self.seed))  # in memory: does it sample at all?
            probe.ask({key: distribution for key, (distribution, _) in self.search.items()})
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
        """Keep `at_once` jobs running: first those of trials that were `running` before, then those of new trials."""
        begun, busy, waiting = over, 0, list[Job]()
        while True:
            while busy < at_once and (waiting or begun < self.n_trials):
                if not waiting:
                    waiting = self.begin(running.pop(0) if running else None)
                    begun += 1
                job = waiting.pop(0)
                if self.settled(job):
                    result: dict[str, Any] | None = {"status": "skipped"}
                else:
                    result = self.launcher.over(job)  # an earlier process was killed before it told the storage
                if result is None:
                    self.launcher.submit(job)
                    busy += 1
                else:
                    self.launcher.count_one()
                    self.end(job, result)
            if not busy:
                return
            job, result = self.launcher.next_result()
            busy -= 1
            self.end(job, result)

    def settled(self, job: Job) -> bool:
        """Return whether the result of another seed has already decided a job's trial."""
        return any(value in ("failed", "diverged", "pruned") for value in self.results[job.number].values())

    def take_up(self) -> tuple[int, list[int]]:
        """Take over the trials of an earlier process; those that failed are queued once more.

        Returns:
            How many trials are over, and the numbers of those that were running.
        """
        from optuna.trial import TrialState

        trials = self.study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get("again") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.FAIL and trial.number not in again:
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
        over = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        return over, [trial.number for trial in trials if trial.state == TrialState.RUNNING]

    def check_space(self, folder: Path) -> None:
        """Raise UserError if the search space or the seeds differ from those of earlier trials."""
        from pgrun.errors import UserError

        space = {key: repr(distribution) for key, (distribution, _) in sorted(self.search.items())}
        before = self.study.user_attrs.get("space")
        seeds = [self.trial_seeds, self.over_seeds if self.trial_seeds else ""]
        if before is None:
            self.study.set_user_attr("space", space)
            self.study.set_user_attr("seeds", seeds)
        elif before != space:
            changed = ", ".join(key for key in sorted({*before, *space}) if before.get(key) != space.get(key))
            raise UserError(f"{folder} was searched over another space ({changed} changed): choose another folder")
        elif seeds != (then := self.study.user_attrs.get("seeds", [[], ""])):
            raise UserError(
                f"{folder} was searched with other seeds a trial ({then[0] or 'one'} then, {seeds[0] or 'one'} now) or "
                "another hydra.sweeper.over_seeds: choose another folder"
            )

    def check_fixed(self) -> None:
        """Raise UserError if the fixed part of the config has changed since earlier trials.

        One trial for each choice of groups' members is composed again, since these may bring other fixed values.
        """
        from pgrun.sweep.folder import check_unchanged

        trials = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        self.launcher.enlist(folder for trial in trials.values() for folder in folders_of(trial))
        for kept in self.study.user_attrs.get("fixed", {}).values():
            job = self.launcher.job(kept["trial"], self.overrides(trials[kept["trial"]].params)[0])
            what = f"the study {self.study_name} in {self.storage}"
            over = "with another hydra.sweeper.study_name or another hydra.sweep.dir"
            check_unchanged(kept["config"], job.config, what, over)

    def keep_fixed(self, job: Job) -> None:
        """Keep a trial's config in the storage, for `check_fixed`."""
        from pgrun.run.directory import flat

        choices = job.config.hydra.runtime.choices
        groups = ",".join(f"{key}={choices[key]}" for key in sorted(self.search) if key in choices)
        fixed = self.study.user_attrs.get("fixed", {})
        if groups not in fixed:
            kept = {"trial": job.number, "config": flat(job.config)}
            self.study.set_user_attr("fixed", {**fixed, groups: kept})

    def overrides(self, values: dict[str, Any]) -> list[list[str]]:
        """Return the overrides of each job of a trial that has these values of the searched keys."""
        searched = [f"{key}={texts.get(str(values[key]), values[key])}" for key, (_, texts) in self.search.items()]
        line = [*self.fixed, *searched]
        return [[*line, f"seed={seed}"] for seed in self.trial_seeds] or [line]

    def begin(self, number: int | None) -> list[Job]:
        """Begin a new trial, or go on with the one of this number, and return its jobs."""
        import numpy as np

        if number is None:
            # a new sampler for each trial, so that a study that was killed goes on with the same trials
            number = len(self.study.get_trials(deepcopy=False))
            seed = None if self.seed is None else int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])
            self.study.sampler = self.sampler(seed=seed)
            trial = self.study.ask()
        else:
            trial = open_trial(self.study, number)
        values = {key: trial._suggest(key, distribution) for key, (distribution, _) in self.search.items()}
        jobs = [self.launcher.job(trial.number, line) for line in self.overrides(values)]
        self.launcher.check_folders(jobs)
        folders = [self.launcher.place(job) for job in jobs]
        self.launcher.enlist(folders)
        trial.set_user_attr("folder", folders[0])
        if len(folders) > 1:
            trial.set_user_attr("folders", folders)
        self.keep_fixed(jobs[0])
        self.results[trial.number] = dict.fromkeys(folders)
        seeds: list[int | None] = [*self.trial_seeds] or [None]
        for job, seed in zip(jobs, seeds, strict=True):
            if (every := job.config.eval.every) is not None:
                how = (seed, self.trial_seeds, self.over_seeds)
                job.trial = TrialReporter(str(self.storage), self.study_name, trial.number, self.pruner, every, *how)
        return jobs

    def end(self, job: Job, result: dict[str, Any]) -> None:
        """Note a job's result, and tell the storage once all jobs of its trial have ended.

        A trial with an interrupted job stays a running trial, so that the next session goes on with it.
        """
        from optuna.trial import TrialState

        from pgrun.sweep.folder import WORST, objective

        results = self.results[job.number]
        finished = result["status"] == "finished"
        results[self.launcher.place(job)] = objective(result) if finished else result["status"]
        values = list(results.values())
        if None in values or "interrupted" in values:
            return
        if "failed" in values:
            self.study.tell(job.number, state=TrialState.FAIL)
        elif "diverged" in values:
            self.study.tell(job.number, WORST if self.direction == "maximize" else -WORST)
        elif "pruned" in values:
            self.study.tell(job.number, state=TrialState.PRUNED)
        else:
            self.study.tell(job.number, aggregate([float(value) for value in values], self.over_seeds))  # type: ignore[arg-type]
