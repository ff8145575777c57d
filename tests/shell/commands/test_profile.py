"""`pgrun profile` as people use it."""

from __future__ import annotations

import json
import re

import pytest
from shell import pgrun, pgrun_inside

from pgrun.run.profiling import products, stretch
from pgrun.shell.cli import COMMANDS

PPO = (
    *("algo=ppo", "env=cartpole", "tuned=none", "num_envs=2", "algo.rollout=16", "algo.minibatch=16", "algo.epochs=2"),
    *("network.hidden=[8]", "eval.every=64", "eval.episodes=2"),
)
SAC = ("algo=sac", "env=pendulum", "num_envs=1", "memory.warmup=20", "network.hidden=[8]", "eval.every=null")


@pytest.fixture(autouse=True, scope="module")
def _short(tmp_path_factory):
    """A short warm-up, and little time for what is looked at closely; the machine's record of runs is another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretch, "WARM", 0.0)
        patch.setattr(stretch, "CLOSELY", 0.05)
        patch.setattr(products, "PATIENCE", 0.002)
        state = tmp_path_factory.mktemp("state")
        patch.setenv("XDG_STATE_HOME", str(state))
        yield
    assert not list(state.iterdir())


def profiled(folder, *words):
    """The figures and the page of `pgrun profile WORDS`."""
    said = pgrun_inside("profile", *words, "--json", "found.json", cwd=folder)
    assert said.code == 0, said.err
    return json.loads((folder / "found.json").read_text()), said


@pytest.fixture(scope="module")
def ppo(tmp_path_factory):
    """The figures and the page of a small PPO, and the folder where it was profiled."""
    folder = tmp_path_factory.mktemp("ppo")
    return *profiled(folder, *PPO, "--steps", "320"), folder


def test_the_parts_of_the_loop_make_up_its_time(ppo):
    found, said, folder = ppo
    times = found["loop_seconds"]
    whole = found["seconds"] - found["evaluation"]["seconds"]
    assert sum(part["whole"] for part in times.values()) == pytest.approx(whole)
    for part in times.values():
        inner = [x for name, x in part.items() if name != "whole"]
        assert all(x >= -1e-6 for x in part.values())
        assert not inner or sum(inner) == pytest.approx(part["whole"])
    assert found["steps"] in range(320, 353)
    assert found["updates"] == found["iterations"] == pytest.approx(found["steps"] / 32, abs=1)
    assert found["gradient_steps"] == found["updates"] * 2 * 2  # epochs, minibatches
    assert times["learning"]["gradient steps"] > 0.3 * times["learning"]["whole"]
    assert found["evaluation"]["count"] in (5, 6)  # every 64 of 320 steps
    assert found["steps_per_second"] == pytest.approx(found["steps"] / whole)
    assert [path.name for path in folder.iterdir()] == ["found.json"]  # no run
    assert max(map(len, said.out.splitlines())) <= 100


def test_the_floor_is_below_what_is_measured(ppo):
    found, said, _ = ppo
    step, acting = found["floor"]["gradient_step"], found["floor"]["acting"]
    # two networks of 4 × 8 and 8 × 2 or 1, on 16 rows; backward twice as much, but nothing for the observations
    assert step["flops"] == 2 * 16 * (2 * 2 * 4 * 8 + 3 * 8 * (2 + 1))
    assert acting["flops"] == 2 * 2 * (4 * 8 + 8 * 2)  # the policy's alone
    assert 0 < step["products_seconds"] < step["seconds"]
    assert 0 < acting["products_seconds"] < acting["seconds"]
    assert "a gradient step, of which matrix products need at least" in said.out


SLOW_ENV = """
import time
import gymnasium as gym, numpy as np
class Slow(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1.0, 1.0, (2,)), gym.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}
    def step(self, action):
        time.sleep(0.003)
        return np.zeros(2, np.float32), 0.0, False, False, {}
gym.register("Slow-v0", Slow, max_episode_steps=50)
"""


@pytest.mark.slow
def test_a_slow_environment_is_named_as_such(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW_ENV)
    slow = ("env=gym", "env.id=slow:Slow-v0", "eval.every=null", "--steps=64")
    found, _ = profiled(tmp_path, *PPO[:1], *PPO[2:8], *slow)
    times = found["loop_seconds"]["collecting"]
    assert times["environment"] >= 0.003 * found["steps"]
    assert times["environment"] > 0.8 * times["whole"]
    assert found["floor"]["environment_step_alone_seconds"] >= 0.003


def test_a_replay_is_added_to_and_sampled_from(tmp_path):
    found, said = profiled(tmp_path, *SAC, "--seconds", "0.2", "--ops")
    assert 0.2 <= found["seconds"] < 2
    assert found["warm_up"]["steps"] >= 20
    assert found["loop_seconds"]["memory"]["adding"] > 0
    assert found["loop_seconds"]["memory"]["sampling"] > 0
    assert found["gradient_steps"] == 3 * found["updates"]  # critics, actor, temperature
    assert found["floor"]["update"]["products"] > found["floor"]["gradient_step"]["products"]
    assert found["ops"]
    assert "matrix product" in said.out
    assert "no evaluation was due" in said.out
    assert len(found["ops"]) <= 15
    assert said.err.splitlines() == ["all figures are in found.json"]


@pytest.mark.slow
def test_it_goes_on_beyond_the_end_of_a_short_run(tmp_path):
    found, _ = profiled(tmp_path, *PPO, "total_steps=64", "eval.stop_at=0", "--steps", "200")
    assert found["steps"] >= 200


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--steps", "0"), "--steps: 0 is not at least 1"),
        (("--seconds", "x"), "--seconds: x is no number of seconds above 0"),
        (("--seconds", "0"), "--seconds: 0 is no number of seconds above 0"),
        (("--steps=3", "--seconds=3"), "not allowed with"),
        (("--json", "nowhere/x.json"), "there is no folder nowhere"),
        (("--json", "."), "is a folder"),
        (("-m", "seed=1,2"), "looks at one run"),
        (("+sweep=joblib",), "looks at one run"),
        (("algo.epcohs=3",), "did you mean algo.epochs?"),
        pytest.param(("algo.gamma=2",), "algo.gamma=2 is out of range", marks=pytest.mark.slow),
        pytest.param(("algo=a3c",), "add workers=1 parallel=none", marks=pytest.mark.slow),
        (("word",), "write key=value"),
    ],
)
def test_what_cant_be_is_one_line(tmp_path, words, line):
    said = pgrun_inside("profile", *words, cwd=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert line in said.line
    assert not list(tmp_path.iterdir())


BROKEN_ENV = SLOW_ENV.replace("time.sleep(0.003)", "raise ValueError('no more')").replace("Slow", "Broken")


@pytest.mark.slow
def test_an_environment_that_fails_is_one_line_without_a_path(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN_ENV)
    said = pgrun_inside("profile", "env=gym", "env.id=broken:Broken-v0", cwd=tmp_path)
    assert said.code == 2
    assert "no more" in said.line
    assert "pgrun-profile" not in said.line


@pytest.mark.slow
def test_a_run_that_diverges_says_so(tmp_path):
    said = pgrun_inside("profile", *SAC, "optimizer.lr=1e20", cwd=tmp_path)
    assert said.code == 3
    assert re.search(r"(loss|gradient)/\w+ is (inf|nan)", said.line)


def test_it_is_a_command():
    assert "profile" in COMMANDS


@pytest.mark.slow
def test_a_process_of_its_own_tells_its_start(tmp_path):
    said = pgrun("profile", *PPO, "--seconds", "0.2", "--json", "found.json", cwd=tmp_path)
    assert said.code == 0, said.err
    start = json.loads((tmp_path / "found.json").read_text())["start_up_seconds"]
    assert start["importing torch"] > 0.2
    assert "compiling" not in start
    assert "importing torch" in said.out


@pytest.mark.slow
def test_compiling_is_told_apart(tmp_path):
    said = pgrun("profile", *PPO, "compile=true", "--seconds", "0.2", "--ops", "--json", "found.json", cwd=tmp_path)
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["start_up_seconds"]["compiling"] > 1
    assert found["compile"]
    one = 2 * 16 * (2 * 2 * 4 * 8 + 3 * 8 * (2 + 1))  # of a gradient step; all of an update are one program
    assert found["floor"]["update"]["flops"] > one
