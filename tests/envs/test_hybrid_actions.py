"""Actions of several parts: what an environment gets of a policy's vector."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from pgrun.algos.parts.base import Algorithm
from pgrun.data.hybrid import Hybrid
from pgrun.envs.gymnasium import action_codec
from pgrun.errors import UserError, WrongSpace

spaces = gym.spaces
PARTS = (
    spaces.Discrete(3, start=1),
    spaces.Box(np.array([0, -1], np.float32), np.array([10, np.inf], np.float32), (2,), np.float32),
)


class OnlyBoxes(Algorithm):
    """An algorithm for numbers alone."""

    action_spaces = (spaces.Box,)


def test_a_tuple_is_taken_part_by_part():
    seen, take = action_codec(spaces.Tuple(PARTS))
    assert seen == Hybrid(
        [spaces.Discrete(3), spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))]
    )
    assert seen.shape == (3,)
    choice, numbers = take(torch.tensor([[2.0, -1.0, 7.0], [0.0, 3.0, -5.0]]))
    assert choice.tolist() == [3, 1]
    assert numbers.tolist() == [[0, 7], [10, -1]]  # rescaled, and cut at the bounds


def test_parts_in_parts_are_one_vector():
    space = spaces.Dict(
        {
            "a": spaces.Discrete(2),
            "b": spaces.Tuple((spaces.MultiDiscrete([2, 4]), spaces.Dict({"c": spaces.MultiBinary(2)}))),
            "d": spaces.Box(-2, 2, (1, 2), np.float32),
        }
    )
    seen, take = action_codec(space)
    assert [type(part).__name__ for part in seen.parts] == ["Discrete", "MultiDiscrete", "MultiBinary", "Box"]
    assert seen.sizes == (1, 2, 2, 2)
    taken = take(torch.tensor([[1.0, 0, 3, 1, 0, 0.5, -1], [0.0, 1, 2, 0, 1, 1, 0]]))
    assert taken["a"].tolist() == [1, 0]
    assert taken["b"][0].tolist() == [[0, 3], [1, 2]]
    assert taken["b"][1]["c"].tolist() == [[1, 0], [0, 1]]
    assert taken["d"].tolist() == [[[1, -2]], [[2, 0]]]
    first = next(gym.vector.utils.iterate(gym.vector.utils.batch_space(space, 2), taken))
    assert space.contains(first)


def test_the_space_holds_its_samples():
    space = Hybrid([spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.Box(-1, 1, (2,), np.float32)])
    space.parts[0].seed(0)
    for _ in range(5):
        assert space.contains(space.sample())
    assert not space.contains(np.array([3, 0, 0, 0, 0], np.float32))
    assert not space.contains(np.array([0, 0], np.float32))
    assert space != Hybrid([spaces.Discrete(3)])


def test_what_can_t_be_a_part():
    for space in (spaces.Tuple(()), spaces.Tuple((spaces.Text(3),)), spaces.Dict({"a": spaces.Graph(PARTS[1], None)})):
        with pytest.raises(UserError, match="can't be taken"):
            action_codec(space)


def test_who_cannot_act_there_names_the_environments_space():
    given = spaces.Tuple(PARTS)
    with pytest.raises(WrongSpace) as refused:
        OnlyBoxes(obs_space=PARTS[1], action_space=action_codec(given)[0])
    said = str(refused.value)
    assert said.startswith(f"OnlyBoxes can't act in {given}: it needs Box actions (the wrapper OneBox in docs/")
