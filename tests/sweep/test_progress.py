"""A sweep of many jobs: composed quickly, announced at once, with the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from pgrun.config.paths import config_dir
from pgrun.run.console import patience
from pgrun.sweep import folder as sweep
from pgrun.sweep.launchers.compose import Composer
from pgrun.sweep.launchers.progress import SweepProgress
from pgrun.sweep.resolvers import register_resolvers


@pytest.fixture
def composer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Composer]:
    """The composer of a sweep's jobs."""
    monkeypatch.setattr(sys, "argv", ["pgrun"])
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["seed=1,2", "hydra.sweep.dir=x"], RunMode.MULTIRUN)
        yield Composer(loader, master)


@pytest.mark.parametrize(
    "line",
    [
        ["seed=2", "+env.kwargs={a: 1}", "env.kwargs.a=3"],
        ["algo=sac", "env=pendulum", "optimizer.lr=0.1"],
        ["algo=a2c", "~algo.max_grad_norm"],
        ["algo/advantage=nstep", "algo.advantage.n=3", "network.hidden=[3,4]"],
        ["+sweep=ppo", "seed=4", "++eval.env.x=2"],
        ["tuned=none", "seed=5"],
    ],
)
def test_a_job_is_composed_as_hydra_does(line: list[str], composer: Composer) -> None:
    theirs = composer.loader.load_sweep_config(composer.master, line)
    for mine in (composer(line), composer(line)):  # the second from what was kept
        assert OmegaConf.to_yaml(mine) == OmegaConf.to_yaml(theirs)
        assert OmegaConf.is_struct(mine)
        assert OmegaConf.get_cache(mine) == OmegaConf.get_cache(theirs)


def test_jobs_share_no_values(composer: Composer) -> None:
    first, second = composer(["seed=1", "algo.gamma=0.5"]), composer(["seed=2"])
    assert (first.seed, second.seed) == (1, 2)
    assert second.algo.gamma != 0.5
    with pytest.raises(ConfigCompositionException):
        composer(["algo.gama=1"])


def test_a_hundred_jobs_are_composed_in_a_moment(composer: Composer) -> None:
    begin = time.perf_counter()
    composer.loader.load_sweep_config(composer.master, ["seed=0"])
    one = time.perf_counter() - begin
    composer(["seed=0"])
    begin = time.perf_counter()
    for seed in range(20):
        composer([f"seed={seed}"])
    assert (time.perf_counter() - begin) / 20 < one / 3


@pytest.mark.parametrize(
    ("line", "jobs"), [(["seed=range(300)"], 300), (["seed=0,1", "algo=ppo,a2c,reinforce"], 6), (["algo.x=(("], 0)]
)
def test_a_sweep_s_jobs_are_counted(line: list[str], jobs: int, composer: Composer) -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {}, "overrides": {"task": line}}})
    assert sweep.size(config) == jobs


def test_only_a_long_wait_for_many_jobs_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with patience(300, "checking"):
        time.sleep(0.6)
    assert capsys.readouterr().err == "300 jobs: checking them\n"
    with patience(300, "checking"):
        pass
    with patience(20, "checking"):
        time.sleep(0.6)
    assert capsys.readouterr().err == ""


def test_the_time_that_is_left_follows_from_the_jobs_that_ended() -> None:
    serial = SweepProgress(12, 2, 1)
    assert serial.left() == ""
    serial.begin -= 100.0
    assert serial.count() == "[3/12, about 15 min left]"  # nine of 100 s each
    serial.stop()
    parallel = SweepProgress(9, 0, 4)
    parallel.begin -= 100.0
    assert parallel.count() == "[1/9, about 4 min 20 s left]"  # 2.5 jobs' work in 100 s, 6.5 are left
    parallel.ended = 8
    assert parallel.count() == "[9/9]"
    parallel.stop()


def test_a_long_silence_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(SweepProgress, "QUIET", 0.1)
    progress = SweepProgress(300, 0, 2)
    time.sleep(0.35)
    progress.stop()
    assert "0 of 300 jobs done, 2 running\n" in capsys.readouterr().err
