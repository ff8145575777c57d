"""The examples of the front page and of docs/your-own.md run as they stand there."""

import json
import re
from typing import Any

import pytest
from docs_pages import ROOT, blocks, commands, files, words_of, write_files
from shell import pgrun_inside

from pgrun.run.curves import read_curves

PAGE = ROOT / "docs" / "your-own.md"
SHORT = ("total_steps=200", "num_envs=2", "eval.every=null", "eval.final_episodes=2", "hydra.run.dir=run")
# the first command of each algorithm, environment and network of one's own
LINES: dict[str, Any] = {}
for command in commands(PAGE):
    if found := re.search(r"(?:algo|env|network)=(mine|bold|plain|guess|drift|residual)\b", command):
        LINES.setdefault(found[1], command)
    for name in re.findall(r"=(drift|residual|plain|guess)\b", command):
        LINES.setdefault(name, command)


def run(folder, line):
    """Train for a moment by a command line in a folder; -> result.json."""
    ran = pgrun_inside(*words_of(line)[1:], *SHORT, cwd=folder)
    assert ran.code == 0, ran.err
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["updates"] > 0
    return result


@pytest.mark.parametrize("name", ["mine", "bold", "plain", "guess", "drift", "residual"])
def test_a_part_of_ones_own(name, tmp_path):
    write_files(PAGE, tmp_path)
    result = run(tmp_path, LINES[name])
    assert name in result["command"]


def test_parts_of_ones_own_are_listed_by_what_they_are(tmp_path):
    write_files(PAGE, tmp_path)
    listed = pgrun_inside("list", "algos", "--config-dir", "conf", cwd=tmp_path).out
    assert re.search(r"^  mine +Actor-critic in one loss$", listed, re.MULTILINE)


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_hook_ends_the_run(number, tmp_path):
    write_files(PAGE, tmp_path)
    line = [line for line in commands(PAGE) if "sure" in line][number]
    result = run(tmp_path, f"{line} hooks.sure.nats=0.7 +hooks.sure.updates=1".replace("hooks.sure.nats=0.6 ", ""))
    assert result["stopped"] == {"by": "sure", "why": "its entropy was below 0.7 for 1 updates"}  # more than ln 2


@pytest.mark.slow
@pytest.mark.parametrize("word", ["peek", "priced"])
def test_the_other_examples_run(word, tmp_path):
    write_files(PAGE, tmp_path)
    (line,) = [line for line in commands(PAGE) if word in line]
    ran = pgrun_inside(*words_of(line)[1:], *SHORT, "eval.every=100", "log.every=50", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert {"peek": "peek/first_reward", "priced": "train/return_wrapped"}[word] in read_curves(tmp_path / "run")


def test_the_front_page_s_algorithm(tmp_path):
    page = ROOT / "README.md"
    write_files(page, tmp_path)
    (line,) = [line for line in commands(page) if "--config-dir" in line]
    result = run(tmp_path, line)
    assert (result["algo"], result["env"]) == ("mine", "cartpole")
    lines = [line for text in files(page).values() for line in text.splitlines()]
    assert len([line for line in lines if not re.fullmatch(r"# \S+\.(py|yaml)", line)]) <= 25


HYBRID = """
import gymnasium as gym
import numpy as np

seen = []


class Hybrid(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Tuple((gym.spaces.Discrete(3), gym.spaces.Box(0, 10, (2,), np.float32)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        return np.zeros(2, np.float32), float(action[0] == 2), False, self.t == 4, {}


gym.register("Hybrid-v0", Hybrid)
"""


@pytest.mark.slow
def test_actions_of_several_parts_as_one_box(tmp_path):
    page = ROOT / "docs" / "masks-wrappers-spaces.md"
    write_files(page, tmp_path)
    (tmp_path / "my_env.py").write_text(HYBRID)
    plain, wrapped = [line for line in commands(page) if "Hybrid" in line]
    run(tmp_path, f"{wrapped} memory.warmup=50 memory.capacity=1000")
    refused = pgrun_inside(*words_of(wrapped)[1:4], "hydra.run.dir=again", cwd=tmp_path)
    assert refused.code == 2
    assert "SAC can't act in Tuple(Discrete(3), Box" in refused.line
    assert "ppo" in refused.line.partition("; algo=")[2]
    assert not (tmp_path / "again").exists()
    (tmp_path / "run").rename(tmp_path / "first")
    run(tmp_path, plain)


def test_the_table_of_demonstrations(tmp_path):
    page = ROOT / "docs" / "demonstrations.md"
    (table,) = [block.lines for block in blocks(page) if block.language == "csv"]
    (tmp_path / "demos.csv").write_text("\n".join(table))
    (line,) = [line for line in commands(page) if "demos.csv" in line]
    result = run(tmp_path, line)
    assert result["env_steps"] >= 200
