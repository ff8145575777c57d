"""Tuning of a pair: it can be dropped whole, taken from another pair, and is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf
from running import compose

from pgrun.config.paths import config_dir
from pgrun.config.tuning import describe_tuning, keys_of, tuned_keys
from pgrun.shell.cli import main
from pgrun.sweep.launchers.compose import Composer
from pgrun.sweep.resolvers import register_resolvers

# of each kind: scalars, network, optimizer, advantage, critic_fit, exploration
PAIRS = [("ppo", "cartpole"), ("a2c", "pendulum"), ("trpo", "halfcheetah"), ("dqn", "cartpole"), ("td3", "pendulum")]


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the configs without any that is tuned."""
    folder = tmp_path_factory.mktemp("configs") / "configs"
    shutil.copytree(config_dir(), folder, ignore=shutil.ignore_patterns("tuned"))
    return folder


@pytest.mark.parametrize(("algo", "env"), PAIRS)
def test_none_drops_what_was_tuned_of_every_kind(algo: str, env: str, untuned: Path) -> None:
    dropped = compose(f"algo={algo}", f"env={env}", "tuned=none")
    assert dropped != compose(f"algo={algo}", f"env={env}")
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(untuned), version_base="1.3"):
        bare = hydra.compose("config", overrides=[f"algo={algo}", f"env={env}"])
    assert OmegaConf.to_container(dropped) == OmegaConf.to_container(bare)


def test_the_keys_that_were_tuned_are_known_from_the_composed_config() -> None:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = hydra.compose("config", overrides=["algo=a3c", "env=acrobot"], return_hydra_config=True)
    found = tuned_keys(config.hydra, config)
    assert {"total_steps", "algo.normalize_reward", "network.normalize_obs", "optimizer.schedule"} <= set(found)


def test_jobs_of_a_sweep_get_the_sections_of_their_own_members() -> None:
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["algo=ppo"], RunMode.MULTIRUN)
        composer = Composer(loader, master)
        jobs = {name: composer(["algo=ppo", f"optimizer={name}"]) for name in ("adam", "sgd")}
        assert jobs["adam"].optimizer == loader.load_sweep_config(master, ["algo=ppo"]).optimizer
    assert (jobs["adam"].optimizer.lr, jobs["adam"].optimizer.schedule) == (1e-3, "linear")
    assert (jobs["sgd"].optimizer.lr, jobs["sgd"].optimizer.schedule) == (1e-2, "constant")


def test_another_pair_s_tuning_is_taken_whole() -> None:
    config = compose("algo=ppo", "env=cartpole", "tuned=ppo_acrobot")
    assert (config.optimizer, config.network) == (
        compose("algo=ppo", "env=acrobot").optimizer,
        compose("algo=ppo", "env=acrobot").network,
    )
    assert config.env.id == "CartPole-v1"


@pytest.mark.parametrize("line", [["tuned=ppo_cartpol"], ["-m", "tuned=none,ppo_cartpol"]])
def test_a_mistyped_pair_is_refused(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    said = capsys.readouterr().err
    assert said.startswith("pgrun: tuned=ppo_cartpol is not known: tuned=none drops what was tuned")
    assert "ppo_cartpole" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "section",
    [{"tuned/where/ppo_cartpole@optimizer": "optimizer=adam"}, {"tuned/optimizer@optimizer": "ppo_cartpole_adam"}],
    ids=["now", "as version 0.1 noted it"],
)
def test_tuned_keys_leave_out_what_the_user_gave(section: dict[str, str]) -> None:
    config = compose("algo=ppo", "env=cartpole", "optimizer.lr=0.5")
    hydra_node = OmegaConf.create(
        {
            "overrides": {"task": ["optimizer.lr=0.5"]},
            "runtime": {
                "config_sources": [{"path": str(config_dir()), "schema": "file", "provider": "main"}],
                "choices": {"algo": "ppo", "tuned": "ppo_cartpole", **section},
            },
        }
    )
    found = tuned_keys(hydra_node, config)
    assert "optimizer.schedule" in found
    assert "algo.gamma" in found
    assert "optimizer.lr" not in found
    assert not [key for key in found if "where" in key]


def test_a_file_s_keys_have_those_that_it_takes_over(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "a_b.yaml").write_text("defaults: [c_d, _self_]\nalgo: {gamma: 0.9}\n")
    (tmp_path / "tuned" / "c_d.yaml").write_text(
        "num_envs: 3\nalgo: {gamma: 0.8}\nwhere: {optimizer=adam: {lr: 1, betas: [0, 1]}}\n"
    )
    assert keys_of([tmp_path], "a_b") == ["num_envs", "algo.gamma"]
    assert keys_of([tmp_path], "c_d", "optimizer=adam") == ["lr", "betas"]
    assert keys_of([tmp_path], "c_d", "optimizer=sgd") == []
    assert keys_of([tmp_path], "none") == []


def test_tuning_in_words() -> None:
    names = {"algo": "ppo", "env": "cartpole"}
    assert describe_tuning(["a", "b.c"], names, "ppo_cartpole") == "tuned for ppo on cartpole: a, b.c"
    assert describe_tuning([], names, "ppo_cartpole") == "nothing is tuned for ppo on cartpole"
    assert describe_tuning([], names, "none") == "nothing tuned (tuned=none)"
    assert describe_tuning(["a"], names, "ppo_acrobot") == "tuned for ppo_acrobot: a"
