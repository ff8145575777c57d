import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoded import COMMON, VECTOR, cnn, image, mlp, spaces
from torch import nn
from torch.testing import assert_close

from pgrun.envs.codecs import observation_codec
from pgrun.errors import UserError
from pgrun.nn.encoders import Network
from pgrun.nn.layers import ACTIVATIONS, Flatten, flat_size


def weights(encoder):
    """The (weight, bias) of every layer, first to last, however the module keeps them."""
    parameters = list(encoder.parameters())
    return list(zip(parameters[::2], parameters[1::2], strict=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_is_its_layers_and_activations(activation):
    encoder = mlp(activation=activation).encoder(VECTOR)
    torchs = {"tanh": nn.Tanh(), "relu": nn.ReLU(), "elu": nn.ELU(), "silu": nn.SiLU()}[activation]
    x = torch.randn(2, 7, 3)
    first, second = weights(encoder)
    assert_close(encoder(x), torchs(F.linear(torchs(F.linear(x, *first)), *second)))
    assert encoder.features == 5
    assert [tuple(weight.shape) for weight, _ in (first, second)] == [(8, 3), (5, 8)]


def test_mlp_of_no_layers_passes_the_observation():
    encoder = mlp(hidden=[]).encoder(VECTOR)
    x = torch.randn(4, 3)
    assert encoder.features == 3
    assert torch.equal(encoder(x), x)


def test_mlp_reads_the_vectors_of_a_dict():
    space = spaces.Dict({"z": VECTOR, "a": spaces.Box(0, 1, (2, 2)), "n": spaces.Box(0, 1, ())})
    encoder = mlp().encoder(space)
    assert weights(encoder)[0][0].shape == (8, 8)
    assert encoder({"z": torch.randn(5, 3), "a": torch.rand(5, 2, 2), "n": torch.rand(5)}).shape == (5, 5)


def test_discrete_observations_arrive_one_hot():
    space, codec = observation_codec(spaces.Discrete(4, start=2))
    assert flat_size(space) == 4
    flat = Flatten(space, False).run(codec(np.array([2, 5, 3])))
    assert flat.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    assert mlp().encoder(space)(codec(np.array([2, 5]))).shape == (2, 5)


def test_normalize_obs_uses_the_running_statistics():
    encoder, plain = mlp(normalize_obs=True).encoder(VECTOR), mlp().encoder(VECTOR)
    plain.load_state_dict(encoder.state_dict(), strict=False)
    x = torch.randn(500, 3) * torch.tensor([1.0, 2.0, 0.1]) + 1.0  # below the clip at 10
    assert_close(encoder(x[:9]), plain(x[:9]))  # nothing seen, nothing changed
    encoder.observe(x, torch.ones(500, dtype=torch.bool))
    assert_close(encoder(x[:9]), plain((x[:9] - x.mean(0)) / x.std(0, correction=0)), rtol=1e-4, atol=1e-4)
    before = plain(x[:9])
    plain.observe(x, torch.ones(500, dtype=torch.bool))  # an encoder without statistics takes no notice
    assert torch.equal(plain(x[:9]), before)


def test_cnn_channels_first_and_last_read_the_same_image():
    first, last = cnn().encoder(image(3, 48, 40)), cnn().encoder(image(48, 40, 3))
    assert not first.channels_last
    assert last.channels_last
    last.load_state_dict(first.state_dict())
    x = torch.randint(256, (2, 5, 3, 48, 40), dtype=torch.uint8)
    assert first(x).shape == (2, 5, 16)
    assert_close(first(x), last(x.permute(0, 1, 3, 4, 2)))


def test_cnn_is_its_convolutions_on_scaled_pixels():
    encoder = cnn(activation="relu").encoder(image(4, 84, 84))
    kernels = [(c.kernel_size[0], c.stride[0]) for c in encoder.convolutions]
    assert kernels == [(8, 4), (4, 2), (3, 1)]
    x = torch.randint(256, (3, 4, 84, 84), dtype=torch.uint8)
    h = x.float() / 255.0
    for convolution in encoder.convolutions:
        h = convolution(h).relu()
    assert h.shape == (3, 8, 7, 7)
    assert_close(encoder(x), F.linear(h.flatten(1), *weights(encoder)[-1]).relu())


def test_cnn_takes_float_images_as_they_are():
    encoder = cnn().encoder(image(1, 10, 10, dtype=np.float32, high=1))
    assert encoder.scale == 1.0
    assert [c.kernel_size for c in encoder.convolutions] == [(3, 3)] * 3  # small images, small kernels
    assert encoder(torch.rand(2, 1, 10, 10)).shape == (2, 16)


def test_refusals():
    with pytest.raises(UserError, match="use network=cnn"):
        mlp().encoder(image(3, 48, 48))
    for space in (VECTOR, spaces.Dict({"a": VECTOR})):
        with pytest.raises(UserError, match="use network=mlp"):
            cnn().encoder(space)
    with pytest.raises(UserError, match=r"network\.channels_last=true or false"):
        cnn().encoder(image(8, 8, 8))
    with pytest.raises(UserError, match=r"network\.channels_last=2 should be"):
        cnn(channels_last=2)
    with pytest.raises(UserError, match=r"network\.activation=gelu .* tanh, relu, elu, silu"):
        mlp(activation="gelu")


def test_the_base_factory_makes_nothing():
    with pytest.raises(NotImplementedError):
        Network(hidden=[4], **COMMON).encoder(VECTOR)


LAYOUTS = {  # channels last?
    True: [(64, 64, 12), (84, 84, 4), (210, 160, 3), (6, 7, 2), (7, 7, 20), (8, 8, 111), (19, 19, 17), (40, 60, 12)],
    False: [(12, 64, 64), (4, 84, 84), (3, 210, 160), (2, 6, 7), (20, 7, 7), (17, 19, 19), (12, 40, 60)],
}


@pytest.mark.parametrize("last", LAYOUTS)
def test_images_are_convolved_along_height_and_width(last):
    for shape in LAYOUTS[last]:
        space = image(*shape)
        encoder = cnn().encoder(space)
        assert encoder.convolutions[0].in_channels == (shape[2] if last else shape[0]), shape
        x = torch.randint(256, (2, *shape), dtype=torch.uint8)
        other = cnn(channels_last=not last).encoder(
            image(*np.moveaxis(np.zeros(shape), *((2, 0) if last else (0, 2))).shape)
        )
        other.load_state_dict(encoder.state_dict())
        assert_close(encoder(x), other(x.movedim(*((3, 1) if last else (1, 3)))))


@pytest.mark.parametrize("shape", [(8, 8, 8), (6, 7, 8), (30, 40, 20), (5, 9, 5)])
def test_images_that_do_not_tell_their_layout(shape):
    with pytest.raises(UserError, match=r"network\.channels_last=true or false"):
        cnn().encoder(image(*shape))
    for last in (True, False):
        encoder = cnn(channels_last=last).encoder(image(*shape))
        assert encoder.convolutions[0].in_channels == shape[2 if last else 0]


def test_an_image_alone_in_a_dict_is_read():
    inside = spaces.Dict({"action_mask": spaces.MultiBinary(2), "image": image(10, 10, 3)})
    encoder, plain = cnn().encoder(inside), cnn().encoder(image(10, 10, 3))
    plain.load_state_dict(encoder.state_dict())
    x = torch.randint(256, (2, 10, 10, 3), dtype=torch.uint8)
    assert torch.equal(encoder({"image": x, "action_mask": torch.ones(2, 2)}), plain(x))


MIXED = spaces.Dict(
    {
        "action_mask": spaces.MultiBinary(2),
        "camera": image(40, 48, 3),
        "choice": spaces.Discrete(4),
        "map": image(1, 10, 10, dtype=np.float32, high=1),
        "place": VECTOR,
    }
)


def seen(*batch):
    """Random observations of MIXED."""
    return {
        "action_mask": torch.ones(*batch, 2),
        "camera": torch.randint(256, (*batch, 40, 48, 3), dtype=torch.uint8),
        "choice": torch.randint(4, batch),
        "map": torch.rand(*batch, 1, 10, 10),
        "place": torch.randn(*batch, 3),
    }


def test_images_and_vectors_of_a_dict_are_read_together():
    encoder = cnn().encoder(MIXED)
    obs = seen(2, 5)
    features = encoder(obs)
    assert features.shape == (2, 5, 16)
    camera, plan = cnn(hidden=[]).encoder(MIXED["camera"]), cnn(hidden=[]).encoder(MIXED["map"])
    for alone, part in zip((camera, plan), encoder.images, strict=True):
        alone.load_state_dict(part.state_dict())
    vectors = Flatten(spaces.Dict({"choice": MIXED["choice"], "place": VECTOR}), False).run(obs)
    together = torch.cat([camera(obs["camera"]), plan(obs["map"]), vectors], -1)
    (weight, bias) = list(encoder.layers.parameters())
    assert_close(features, torch.tanh(F.linear(together, weight, bias)))
    for key in ("camera", "map", "place", "choice"):  # each is seen, and nothing else is
        changed = {**obs, key: obs[key].flip(0)}
        assert not torch.allclose(encoder(changed), features), key
    assert torch.equal(encoder({**obs, "action_mask": torch.zeros(2, 5, 2)}), features)


def test_vectors_beside_images_are_normalised():
    encoder = cnn(normalize_obs=True).encoder(MIXED)
    obs = seen(50)
    obs["place"] = 5.0 + 3.0 * obs["place"]
    encoder.observe(obs, torch.ones(50, dtype=torch.bool))
    normal = (obs["place"] - obs["place"].mean(0)) / obs["place"].std(0, correction=0)
    assert_close(encoder.flatten.run(obs)[:, 4:], normal, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"network\.normalize_obs=true is for vectors"):
        cnn(normalize_obs=True).encoder(image(40, 48, 3))
    with pytest.raises(UserError, match="network=cnn, which reads images and vectors"):
        mlp().encoder(MIXED)


def test_stacked_images_are_one_image_with_all_channels():
    last, first = cnn().encoder(image(4, 40, 48, 3)), cnn().encoder(image(4, 3, 40, 48))
    assert last.convolutions[0].in_channels == 12
    plain = cnn().encoder(image(12, 40, 48))  # the first image's three channels, then the next one's
    for encoder in (first, plain):
        encoder.load_state_dict(last.state_dict())
    x = torch.randint(256, (2, 5, 4, 40, 48, 3), dtype=torch.uint8)
    assert last(x).shape == (2, 5, 16)
    joined = torch.cat([x[:, :, i].movedim(-1, -3) for i in range(4)], -3)
    assert_close(last(x), plain(joined))
    assert_close(first(x.movedim(-1, -3)), plain(joined))
    space, codec = observation_codec(image(4, 40, 48, 3))
    assert (space.shape, space.dtype) == ((4, 40, 48, 3), np.uint8)
    assert codec(x[0].numpy()).dtype == torch.uint8
