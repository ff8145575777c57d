import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn.layers import Flatten, flat_size, is_image, linear

spaces = gym.spaces
VECTOR = spaces.Box(-np.inf, np.inf, (3,), np.float32)


def image(*shape, dtype=np.uint8, high=255):
    return spaces.Box(0, high, shape, dtype)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_linear_is_orthogonal_of_its_gain(gain):
    layer = linear(6, 4, gain)
    assert_close(layer.weight @ layer.weight.T, gain**2 * torch.eye(4), rtol=0.0, atol=1e-5)
    assert not layer.bias.any()


def test_linear_with_gain_0_is_torchs_own():
    torch.manual_seed(5)
    ours = linear(6, 4, 0.0)
    torch.manual_seed(5)
    torchs = nn.Linear(6, 4)
    assert torch.equal(ours.weight, torchs.weight)
    assert torch.equal(ours.bias, torchs.bias)


def test_flat_sizes():
    assert flat_size(VECTOR) == 3
    assert flat_size(spaces.Box(0, 1, (2, 5))) == 10
    assert flat_size(spaces.Box(0, 1, ())) == 1
    inner = spaces.Dict({"a": VECTOR, "b": spaces.Box(0, 1, (2, 2)), "action_mask": spaces.MultiBinary(9)})
    assert flat_size(inner) == 7


@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
@pytest.mark.parametrize("batch", [(), (4,), (6, 4)])
def test_flatten_makes_vectors_of_any_box(shape, batch):
    x = torch.randn((*batch, *shape))
    flat = Flatten(spaces.Box(-1, 1, shape), normalize=False)(x)
    assert flat.shape == (*batch, flat_size(spaces.Box(-1, 1, shape)))
    assert torch.equal(flat.flatten(), x.flatten())


def test_dict_observations_are_joined_in_the_spaces_order_without_the_mask():
    space = spaces.Dict(
        {"z": VECTOR, "a": spaces.Box(0, 1, (2, 2)), "n": spaces.Box(0, 1, ()), "action_mask": spaces.MultiBinary(4)}
    )
    obs = {
        "a": torch.randn(5, 2, 2),
        "n": torch.arange(5),  # integers become numbers
        "z": torch.randn(5, 3),
        "action_mask": torch.ones(5, 4),
    }
    flat = Flatten(space, normalize=False)(obs)
    by_key = {"a": obs["a"].flatten(1), "n": obs["n"].float()[:, None], "z": obs["z"]}
    assert_close(flat, torch.cat([by_key[key] for key in space if key != "action_mask"], -1))


def test_what_an_image_is():
    assert is_image(image(3, 8, 8))
    assert not is_image(VECTOR)
    assert not is_image(spaces.Discrete(3))


def test_images_among_vectors_are_refused():
    space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8), "speed": spaces.Box(-1, 1, (2,))})
    with pytest.raises(UserError, match=r"'camera'.*\(8, 8, 3\).*env\.wrappers"):
        Flatten(space, normalize=False)
