"""An environment that breaks Gymnasium's interface is one line: what came and what is wanted. Nothing is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import new_run
from transitions import adapter

from pgrun.envs.interface import FirstAnswers, flag, number
from pgrun.errors import EnvFailed, NotBegun, UserError
from pgrun.shell.cli import main

LOOK = np.zeros(2, np.float32)
RESET: dict[str, Any] = {"alone": LOOK, "nothing": None, "three": (LOOK, {}, 1), "text": "ab", "pair": (LOOK, LOOK)}
STEP: dict[str, Any] = {
    "four": (LOOK, 1.0, False, {}),
    "alone": LOOK,
    "nothing": None,
    "info is a list": (LOOK, 1.0, False, False, []),
    "no reward": (LOOK, None, False, False, {}),
    "two rewards": (LOOK, np.ones(2), False, False, {}),
    "a text as reward": (LOOK, "1.0", False, False, {}),
    "a complex reward": (LOOK, 1j, False, False, {}),
    "a text as flag": (LOOK, 1.0, "False", False, {}),
    "flags of two": (LOOK, 1.0, False, np.zeros(2, bool), {}),
}
WANTS = "Gymnasium's interface wants "


class Answers(gym.Env):
    """Answers right, but for one reset or one step."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, bad_reset: str = "", bad_step: str = "", at: int = 1, reward: Any = 1.0) -> None:
        self.bad_reset, self.bad_step, self.at, self.reward, self.n = bad_reset, bad_step, at, reward, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return RESET[self.bad_reset] if self.bad_reset else (LOOK, {})

    def step(self, action: Any) -> Any:
        self.n += 1
        if self.bad_step and self.n >= self.at:
            return STEP[self.bad_step]
        return LOOK, self.reward, False, False, {}


class NoSeed(Answers):
    def reset(self) -> Any:  # type: ignore[override]
        return LOOK


class NoOptions(Answers):
    def reset(self, seed: int | None = None) -> Any:  # type: ignore[override]
        return LOOK, {}


class NoAction(Answers):
    def step(self) -> Any:  # type: ignore[override]
        return LOOK, 1.0, False, False, {}


class NoStep(gym.Env):
    observation_space, action_space = Answers.observation_space, Answers.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return LOOK, {}


class NoSpace(Answers):
    observation_space = None  # type: ignore[assignment]


class AnyFloat(Answers):
    action_space = (0, 1)  # type: ignore[assignment]


class FromZero(gym.Wrapper):
    """Forgets the info."""

    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs)[0]


for _kind in (Answers, NoSeed, NoOptions, NoAction, NoStep, NoSpace, AnyFloat):
    gym.register(f"{_kind.__name__}-v0", entry_point=_kind, max_episode_steps=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("NoSeed-v0", ["reset() of NoSeed-v0 takes no seed and no options", "reset(self, *, seed=None, options=None)"]),
        ("NoOptions-v0", ["takes no options", "reset(self, *, seed=None, options=None)"]),
        ("NoAction-v0", ["step() of NoAction-v0 can't be called", "step(self, action)"]),
        ("NoStep-v0", ["NoStep-v0 has no step of its own", "step(self, action)"]),
        ("NoSpace-v0", ["has no observation_space", "gymnasium.spaces.Space"]),
        ("AnyFloat-v0", ["has a tuple of 2 for its action_space", "gymnasium.spaces.Space"]),
    ],
)
def test_what_can_not_be_called_or_has_no_spaces(id, words):
    with pytest.raises(UserError) as caught:
        adapter(id)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("wrong", RESET)
def test_a_wrong_answer_of_reset_is_refused_as_it_is_made(wrong):
    with pytest.raises(UserError, match=r"reset\(\) of Answers-v0 returned .*wants \(observation, info\)$"):
        adapter("Answers-v0", kwargs={"bad_reset": wrong})


@pytest.mark.parametrize("wrong", STEP)
def test_a_wrong_answer_of_step_is_refused_at_the_first_and_a_failure_later(wrong):
    push = torch.zeros(2, dtype=torch.int64)
    env = adapter("Answers-v0", kwargs={"bad_step": wrong})
    env.reset(0)
    with pytest.raises(NotBegun, match=f"of Answers-v0 .*{WANTS}"):
        env.step(push)
    if wrong == "info is a list":  # of which nothing is read
        return
    env = adapter("Answers-v0", kwargs={"bad_step": wrong, "at": 3})
    env.reset(0)
    env.step(push)
    env.step(push)
    with pytest.raises(EnvFailed, match="environment 0 failed in step"):
        env.step(push)


def test_the_wrapper_that_answers_wrongly_is_named():
    with pytest.raises(UserError, match=r"reset\(\) of the wrapper FromZero of Answers-v0 returned an array of shape"):
        adapter("Answers-v0", wrappers=[FromZero])


class Wider(gym.ObservationWrapper):
    """Shows three numbers where its space, the environment's, says fewer."""

    def observation(self, observation):
        return np.zeros(3, np.float32)


class Through(gym.Wrapper):
    """Changes nothing."""


class Hollow(gym.Wrapper):
    """Forgets its environment."""

    def __init__(self, env):
        self.size = 1


@pytest.mark.parametrize(
    ("wrappers", "name"),
    [
        ([Wider], "the wrapper Wider of CartPole-v1"),
        ([Through, Wider], "the wrapper Wider of CartPole-v1"),
        ([Wider, Through], "the wrapper Wider of CartPole-v1"),
    ],
)
def test_the_wrapper_that_shows_what_its_space_is_not_is_named(wrappers, name):
    with pytest.raises(UserError) as refused:
        adapter("CartPole-v1", wrappers=wrappers)
    assert str(refused.value).startswith(f"the observation of {name} is an array of shape (3,)")


def test_a_wrapper_that_forgets_its_environment_is_named():
    with pytest.raises(UserError) as refused:
        adapter("CartPole-v1", wrappers=[Through, Hollow])
    line = "env.wrappers[1]: Hollow has no environment inside: begin its __init__ with super().__init__(env)"
    assert str(refused.value) == line


@pytest.mark.parametrize("reward", [np.array([3.0]), np.array([[3.0]]), [3.0], torch.tensor([3.0]), np.float32(3), 3])
def test_one_number_is_a_reward_in_whatever_it_comes(reward):
    env = adapter("Answers-v0", kwargs={"reward": reward})
    env.reset(0)
    for _ in range(2):  # checked, and no longer checked
        assert env.step(torch.zeros(2, dtype=torch.int64)).reward.tolist() == [3.0, 3.0]
    assert number(reward) == 3.0


def test_flags():
    assert [flag(x, "it") for x in (True, np.bool_(True), 1, np.array([True]), None, 0)] == [True] * 4 + [False] * 2


def test_nothing_is_left_on_the_layers_and_a_copy_is_a_copy():
    env = gym.make("Answers-v0", disable_env_checker=True)
    watch = FirstAnswers(env, "it")
    twin = copy.deepcopy(env)
    twin.reset(seed=0)
    twin.step(0)
    assert (env.unwrapped.n, twin.unwrapped.n) == (0, 1)  # type: ignore[attr-defined]
    watch.end()
    assert not {"reset", "step"} & (vars(env).keys() | vars(env.unwrapped).keys())


def test_a_native_environment_s_first_step_has_a_number_for_each_copy():
    class Native(gym.vector.VectorEnv):
        metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012
        single_observation_space = Answers.observation_space
        single_action_space = Answers.action_space

        def __init__(self, num_envs: int = 1) -> None:
            self.num_envs = num_envs

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return np.zeros((self.num_envs, 2), np.float32), {}

        def step(self, actions: Any) -> Any:
            no = np.zeros(self.num_envs, bool)
            return np.zeros((self.num_envs, 2), np.float32), np.ones((self.num_envs, 1)), no, no, {}

    gym.register("NativeAnswers-v0", entry_point=Answers, vector_entry_point=Native)  # type: ignore[arg-type]
    env = adapter("NativeAnswers-v0")
    env.reset(0)
    with pytest.raises(NotBegun, match=r"reward of NativeAnswers-v0 is an array of shape \(2, 1\).*shape \(2,\)"):
        env.step(torch.zeros(2, dtype=torch.int64))


SMALL = ("env=gym", "env.id=Answers-v0", "num_envs=2", "algo.rollout=4", "algo.minibatch=8", "network.hidden=[4]")
SHORT = (*SMALL, "total_steps=16", "eval.every=null", "eval.final_episodes=2")


@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_is_refused_at_its_first_step_leaves_its_directory_as_it_was(existed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if existed:
        (tmp_path / "x" / "y").mkdir(parents=True)
        (tmp_path / "x" / "y" / "mine.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main([*SHORT, "+env.kwargs.bad_step=four", "hydra.run.dir=x/y"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "returned a tuple of 4, as gym before 0.26 had it; " + WANTS in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_an_evaluation_s_environment_that_is_wrong_keeps_the_training(tmp_path: Path) -> None:
    run = new_run(tmp_path, *SHORT, "++eval.env.kwargs={bad_step: four}")
    with pytest.raises(EnvFailed, match=r"returned a tuple of 4.*pgrun resume"):
        run.execute()
    assert (run.checkpoints / "latest.pt").exists()
