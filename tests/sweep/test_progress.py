"""A sweep of many jobs: composed quickly, announced at once, with the time that is left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

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


def test_jobs_that_differ_in_values_alone_share_what_takes_hydra_long(
    composer: Composer, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[list[str]] = []
    theirs = composer.loader.load_sweep_config

    def load_sweep_config(master: DictConfig, overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return theirs(master, overrides)

    monkeypatch.setattr(composer.loader, "load_sweep_config", load_sweep_config)
    assert [composer([f"seed={seed}"]).seed for seed in range(4)] == [0, 1, 2, 3]
    assert len(composed) == 1
    composer(["algo=a2c", "seed=0"])  # other groups are composed anew
    assert len(composed) == 2


@pytest.mark.parametrize(
    ("line", "jobs"), [(["seed=range(300)"], 300), (["seed=0,1", "algo=ppo,a2c,reinforce"], 6), (["algo.x=(("], 0)]
)
def test_a_sweep_s_jobs_are_counted(line: list[str], jobs: int, composer: Composer) -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {}, "overrides": {"task": line}}})
    assert sweep.size(config) == jobs


def heard(capsys: pytest.CaptureFixture[str], words: str) -> bool:
    """Whether these words come to stderr; a minute later they don't."""
    said, end = "", time.monotonic() + 60.0
    while words not in said and time.monotonic() < end:
        time.sleep(0.01)
        said += capsys.readouterr().err
    return words in said


def test_only_a_long_wait_for_many_jobs_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with patience(300, "checking", after=0.0):
        assert heard(capsys, "300 jobs: checking them\n")
    before = threading.active_count()
    with patience(300, "checking", after=600.0):
        assert threading.active_count() == before + 1
    end = time.monotonic() + 60.0
    while threading.active_count() > before:  # nobody is left who would still tell
        assert time.monotonic() < end
        time.sleep(0.01)
    with patience(20, "checking", after=0.0):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_the_time_that_is_left_follows_from_the_jobs_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    serial = SweepProgress(12, 2, 1)
    assert serial.left() == ""
    parallel = SweepProgress(9, 0, 4)
    now[0] += 100.0
    assert serial.count() == "[3/12, about 15 min left]"  # nine of 100 s each
    assert parallel.count() == "[1/9, about 4 min 20 s left]"  # 2.5 jobs' work in 100 s, 6.5 are left
    for _ in range(7):
        parallel.count()
    assert parallel.count() == "[9/9]"
    serial.stop()
    parallel.stop()


def test_a_long_silence_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(SweepProgress, "QUIET", 0.1)
    progress = SweepProgress(300, 0, 2)
    try:
        assert heard(capsys, "0 of 300 jobs done, 2 running\n")
    finally:
        progress.stop()
