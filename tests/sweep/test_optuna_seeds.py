"""Optuna with several seeds a trial: which they are, what is made of them, and when a trial is pruned."""

from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from sweeping import MORTAL

from pgrun.errors import UserError
from pgrun.shell.cli import main
from pgrun.sweep.optuna.conclude import importance
from pgrun.sweep.optuna.seeds import aggregate, check_aggregate, trial_seeds
from pgrun.sweep.optuna.trial import TrialReporter, open_storage

SEARCH = "optimizer.lr=interval(1e-4,1e-2)"
LINE = ["-m", "hydra/sweeper=optuna", SEARCH, "algo=reinforce", "total_steps=64", "num_envs=2", "eval.every=null"]
LINE += ["eval.final_episodes=1", "hydra.sweep.dir=o"]


@pytest.mark.parametrize(
    ("overrides", "given", "seeds", "rest"),
    [
        (["x=1,2", "seed=0,1"], None, [0, 1], ["x=1,2"]),
        (["seed=range(3)"], None, [0, 1, 2], []),
        (["seed=choice(4,9)"], None, [4, 9], []),
        (["x=1,2"], 3, [0, 1, 2], ["x=1,2"]),
        (["seed=10", "x=1,2"], 2, [10, 11], ["x=1,2"]),
        (["x=1,2"], [5, 7], [5, 7], ["x=1,2"]),
        (["x=1,2", "seed=4"], None, [], ["x=1,2", "seed=4"]),
        (["seed=0,1", "seed=4"], None, [], ["seed=0,1", "seed=4"]),
    ],
)
def test_the_seeds_of_a_trial(overrides: list[str], given: object, seeds: list[int], rest: list[str]) -> None:
    assert trial_seeds(overrides, given) == (seeds, rest)


@pytest.mark.parametrize(
    ("overrides", "given", "says"),
    [
        (["seed=0,1"], 2, "seed=0,1 and hydra.sweeper.seeds=2 both say the seeds"),
        (["seed=3"], [0, 1], r"seed=3 and hydra.sweeper.seeds=\[0,1\] both say the seeds"),
        (["seed=interval(0,9)"], None, r"seed=interval\(0,9\): a seed isn't searched"),
        ([], 0, "hydra.sweeper.seeds=0 should be how many"),
        ([], [1, 1], r"hydra.sweeper.seeds=\[1,1\] should be"),
        ([], [-1], "should be"),
        ([], "many", "hydra.sweeper.seeds=many should be"),
        ([], True, "should be"),
        (["seed=a,b"], None, "seed=a,b should be"),
    ],
)
def test_seeds_that_are_refused(overrides: list[str], given: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        trial_seeds(overrides, given)


def test_one_value_of_several() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 100.0]
    assert aggregate(values, "mean") == 21.2
    assert aggregate(values, "iqm") == 2.0
    assert aggregate([1.0, 5.0], "iqm") == 3.0
    with pytest.raises(UserError, match=r"over_seeds=median is not known; choose one of mean, iqm"):
        check_aggregate("median")


def test_an_evaluation_counts_once_every_seed_has_had_it(tmp_path: Path) -> None:
    storage, pruner = str(tmp_path / "journal"), optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    study = optuna.create_study(study_name="s", storage=open_storage(storage), direction="maximize")

    def links(number: int) -> list[TrialReporter]:
        study.ask()
        return [TrialReporter(storage, "s", number, pruner, 1000, seed, (0, 1), "mean") for seed in (0, 1)]

    one, other = links(0)
    assert not any(link.hopeless(1000 * i, 10.0) for link in (one, other) for i in (1, 2))
    study.tell(0, 10.0)
    one, other = links(1)
    assert not one.hopeless(1000, 0.0)  # bad, but alone
    assert study.trials[1].intermediate_values == {}
    assert not other.hopeless(1000, 22.0)  # 11 on average
    assert study.trials[1].intermediate_values == {1: 11.0}
    study.tell(1, 11.0)
    one, other = links(2)
    assert not one.hopeless(1000, 0.0)
    assert other.hopeless(1000, 2.0)
    assert one.hopeless(2000, 99.0)  # what is decided is for all of the trial
    assert study.trials[2].intermediate_values == {1: 1.0}


@pytest.mark.slow
def test_a_sweep_of_trials_of_several_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    line = [*LINE, "seed=3,5"]
    assert main([*line, "hydra.sweeper.n_trials=1"]) == 0
    said = capsys.readouterr()
    assert "1 trials of 2 seeds, in o" in said.err
    assert "importance: it takes at least two finished trials" in said.out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").glob("0_*/result.json")}
    assert len(before) == 2
    assert main([*line, "hydra.sweeper.n_trials=2"]) == 0
    said = capsys.readouterr()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = OmegaConf.load("o/optimization_results.yaml")
    study = optuna.load_study(study_name="pgrun", storage=open_storage("o/optuna.journal"))
    means = []
    for trial in study.trials:
        jobs = [OmegaConf.load(f"o/{name}/result.json") for name in trial.user_attrs["folders"]]
        assert [job.seed for job in jobs] == [3, 5]
        means.append(sum(job.eval_return_mean for job in jobs) / 2)
        assert list(trial.params) == ["optimizer.lr"]
    assert [trial.value for trial in study.trials] == means
    assert found.best_value == max(means)
    assert "best trial: " in said.out
    assert ", the mean of 2 seeds" in said.out
    assert "95 % interval" in said.out
    assert main([*LINE, "seed=3,6", "hydra.sweeper.n_trials=2"]) == 2


def test_a_seed_that_diverges_decides_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "mortal_seeds.py").write_text(MORTAL.replace("Mortal-v0", "MortalSeeds-v0"))
    env = ["env=gym", "env.id=mortal_seeds:MortalSeeds-v0", "+env.kwargs.end=diverge", "total_steps=1500"]
    line = [text for text in LINE if not text.startswith("total_steps")]
    assert main([*line, *env, "hydra.sweeper.seeds=3", "hydra.sweeper.n_trials=1"]) == 1
    study = optuna.load_study(study_name="pgrun", storage=open_storage("o/optuna.journal"))
    assert [trial.value for trial in study.trials] == [-1e9]
    (begun,) = Path("o").glob("*/result.json")  # the seeds after it were not begun
    assert OmegaConf.load(begun).status == "diverged"


def test_importance_where_it_can_t_be_told() -> None:
    study = optuna.create_study(direction="maximize")
    assert importance(study) == ({}, "it takes at least two finished trials")
    for x, value in ((0.1, 1.0), (0.2, 1.0)):
        trial = optuna.trial.create_trial(
            params={"x": x}, distributions={"x": optuna.distributions.FloatDistribution(0, 1)}, value=value
        )
        study.add_trial(trial)
    assert importance(study) == ({}, "all trials came to the same")


def test_importance_is_the_key_s_that_matters() -> None:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0.001 * trial.suggest_float("y", 0, 1), n_trials=40)
    found, why = importance(study)
    assert why == ""
    assert found["x"] > 0.8 > found["y"]
