"""Every observation and action space, through the adapter and through training."""

import gymnasium as gym
import numpy as np
import pytest
import torch
import worlds
from recipes import sampled
from running import parts

from pgrun.envs.codecs import action_codec, observation_codec
from pgrun.envs.reading import said
from pgrun.errors import UserError
from pgrun.loop.train import Clock, train

spaces = gym.spaces
SMALL = ("network.hidden=[8]", "num_envs=3", "env.max_episode_steps=6")


def trained(*overrides: str, steps: int = 150):
    """Train for a few updates; -> the parts."""
    made = parts(f"total_steps={steps}", *overrides)
    before = {key: value.clone() for key, value in made.algorithm.state_dict().items()}
    clock = Clock(steps)
    train(made.algorithm, made.collector, made.memory, clock, [])
    made.collector.env.close()
    assert clock.updates >= 2
    after = made.algorithm.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in before)
    return made


@pytest.mark.parametrize("name", worlds.OBSERVATIONS)
def test_ppo_trains_on_every_observation_space(name):
    network = ("network=cnn", "network.hidden=[8]", "network.channels=[4,4,4]") if name == "Image" else ("network=mlp",)
    trained(
        "env=gym", f"env.id=Obs{name}-v0", *network, *SMALL, "algo.rollout=16", "algo.minibatch=16", "algo.epochs=2"
    )


@pytest.mark.parametrize("name", sampled(list(worlds.ACTIONS), 2))
def test_ppo_trains_on_every_action_space(name):
    trained("env=gym", f"env.id=Act{name}-v0", *SMALL, "algo.rollout=16", "algo.minibatch=16", "algo.epochs=2")


BOXES = [name for name, space in worlds.ACTIONS.items() if isinstance(space, spaces.Box)]


@pytest.mark.parametrize("name", sampled(BOXES, ("Bounded", "BoundedScalar", "HalfBounded")))
def test_td3_trains_on_every_box_and_sac_on_those_with_bounds(name):
    words = ("env=gym", f"env.id=Act{name}-v0", *SMALL, "memory.warmup=30", "memory.capacity=100")
    trained("algo=td3", *words, steps=60)
    if name in ("Unbounded", "HalfBounded"):
        with pytest.raises(UserError, match="use algo=td3"):
            trained("algo=sac", *words, steps=60)
    else:
        trained("algo=sac", *words, steps=60)


@pytest.mark.parametrize("name", sampled([name for name in worlds.OBSERVATIONS if name != "Image"], 3))
def test_sac_trains_on_every_observation_space_without_images(name):
    trained(
        "algo=sac", "env=gym", f"env.id=ObsBox{name}-v0", *SMALL, "memory.warmup=30", "memory.capacity=100", steps=60
    )


@pytest.mark.parametrize("autoreset", ["same_step", "next_step"])
def test_a_mask_is_obeyed(autoreset):
    # the environment refuses a forbidden action; in a filler row the policy acts on the last observation's mask
    made = trained(
        "env=gym", "env.id=MaskedWorld-v0", f"env.autoreset={autoreset}", *SMALL, "algo.rollout=16", "algo.minibatch=16"
    )
    assert set(made.collector.env.obs_space.keys()) == {"x", "action_mask"}


def test_discrete_observations_count_from_their_start():
    space, codec = observation_codec(spaces.Discrete(4, start=3))
    assert space == spaces.Discrete(4)
    assert codec(np.array([3, 6, 4])).tolist() == [0, 3, 1]


def test_observations_keep_their_numbers():
    _, codec = observation_codec(spaces.Box(-1, 1, (2,), np.float64))
    x = np.array([[0.1, -0.2]])
    assert codec(x).dtype == torch.float32
    assert np.array_equal(codec(x).numpy(), x.astype(np.float32))
    _, codec = observation_codec(spaces.MultiDiscrete([3, 9]))
    assert codec(np.array([[2, 8]])).tolist() == [[2.0, 8.0]]
    image = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    space, codec = observation_codec(spaces.Box(0, 255, (4, 4, 3), np.uint8))
    assert space.dtype == np.uint8
    assert codec(image).dtype == torch.uint8
    assert np.array_equal(codec(image).numpy(), image)


def test_observations_are_copies():
    _, codec = observation_codec(worlds.VECTOR)
    buffer = np.zeros((1, 3), np.float32)
    seen = codec(buffer)
    buffer[:] = 1.0
    assert seen.sum() == 0


def test_a_dict_in_a_dict_gets_dotted_keys():
    space, codec = observation_codec(worlds.OBSERVATIONS["Nested"])
    assert sorted(space.keys()) == ["body.arm", "body.leg", "room"]
    obs = {"body": {"arm": np.ones((2, 3)), "leg": np.zeros((2, 2))}, "room": np.array([2, 0])}
    seen = codec(obs)
    assert seen["body.arm"].tolist() == [[1.0] * 3] * 2
    assert seen["room"].tolist() == [2, 0]


def test_bounded_actions_are_rescaled_and_clipped():
    space, codec = action_codec(worlds.ACTIONS["Bounded"])  # [-2, 2] and [0, 10]
    assert (space.low.tolist(), space.high.tolist()) == ([-1.0, -1.0], [1.0, 1.0])
    taken = codec(torch.tensor([[-1.0, -1.0], [0.0, 0.5], [1.0, 1.0], [-7.0, 7.0]]))
    assert taken.tolist() == [[-2.0, 0.0], [0.0, 7.5], [2.0, 10.0], [-2.0, 10.0]]


def test_half_bounded_actions_pass_up_to_their_bound():
    space, codec = action_codec(worlds.ACTIONS["HalfBounded"])  # [0, inf) and (-inf, 1]
    assert np.isinf(space.high).all()
    assert codec(torch.tensor([[-3.0, -30.0], [5.0, 2.0], [0.5, 0.5]])).tolist() == [
        [0.0, -30.0],
        [5.0, 1.0],
        [0.5, 0.5],
    ]


@pytest.mark.parametrize("bound", [np.inf, float(np.finfo(np.float32).max)])
def test_unbounded_actions_pass(bound):
    _, codec = action_codec(spaces.Box(-bound, bound, (2,), np.float32))
    assert codec(torch.tensor([[123.0, -4.5]])).tolist() == [[123.0, -4.5]]


def test_float64_bounds_are_kept():
    box = worlds.ACTIONS["Bounded64"]  # [-0.1, 0.3], neither of which float32 has
    _, codec = action_codec(box)
    edges = codec(torch.tensor([[-1.0, 1.0]]))
    assert edges.dtype == np.float64
    assert box.contains(edges[0])
    assert np.allclose(edges, [[-0.1, 0.3]], atol=1e-7)


def test_whole_number_boxes_are_rounded():
    _, codec = action_codec(worlds.ACTIONS["Whole"])  # -3 .. 3
    assert codec(torch.tensor([[0.55, -0.99]])).tolist() == [[2, -3]]


def test_discrete_actions_start_where_their_space_does():
    assert action_codec(spaces.Discrete(3, start=5))[1](torch.tensor([0, 2])).tolist() == [5, 7]
    _, codec = action_codec(worlds.ACTIONS["MultiDiscreteFrom4"])
    assert codec(torch.tensor([[0, 0], [1, 2]])).tolist() == [[4, -1], [5, 1]]
    space, codec = action_codec(worlds.ACTIONS["MultiDiscreteGrid"])
    assert space.nvec.tolist() == [2, 3, 4, 5]
    assert codec(torch.tensor([[1, 2, 3, 4]])).tolist() == [[[1, 2], [3, 4]]]
    space, codec = action_codec(worlds.ACTIONS["MultiBinaryGrid"])
    assert codec(torch.tensor([[1.0, 0, 0, 0, 0, 1.0]])).tolist() == [[[1, 0, 0], [0, 0, 1]]]


def test_a_long_space_is_written_out():
    seen = spaces.Dict({"cam": spaces.Box(0, 255, (16, 16, 3), np.uint8), "gear": spaces.MultiDiscrete([2] * 9)})
    gear = "MultiDiscrete([2 2 2 2 2 2 2 2 2])"
    text = f"Dict of 'cam': Box of shape (16, 16, 3) and type uint8, from 0 to 255, 'gear': {gear}"
    assert said(seen) == text
    assert said(spaces.Tuple((seen, spaces.Discrete(2)))) == f"Tuple of {text}, Discrete(2)"
