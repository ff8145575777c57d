"""Between an environment's own observations and actions and a policy's."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.masks import MaskReader
from pgrun.envs.outside import Outside
from pgrun.errors import UserError

spaces = gym.spaces
VECTOR = spaces.Box(-1.0, 1.0, (2,), np.float32)


def outside(observations: gym.Space, actions: gym.Space = spaces.Discrete(3, start=2), **mask: Any) -> Outside:
    return Outside(
        observations, actions, observation_codec(observations)[1], action_codec(actions)[1], name="x", **mask
    )


@pytest.mark.parametrize(
    ("space", "one", "many"),
    [
        (VECTOR, np.zeros(2, np.float32), np.zeros((4, 2), np.float32)),
        (spaces.Box(-1.0, 1.0, (), np.float32), 0.5, [0.5] * 4),
        (spaces.Discrete(5, start=3), 3, np.full(4, 7)),
        (spaces.MultiBinary(3), np.zeros(3, np.int8), np.ones((4, 3), np.int8)),
        (spaces.MultiDiscrete([2, 3], start=[1, 1]), np.array([1, 1]), np.array([[2, 3]] * 4)),
    ],
)
def test_one_and_many_are_told_apart(space: gym.Space, one: Any, many: Any) -> None:
    both = spaces.Dict({"a": space, "b": spaces.Dict({"c": VECTOR})})
    for way, wrap in (
        (outside(space), lambda x, n: x),
        (outside(both), lambda x, n: {"a": x, "b": {"c": np.zeros((*n, 2), np.float32)}}),
    ):
        alone, batch = way.ask(wrap(one, ())), way.ask(wrap(many, (4,)))
        assert (alone.copies, alone.single, batch.copies, batch.single) == (1, True, 4, False)
        for question, rows in ((alone, 1), (batch, 4)):
            tensors = question.obs.values() if isinstance(question.obs, dict) else [question.obs]
            assert {len(x) for x in tensors} == {rows}
        assert way.answer(torch.tensor([1]), alone) == 3
        assert list(way.answer(torch.tensor([1, 0, 2, 1]), batch)) == [3, 2, 4, 3]


def test_tensors_get_tensors_and_actions_of_parts_are_taken_apart() -> None:
    way = outside(VECTOR)
    question = way.ask(torch.zeros(2, requires_grad=True))
    assert torch.equal(way.answer(torch.tensor([1]), question), torch.tensor(3))
    way.act = lambda a: (a.numpy(), {"x": a.numpy() + 1.0})
    assert way.answer(torch.tensor([1]), question) == (torch.tensor(1), {"x": torch.tensor(2.0)})
    many = way.answer(torch.tensor([1, 2]), way.ask(np.zeros((2, 2), np.float32)))
    assert many[0].tolist() == [1, 2]
    assert many[1]["x"].tolist() == [2.0, 3.0]


def test_masks_inside_and_beside() -> None:
    actions = spaces.Discrete(3)
    beside = outside(spaces.Dict({"observation": VECTOR, "action_mask": spaces.MultiBinary(3)}), actions)
    way = Outside(VECTOR, actions, beside.observe, beside.act, name="x", mask=MaskReader(actions, "m", adds=False))
    obs = np.zeros((2, 2), np.float32)
    assert way.ask(obs[0], [True, False, True]).obs["action_mask"].tolist() == [[1, 0, 1]]
    assert way.ask(obs, np.eye(3)[:2]).obs["action_mask"].tolist() == [[1, 0, 0], [0, 1, 0]]
    for given, mask, said in (
        (obs[0], None, "give it the one of this step"),
        (obs, [1, 0, 1], "give one mask for each"),
        (obs[0], [0, 0, 0], "forbids every action"),
        (obs[0], [1, 0], "needs a mask of 3"),
    ):
        with pytest.raises(UserError, match=said):
            way.ask(given, mask)
