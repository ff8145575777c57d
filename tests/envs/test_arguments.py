"""An argument that an environment or a wrapper can't be given is one line: whose it is, and what there is to give."""

from __future__ import annotations

from typing import Any

import breaking
import gymnasium as gym
import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from running import parts
from transitions import adapter

from pgrun.config.wrapper_settings import wrapper_settings
from pgrun.errors import UserError

W = "gymnasium.wrappers"


class Sized(gym.Env):
    action_space = gym.spaces.Discrete(2)

    def __init__(self, size: Any, shape: tuple[int, ...] = (2,), corners: Any = None, render_mode: Any = None) -> None:
        if not isinstance(shape, tuple) or not isinstance(corners, (tuple, type(None))):
            raise ValueError("no tuple")
        if size == 0:
            raise ValueError("a size of 0")
        self.observation_space = gym.spaces.Box(-1, 1, shape, np.float32)
        self.size, self.corners = size, corners

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}


class Open(Sized):
    """Passes on what it does not know."""

    def __init__(self, level: int, **kwargs: Any) -> None:
        super().__init__(size=3, **kwargs)


gym.register("Sized-v0", entry_point=Sized)  # type: ignore[arg-type]
gym.register("Registered-v0", entry_point=Sized, kwargs={"size": 3})  # type: ignore[arg-type]
gym.register("Open-v0", entry_point=Open)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("id", "kwargs", "words"),
    [
        ("Sized-v0", {}, ["env.kwargs: Sized-v0 needs size: give +env.kwargs.size=…; it takes size, shape, corners"]),
        ("Sized-v0", {"sice": 3}, ["takes no argument 'sice' (did you mean size?); it takes size, shape, corners"]),
        ("Sized-v0", {"size": 0}, ["can't be made with size=0 (ValueError: a size of 0); it takes size, "]),
        ("Open-v0", {"shape": [3]}, ["Open-v0 needs level: give +env.kwargs.level=…"]),
        ("Open-v0", {"level": 1, "sise": 3}, ["takes no argument 'sise'", "it takes level, size, shape, corners"]),
    ],
)
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_arguments_of_an_environment(id, kwargs, words, backend):
    with pytest.raises(UserError) as caught:
        adapter(id, 1, backend, kwargs=kwargs)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_is_a_tuple_where_one_is_wanted():
    env = adapter("Sized-v0", kwargs={"size": [1, 2], "shape": [3]})  # as the annotation says
    assert env.obs_space.shape == (3,)
    assert env.env.envs[0].unwrapped.size == [1, 2]  # where nothing says so, a list stays one
    env = adapter("Registered-v0", kwargs={"corners": [[0, 1], [2, 3]]})  # as the refusal says
    assert env.env.envs[0].unwrapped.corners == ((0, 1), (2, 3))
    game = ("env=gym", "env.id=breaking:Game-v0", "num_envs=1", "algo.rollout=4", "algo.minibatch=4")
    made = parts(*game, f"env.wrappers=[{{_target_: {W}.ReshapeObservation, shape: [1, 1]}}]")
    assert made.collector.env.obs_space.shape == (1, 1)


WRAPPERS = {
    "FrameStackObservation": "env.wrappers[0]: FrameStackObservation needs stack_size: give stack_size: … beside its",
    "{_target_: gymnasium.wrappers.TimeLimit, max_steps: 3}": "TimeLimit takes no argument 'max_steps' (did you mean",
    "FlatenObservation": "env.wrappers[0]: gymnasium.wrappers has no FlatenObservation (did you mean FlattenObservatio",
    "gymnasium.wrapers.TimeLimit": "env.wrappers[0]: gymnasium has no wrapers (did you mean wrappers?)",
    "nowhere.Thing": "env.wrappers[0]: there is no module nowhere",
    "3": "env.wrappers[0]=3 is no wrapper: write {_target_: module.Class, _partial_: true, …}",
    "{max_episode_steps: 3}": "is no wrapper: write {_target_: module.Class",
    "{_target_: gymnasium.wrappers.ReshapeObservation, shape: [5]}": "can't be put round the environment with shape=(5",
    "{_target_: halving.put_round}": "env.wrappers[0]: put_round needs by",
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_arguments_of_a_wrapper(wrapper):
    given = OmegaConf.create(f"wrappers: [{wrapper}]").wrappers  # as it is written on the command line
    with pytest.raises(UserError) as caught:
        adapter("Game-v0", 1, wrappers=[instantiate(setting, _convert_="all") for setting in wrapper_settings(given)])
    assert WRAPPERS[wrapper] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrapper",
    [
        "FlattenObservation",
        f"{W}.FlattenObservation",
        {"_target_": "FlattenObservation"},
        {"_target_": "halving.Halves", "by": 3},
        {"_target_": "halving.Halves", "_partial_": True},
        {"_target_": "halving.put_round", "by": 3},
    ],
)
def test_what_takes_an_environment_is_called_when_there_is_one(wrapper):
    (setting,) = wrapper_settings([wrapper])
    assert setting["_partial_"] is True
    assert wrapper_settings(wrapper) == [setting]  # one alone


def test_what_makes_a_wrapper_is_called_at_once():
    (setting,) = wrapper_settings([{"_target_": "halving.halves_of", "by": 3}])
    assert setting["_partial_"] is False
    assert wrapper_settings(None) == []


def test_a_name_without_its_version():
    assert breaking.Game is not None  # registers it
    with pytest.raises(UserError, match=r"env\.id=Game is not a registered .*did you mean Game-v0"):
        adapter("Game")
