"""A graph does with observations and actions as the codecs do with arrays."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.graph_codecs import acting, reader

spaces = gym.spaces
BOXES = [
    spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([6.0, 0.5], np.float32)),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Box(np.array([-np.inf, -1.0]), np.array([2.0, np.inf]), dtype=np.float64),
    spaces.Box(-0.1, 0.3, (2, 2), np.float64),
    spaces.Box(-3, 9, (2,), np.int64),
]


@pytest.mark.parametrize("space", BOXES, ids=str)
def test_numbers(space):
    policys, codec = action_codec(space)
    action = 4.0 * torch.randn(64, *policys.shape)
    due, got = codec(action), acting(space)(action).numpy()
    assert got.dtype == due.dtype
    assert np.array_equal(got, due)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.Discrete(3, start=-4),
        spaces.MultiDiscrete([3, 4], start=[1, -1]),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
        spaces.MultiBinary((2, 2)),
    ],
    ids=str,
)
def test_choices(space):
    policys, codec = action_codec(space)
    drawn = torch.from_numpy(np.stack([policys.sample() for _ in range(16)]))
    action = drawn.float() if isinstance(space, spaces.MultiBinary) else drawn
    due, got = codec(action), acting(space)(action).numpy()
    assert got.dtype == due.dtype
    assert np.array_equal(got, due)


@pytest.mark.parametrize("float64", [False, True])
def test_observations(float64):
    space = spaces.Dict(
        {
            "inner": spaces.Dict({"x": spaces.Box(-1.0, 1.0, (2,), np.float64), "n": spaces.Discrete(4, start=2)}),
            "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "bits": spaces.MultiBinary(3),
            "kinds": spaces.MultiDiscrete([2, 3]),
        }
    )
    policys, codec = observation_codec(space, float64=float64)
    drawn = [space.sample() for _ in range(5)]
    inner = {key: np.stack([one["inner"][key] for one in drawn]) for key in ("x", "n")}
    batch = {key: np.stack([one[key] for one in drawn]) for key in ("image", "bits", "kinds")}
    ports, read = reader(space, policys, "obs")
    arrays = {**{f"inner.{key}": x for key, x in inner.items()}, **batch}
    got = read([torch.from_numpy(arrays[port.name.removeprefix("obs.")]) for port in ports])
    due = codec({**batch, "inner": inner})
    assert got.keys() == due.keys()
    for key, x in due.items():
        assert got[key].dtype == x.dtype
        assert torch.equal(got[key], x)
