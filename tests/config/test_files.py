"""The user's config files come before the shipped ones; where they are wrong, one line says in which and where."""

import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from pgrun.shell.cli import main

SMALL = ["total_steps=64", "num_envs=2", "algo.rollout=16", "algo.minibatch=16", "network.hidden=[8]", "threads=1"]
SMALL += ["eval.every=null", "eval.final_episodes=1", "hydra.run.dir=run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pgrun"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        path = Path("conf", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def pgrun(*words: str) -> int:
    try:
        return main(list(words))
    except SystemExit as end:
        return int(end.code or 0)


def config() -> Any:
    return OmegaConf.to_container(OmegaConf.load("run/.hydra/config.yaml"))


def test_a_file_with_a_shipped_ones_name_wins(here):
    write(
        {
            "env/cartpole.yaml": "defaults: [gym, _self_]\nid: CartPole-v1\nmax_episode_steps: 77\n",
            "tuned/ppo_cartpole.yaml": "# @package _global_\nalgo:\n  gamma: 0.42\n",
            "config.yaml": "defaults: [config, _self_]\ntotal_steps: 48\n",
        }
    )
    assert pgrun("--config-dir", "conf", *SMALL[1:]) == 0
    assert (config()["total_steps"], config()["env"]["max_episode_steps"], config()["algo"]["gamma"]) == (48, 77, 0.42)


def test_a_root_of_ones_own_and_its_sweep_are_checked_as_themselves(here, capsys):
    root = "defaults:\n  - config\n  - override algo: sac\n  - override env: pendulum\n  - _self_\ntotal_steps: 64\n"
    write({"sacpen.yaml": f"{root}memory: {{warmup: 100}}\neval: {{every: null, final_episodes: 1, max_steps: 5}}\n"})
    own = ["--config-dir", "conf", "--config-name", "sacpen"]
    assert pgrun(*own, "network.hidden=[8]", "hydra.run.dir=run", "algo.tau=0.01") == 0
    assert config()["memory"]["warmup"] == 100
    assert pgrun(*own, "algo.clip_range=0.1") == 2
    assert "algo.clip_range" in capsys.readouterr().err
    assert pgrun(*own, "-m", "memory.warmup=50,0.5", "hydra.sweep.dir=sweep") == 2
    assert "memory.warmup=0.5 should be a whole number" in capsys.readouterr().err
    assert not Path("sweep").exists()


def test_a_saved_config_is_run_again(here, capsys):
    assert pgrun(*SMALL, "algo.gamma=0.9") == 0
    assert pgrun("--config-dir", "run/.hydra", "total_steps=abc") == 2
    assert "total_steps=abc should be a whole number" in capsys.readouterr().err
    assert pgrun("--config-dir", "run/.hydra", "seed=1", "hydra.run.dir=again") == 0
    again = OmegaConf.load("again/.hydra/config.yaml")
    assert (again.algo.gamma, again.seed, again.total_steps) == (0.9, 1, 64)
    assert OmegaConf.load("again/result.json").algo == "ppo"


GLOBAL = "# @package _global_\n"
WRONG = {
    "a key": (
        f"{GLOBAL}eval:\n  evry: 10\n",
        "there is no key eval.evry; did you mean eval.every? (conf/experiment/x.yaml, line 3)",
    ),
    "a type": (
        f"{GLOBAL}total_steps: '64'\n",
        "total_steps=64 should be a whole number of at least 1 (conf/experiment/x.yaml, line 2)",
    ),
    "an indent": (
        f"{GLOBAL}seed: 1\n  log: 1\n",
        "conf/experiment/x.yaml, line 3: mapping values are not allowed here",
    ),
    "a tab": (
        f"{GLOBAL}algo:\n\tgamma: 1\n",
        "conf/experiment/x.yaml, line 3: a tab, where YAML takes spaces alone",
    ),
    "itself": (f"{GLOBAL}defaults: [x]\n", "conf/experiment/x.yaml names itself in its defaults: take x out of them"),
    "no package": (
        "seed: 3\n",
        "experiment=x sets experiment.seed, which nothing reads: let its file begin with '# @package _global_'",
    ),
    "no package, a group": (
        "defaults:\n  - override /algo: a2c\n",
        "a file of the group experiment overrides algo, which it can from the root alone",
    ),
    "no package, a sweeper": (
        "defaults:\n  - override /hydra/sweeper: optuna\n",
        "a file of the group experiment overrides hydra/sweeper, which it can from the root alone",
    ),
    "a foreign optimizer": (
        f"{GLOBAL}optimizer:\n  _target_: torch.optim.Adam\n",
        "there is no key optimizer.schedule: torch.optim.Adam takes no 'schedule'",
    ),
}


TUNED = f"{GLOBAL}num_envs: 2\nwhere:\n"
WRONG_SECTIONS = {
    "a key": (
        f"{TUNED}  optimizer=adam:\n    lrr: 1e-3\n",
        "there is no key optimizer.lrr: Adam takes no 'lrr'; did you mean optimizer.lr? "
        "(conf/tuned/ppo_cartpole.yaml, line 5)",
    ),
    "a key, on the section's line": (
        f"{TUNED}  algo/advantage=gae: {{lambda_: 0.9, lamda: 0.8}}\n",
        "there is no key algo.advantage.lamda: GAE takes no 'lamda'; did you mean algo.advantage.lambda_? "
        "(conf/tuned/ppo_cartpole.yaml, line 4)",
    ),
    "a value": (
        f"{TUNED}  optimizer=adam: {{lr: -1}}\n",
        "optimizer.lr=-1 is out of range: it must be above 0 (conf/tuned/ppo_cartpole.yaml, line 4)",
    ),
    "a member": (
        f"{TUNED}  optimizer=adm: {{lr: 1}}\n",
        "conf/tuned/ppo_cartpole.yaml, line 4: optimizer=adm holds with nothing: optimizer is one of adam, adamw, ",
    ),
    "a group": (
        f"{TUNED}  optimzer=adam: {{lr: 1}}\n",
        "conf/tuned/ppo_cartpole.yaml, line 4: optimzer=adam holds with nothing: there is no group optimzer; did you "
        "mean optimizer?",
    ),
    "no section": (
        f"{TUNED}  optimizer: {{lr: 1}}\n",
        "conf/tuned/ppo_cartpole.yaml: where takes sections, as optimizer=adam: {lr: 1e-3}, and no optimizer: ",
    ),
}


@pytest.mark.parametrize("name", WRONG_SECTIONS)
def test_a_wrong_section_of_a_tuned_file_is_one_line(name, here, capsys):
    text, says = WRONG_SECTIONS[name]
    write({"tuned/ppo_cartpole.yaml": text})
    assert pgrun("--config-dir", "conf") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"pgrun: {says}")
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["conf"]


def test_a_tuned_file_s_own_sections_hold(here):
    write(
        {
            "optimizer/mine.yaml": "defaults: [adam, _self_]\n_target_: pgrun.optim.rules.Adam\n",
            "tuned/ppo_cartpole.yaml": f"{TUNED}  optimizer=mine: {{lr: 0.5}}\n  optimizer=adam: {{lr: 0.25}}\n",
        }
    )
    assert pgrun("--config-dir", "conf", *SMALL, "optimizer=mine") == 0
    assert (config()["num_envs"], config()["optimizer"]["lr"], config()["optimizer"]["schedule"]) == (
        2,
        0.5,
        "constant",
    )


def test_a_file_for_one_member_is_told_where_its_values_belong(here, capsys):
    write({"tuned/advantage/ppo_cartpole_gae.yaml": "lambda_: 0.5\n"})
    assert pgrun("--config-dir", "conf") == 2
    assert capsys.readouterr().err == (
        "pgrun: conf/tuned/advantage/ppo_cartpole_gae.yaml: what is tuned for a pair stands in one file, "
        "tuned/ALGO_ENV.yaml; there what holds with one algo/advantage alone stands below where:, as "
        "algo/advantage=NAME: {…}\n"
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line(name, here, capsys):
    text, says = WRONG[name]
    write({"experiment/x.yaml": text})
    assert (
        pgrun("--config-dir", "conf", "+experiment=x", "total_steps=64"[: 0 if name == "a type" else 99] or "seed=0")
        == 2
    )
    err = capsys.readouterr().err
    assert err.startswith(f"pgrun: {says}")
    assert len(err.splitlines()) == 1
    assert [path.name for path in here.iterdir()] == ["conf"]


def test_what_is_no_folder_or_no_file(here, capsys):
    assert pgrun("--config-dir", "nowhere") == 2
    assert "--config-dir nowhere is no folder" in capsys.readouterr().err
    assert pgrun("--config-name", "mine") == 2
    assert "there is no mine.yaml without --config-dir DIR" in capsys.readouterr().err


def test_what_a_run_was_trained_with_is_found_from_elsewhere(here, capsys, monkeypatch):
    Path("code").mkdir()
    Path("code/walk_elsewhere.py").write_text(
        "import gymnasium as gym\n"
        "class Walk(gym.Wrapper):\n"
        "    pass\n"
        "gym.register('WalkElsewhere-v0', lambda **k: Walk(gym.make('CartPole-v1')))\n"
    )
    Path("code/conf/env").mkdir(parents=True)
    Path("code/conf/env/walk.yaml").write_text("defaults: [gym, _self_]\nid: walk_elsewhere:WalkElsewhere-v0\n")
    assert pgrun("--config-dir", "code/conf", "env=walk", *SMALL) == 0
    for name in [name for name in sys.modules if name == "walk_elsewhere"]:
        del sys.modules[name]
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if str(here) not in place])
    assert pgrun("eval", "../run", "--episodes", "1") == 0
    assert "walk" in capsys.readouterr().out


def test_flags_between_overrides(here):
    write({"experiment/x.yaml": f"{GLOBAL}seed: 5\n"})
    assert pgrun(*SMALL, "--config-dir", "conf", "+experiment=x") == 0
    assert config()["seed"] == 5
