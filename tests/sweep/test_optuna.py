"""Optuna: search spaces in Hydra's syntax, pruning, trials at a time, a study that outlives its process."""

from __future__ import annotations

import signal
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from recipes import sampled
from running import compose
from shell import Said, pgrun, pgrun_inside
from sweeping import LAUNCHERS, MORTAL, SHORT, assert_none_left, figures, interrupt, results, start, wait_for

from pgrun.config.paths import config_dir
from pgrun.config.walk import keys
from pgrun.errors import UserError
from pgrun.sweep.folder import LAUNCHERS as PLACES
from pgrun.sweep.optuna.sweeper import search_space
from pgrun.sweep.optuna.trial import TrialReporter, open_storage

SPACES = sorted(path.stem for path in (config_dir() / "sweep").glob("*.yaml") if path.stem not in PLACES)
ALGOS = sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("x=interval(0.5,2)", FloatDistribution(0.5, 2.0)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(2,11,step=4)", IntDistribution(2, 10, step=4)),
        ("x=range(0.0,1.0,step=0.25)", FloatDistribution(0.0, 1.0, step=0.25)),
        ("x=choice(a,2,0.5,true)", CategoricalDistribution(["a", 2, 0.5, True])),
        ("x=a,b", CategoricalDistribution(["a", "b"])),
        ("x=choice([8,8],[16])", CategoricalDistribution(["[8,8]", "[16]"])),
    ],
)
def test_search_space(text: str, distribution: object) -> None:
    search, fixed = search_space([text, "y=3"])
    assert search["x"][0] == distribution
    assert fixed == ["y=3"]


@pytest.mark.parametrize(
    "text",
    [
        "x=interval(1e-2,1e-4)",
        "x=tag(log,interval(0,1e-2))",
        "x=range(10,1)",
        "x=range(1,10,0)",
        "x=range(0.0,1.0,0.0)",
        "algo=glob(a*)",
    ],
)
def test_what_can_t_be_searched(text: str) -> None:
    with pytest.raises(UserError, match="can't be searched: ") as refused:
        search_space([text])
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("hydra.sweeper.sampler.n_startup_trials=two", "hydra.sweeper.sampler: TypeError"),
        ("hydra.sweeper.storage=nowhere/journal", "hydra.sweeper.storage=nowhere/journal: FileNotFoundError"),
        ("hydra.sweeper.pruner.n_startup_trials=-1", "hydra.sweeper.pruner: Error in call"),
    ],
)
def test_a_sweeper_that_can_t_be(value: str, said: str, tmp_path: Path) -> None:
    refused = pgrun_inside("-m", "hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-2)", value, cwd=tmp_path)
    assert (refused.code, refused.line.startswith(f"pgrun: {said}")) == (2, True), refused.err
    assert list(tmp_path.iterdir()) == []


def test_the_last_word_on_a_key_stands() -> None:
    search, fixed = search_space(["x=choice(1,2)", "+y=1,2", "x=1"])
    assert list(search) == ["+y"]
    assert fixed == ["x=1"]


def test_every_algorithm_has_a_search_space() -> None:
    assert SPACES == ALGOS


@pytest.mark.parametrize("name", sampled(SPACES, 3))
def test_search_spaces_compose(name: str) -> None:
    config = compose(f"+sweep={name}")
    file = OmegaConf.load(config_dir() / "sweep" / f"{name}.yaml")
    params = OmegaConf.to_container(file.hydra.sweeper.params)
    assert isinstance(params, dict)
    assert set(params) <= set(keys(config))
    search, _ = search_space([f"{key}={value}" for key, value in params.items()])  # type: ignore[str-bytes-safe]
    assert set(search) == set(params)
    own = OmegaConf.load(config_dir() / "algo" / f"{name}.yaml").algo._target_
    assert config.algo._target_ == own


def test_a_period_that_is_searched_is_one_of_copies() -> None:
    """CartPole's own recipe moves its target network a little at each update."""
    assert compose("algo=dqn", "env=cartpole").algo.tau is not None
    assert compose("+sweep=dqn", "env=cartpole").algo.tau is None


def test_a_trial_is_pruned_from_another_process_s_view(tmp_path: Path) -> None:
    storage, pruner = str(tmp_path / "journal"), optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1)
    study = optuna.create_study(study_name="s", storage=open_storage(storage), direction="maximize")
    for number, level in enumerate((10.0, 20.0)):
        study.ask()
        link = TrialReporter(storage, "s", number, pruner, 1000)
        assert not any(link.hopeless(1000 * i + 7, level) for i in range(1, 5))
        study.tell(number, level)
    study.ask()
    link = TrialReporter(storage, "s", 2, pruner, 1000)
    assert not link.hopeless(900, 1.0)  # evaluation 0: warming up
    assert not link.hopeless(2100, 16.0)  # above the median, 15
    assert not link.hopeless(3100, 1.0)  # its best so far is what counts
    study.ask()
    link = TrialReporter(storage, "s", 3, pruner, 1000)
    assert link.hopeless(2100, 14.0)
    assert link.hopeless(2100, 99.0)  # told again after a checkpoint: what was told first stands
    assert study.trials[3].intermediate_values == {2: 14.0}


def test_maximises_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    line = [
        "hydra/sweeper=optuna",
        "algo.gamma=interval(0.9,0.99)",
        "env=gym",
        "env.id=mortal:Mortal-v0",
        "+env.kwargs.end=choice(live,diverge)",
        *SHORT,
    ]
    said = pgrun_inside("-m", *line, "hydra.sweeper.n_trials=2", cwd=tmp_path)
    assert len(results(tmp_path)) == 2, said.err
    first = figures(tmp_path)
    said = pgrun_inside("-m", *line, "hydra.sweeper.n_trials=3", cwd=tmp_path)
    assert "3 trials, 2 over before, 0 to go on" in said.err
    found = results(tmp_path)
    assert len(found) == 3, said.err
    assert {name: figures(tmp_path)[name] for name in first} == first
    text = OmegaConf.load(next(tmp_path.glob("multirun/*/optimization_results.yaml")))
    finished = [r["eval_return_mean"] for r in found.values() if r["status"] == "finished"]
    assert text.best_value == max(finished, default=-1e9)
    assert all(r["status"] in ("finished", "diverged") for r in found.values())
    (journal,) = tmp_path.glob("multirun/*/optuna.journal")
    study = optuna.load_study(study_name="pgrun", storage=open_storage(str(journal)))
    assert [trial.number for trial in study.trials] == [0, 1, 2]


@pytest.mark.slow
def test_a_study_goes_on_with_the_fixed_config_that_it_was_begun_with(tmp_path: Path) -> None:
    (tmp_path / "conf" / "own").mkdir(parents=True)

    def sweep(gamma: float, trials: int, *more: str) -> Said:
        text = f"# @package _global_\nalgo:\n  gamma: {gamma}\n"
        (tmp_path / "conf" / "own" / "e.yaml").write_text(text)
        line = ["--config-dir", "conf", "-m", "+own=e", "hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-2)"]
        line += ["algo=reinforce", "total_steps=64", "num_envs=2", "eval.every=null", "eval.final_episodes=1"]
        return pgrun_inside(*line, f"hydra.sweeper.n_trials={trials}", *more, cwd=tmp_path)

    stored = "hydra.sweeper.storage=study.journal"
    assert sweep(0.9, 1, "hydra.sweep.dir=o", stored).code == 0
    before = {path: path.lstat().st_mtime_ns for path in (tmp_path / "o").rglob("*")}
    refused = sweep(0.5, 2, "hydra.sweep.dir=o", stored)
    assert refused.code == 2
    assert "was run with another config (algo.gamma=0.9 then, 0.5 now): put the configs back" in refused.line
    elsewhere = sweep(0.5, 2, "hydra.sweep.dir=p", stored)  # of one study, too
    assert elsewhere.code == 2
    assert "the study pgrun in study.journal was run with another config (algo.gamma=0.9 then" in elsewhere.line
    assert not (tmp_path / "p").exists()
    after = {path: path.lstat().st_mtime_ns for path in (tmp_path / "o").rglob("*")}
    assert {path: at for path, at in after.items() if path.name != ".lock"} == {
        path: at for path, at in before.items() if path.name != ".lock"
    }


@pytest.mark.slow
def test_a_failed_trial_that_was_tried_again_counts_no_longer(tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    line = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "algo.gamma=interval(0.9,0.99)", *SHORT]
    line += ["env=gym", "env.id=mortal:Mortal-v0", "+env.kwargs.end=raise"]
    said = pgrun_inside(*line, cwd=tmp_path)
    assert said.code == 1, said.err
    (tmp_path / "mortal.py").write_text(MORTAL.replace('"raise"', '"nevermore"'))
    said = pgrun_inside(*line, cwd=tmp_path)
    assert said.code == 0, said.err
    assert [result["status"] for result in results(tmp_path).values()] == ["failed", "finished"]
    first, again = results(tmp_path)
    assert first not in said.out
    assert f"best: {again}" in said.out


@pytest.mark.slow
def test_killed_trials_go_on_with_their_numbers_and_values(tmp_path: Path) -> None:
    line = [
        *LAUNCHERS["joblib"],
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.pruner.n_startup_trials=2",
        "algo=reinforce",
        "optimizer.lr=tag(log,interval(1e-6,3e-2))",
        "total_steps=8000",
        "checkpoint.every=500",
        "eval.every=2000",
        "eval.episodes=5",
        "eval.final_episodes=5",
    ]
    process = start(*line, cwd=tmp_path)
    wait_for(lambda: len(results(tmp_path)) >= 3)
    interrupt(process, signal.SIGKILL, group=False)
    assert_none_left(tmp_path)
    over = {name: r for name, r in results(tmp_path).items() if r["status"] in ("finished", "pruned")}
    (folder,) = tmp_path.glob("multirun/*")
    begun = {f.name for f in folder.glob("[0-9]*")}
    assert len(over) >= 3
    said = pgrun(*line, cwd=tmp_path)
    assert said.code == 0, said.err
    found = results(tmp_path)
    assert [name.split("_")[0] for name in found] == [str(i) for i in range(8)]
    assert begun <= set(found)  # those that were running kept their numbers and values
    assert {name: found[name] for name in over} == over
    study = optuna.load_study(study_name="pgrun", storage=open_storage(str(folder / "optuna.journal")))
    states = [trial.state.name for trial in study.trials]
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert len(states) == 8
    for trial, (name, result) in zip(study.trials, found.items(), strict=True):
        assert (trial.state.name == "PRUNED") == (result["status"] == "pruned")
        assert f"{trial.params['optimizer.lr']:.4g}" in name
        if result["status"] == "finished":
            assert trial.value == result["eval_return_mean"]
    assert "PRUNED" in states  # lr=1e-6 learns nothing
