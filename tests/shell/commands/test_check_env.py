"""`pgrun check-env` as people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import compose
from shell import pgrun, pgrun_inside

from pgrun.config.command_line import any_key
from pgrun.shell.commands.check_env import read


def test_findings_that_break_end_with_1(tmp_path: Path) -> None:
    said = pgrun_inside("check-env", "faulty:FaultyShape-v0", cwd=tmp_path)
    assert said.code == 1
    assert said.err == ""
    assert "wrong         the observation of reset(): it is an array of shape (3,)" in said.out
    assert said.out.splitlines()[-1] == "faulty:FaultyShape-v0: 1 thing wrong, no warnings"


@pytest.mark.slow
def test_warnings_end_with_0(tmp_path: Path) -> None:
    said = pgrun_inside("check-env", "faulty:FaultyEndless-v0", "--steps=200", "--json", cwd=tmp_path)
    assert said.code == 0
    result = json.loads(said.out)
    assert (result["id"], result["breaks"], len(result["findings"])) == ("faulty:FaultyEndless-v0", False, 1)
    assert set(result["findings"][0]) == {"where", "what", "right", "breaks"}
    assert {"ppo", "dqn"} <= set(result["algorithms"])
    assert "td3" not in result["algorithms"]
    said = pgrun_inside("check-env", "faulty:FaultyEndless-v0", "env.max_episode_steps=20", "--steps=200", cwd=tmp_path)
    assert (said.code, said.out.splitlines()[-1]) == (0, "faulty:FaultyEndless-v0: nothing wrong, no warnings")


@pytest.mark.slow
def test_an_environment_of_the_folder_and_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "sized.py").write_text(
        "import gymnasium as gym, numpy as np\n"
        "print('hello')\n"
        "class Sized(gym.Env):\n"
        "    action_space = gym.spaces.Box(-1.0, 1.0, (1,))\n"
        "    def __init__(self, size=2): self.observation_space = gym.spaces.Box(-1.0, 1.0, (size,))\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        super().reset(seed=seed)\n"
        "        return np.zeros(self.observation_space.shape, np.float32), {}\n"
        "    def step(self, action): return (*self.reset()[:1], 0.0, True, False, {})\n"
        "gym.register('Sized-v0', Sized)\n"
    )
    said = pgrun("check-env", "sized:Sized-v0", "size=5", "--steps", "50", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "shape (5,)" in json.loads(said.out)["observations"]
    (tmp_path / "elsewhere").mkdir()
    from_there = pgrun(
        "check-env", "sized:Sized-v0", "--config-dir", "../conf", "--steps=50", cwd=tmp_path / "elsewhere"
    )
    assert from_there.code == 0, from_there.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("CartPole-v7",), "is not a registered Gymnasium environment; did you mean CartPole-v1"),
        (("no_such:Thing-v0",), "there is no module no_such"),
        (("CartPole-v1", "size=3"), "CartPole-v1 takes no argument 'size'; it takes sutton_barto_reward"),
        (("CartPole-v1", "size"), "write key=value"),
        (("CartPole-v1", "env.id=X"), "env.max_episode_steps"),
        (("CartPole-v1", "env.max_episode_steps=0"), "at least 1"),
        (("CartPole-v1", "a=[1"), "can't read 'a=[1'"),
        (("CartPole-v1", "a=1,2"), "one value at a time"),
        (("faulty:Good",), "faulty:Good is not a registered Gymnasium environment; did you mean faulty:FaultyGood-v0?"),
        (("CartPole-v1", "a=${b}"), "can't read"),
    ],
)
def test_what_cant_be_is_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    said = pgrun_inside("check-env", *arguments, cwd=tmp_path)
    assert said.code == 2
    assert words in said.line


def test_arguments_are_read_as_a_run_reads_them() -> None:
    words = ["a=nan", "b=1e3", "c=null", "d='1'", "e=[1,x]", "f.g=2", "f.h=true", "i=no", "j={k: 1.5}"]
    found, limit = read([*words[:4], *(f"env.kwargs.{word}" for word in words[4:]), "env.max_episode_steps=7"])
    theirs = OmegaConf.to_container(compose(*(any_key(f"env.kwargs.{word}") for word in words)).env.kwargs)
    assert (repr(found), limit) == (repr(theirs), 7)
