"""Encoders of observations, and the factories (config group `network`) that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import gymnasium as gym
from torch import Tensor

from pgrun.config.ranges import Count, NotNegative
from pgrun.data.types import Obs
from pgrun.errors import UserError
from pgrun.nn.encoder import Encoder
from pgrun.nn.gaussian import LOG_STD_MAX, LOG_STD_MIN
from pgrun.nn.images import CNNEncoder, MixedEncoder, check_layout, images_of, observed, shows_images
from pgrun.nn.layers import ACTIVATIONS, Flatten, Layers, flat_size, is_image
from pgrun.nn.recurrent import RecurrentEncoder


class MLPEncoder(Encoder):
    """Linear layers with an activation after each."""

    def __init__(
        self,
        space: gym.Space,
        hidden: Sequence[int],
        activation: str,
        gain: float,
        normalize: bool,
        *,
        rounds: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.flatten = Flatten(space, normalize)
        self.layers = Layers([flat_size(space), *hidden], activation, gain, rounds=rounds, norm=norm)
        self.features = self.layers.features

    def forward(self, obs: Obs) -> Tensor:
        """Encode observations."""
        return self.layers.run(self.flatten.run(obs))

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the running statistics; see `Encoder.observe`."""
        if self.flatten.norm is not None:
            self.flatten.norm.observe(self.flatten.flat(obs), valid)


@dataclass(kw_only=True)
class Network:
    """A factory of the encoders that algorithms need.

    Args:
        hidden: units of each layer; of a recurrent network, of those before its cell.
        activation: between layers.
        init_gain: gain of the orthogonal initialisation; 0: torch's own initialisation.
        head_gain: the same for the policy's last layer: small, so that it starts near uniform.
        shared: one body for policy and value, in algorithms whose policy and critic are one network; no use in others.
        log_std_init: log σ at the start, of Gaussian policies.
        std: σ of Gaussian policies: global (a parameter, the same in all states), state (outputs of the network, with
            log σ between −5 and 2) or sde (state-dependent exploration: noise that is a linear function of the last
            features, by a random matrix that is used for many steps).
        squash: Gaussian policies are squashed by tanh to within the bounds of actions, with log σ between −5 and 2;
            their entropy is computed by quadrature. false: environments clip the actions.
        sde_sample_freq: with std=sde, steps for which a matrix is used; null: those of a rollout, or of an episode
            where rollouts are whole episodes or steps are replayed.
        sde_learn_features: with std=sde, gradients of σ(s) go on into the features.
        layer_norm: layer normalisation of each hidden layer before its activation, of policies and critics.
    """

    hidden: Sequence[Count]
    activation: Literal["tanh", "relu", "elu", "silu"]
    init_gain: NotNegative
    head_gain: NotNegative
    shared: bool
    log_std_init: float
    std: Literal["global", "state", "sde"] = "global"  # of configs from before there were these keys
    squash: bool = False
    sde_sample_freq: Count | None = None
    sde_learn_features: bool = False
    layer_norm: bool = False

    rounds = False  # whether products between hidden layers are rounded to bfloat16, as matmul_precision asks
    sequence: ClassVar[int | None] = None  # length of the sequences that a recurrent network learns from

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise UserError(f"network.activation={self.activation} is not known; choose one of {names}")
        if self.std not in ("global", "state", "sde"):
            raise UserError(f"network.std={self.std} is not known; choose global, state or sde")
        for key, value, default in (
            ("sde_sample_freq", self.sde_sample_freq, "null"),
            ("sde_learn_features", "true" if self.sde_learn_features else None, "false"),
        ):
            if self.std != "sde" and value is not None:
                raise UserError(
                    f"network.{key}={value} is of state-dependent exploration: add network.std=sde, or use "
                    f"network.{key}={default}"
                )
        if self.bounds_log_std and not LOG_STD_MIN < self.log_std_init < LOG_STD_MAX:
            raise UserError(
                f"network.log_std_init={self.log_std_init:g} is out of range: with network.std=state or sde, or "
                f"network.squash=true, it must be between {LOG_STD_MIN:g} and {LOG_STD_MAX:g}, where log σ is kept"
            )

    @property
    def bounds_log_std(self) -> bool:
        """Whether Gaussian policies keep log σ within bounds; see `gaussian.bounded`."""
        return self.std != "global" or self.squash

    def encoder(self, space: gym.Space) -> Encoder:
        """Make an encoder of this observation space; UserError if it can't read it."""
        raise NotImplementedError


@dataclass(kw_only=True)
class MLP(Network):
    """Linear layers on vectors (config `network=mlp`).

    Args:
        normalize_obs: by running mean and standard deviation, which are saved with the network.
    """

    normalize_obs: bool

    def encoder(self, space: gym.Space) -> Encoder:
        """Make an encoder of vectors; see `Network.encoder`."""
        if is_image(space):
            raise UserError(
                f"network=mlp reads vectors, but the observations are images {space.shape}: use network=cnn"
            )
        return self.of_vectors(space)

    def of_vectors(self, space: gym.Space) -> Encoder:
        """Make the linear layers on vectors."""
        layers = (self.hidden, self.activation, self.init_gain)
        return MLPEncoder(space, *layers, self.normalize_obs, rounds=self.rounds, norm=self.layer_norm)


@dataclass(kw_only=True)
class CNN(Network):
    """Convolutions on each image, then linear layers on what they make and on vectors beside it (config `network=cnn`).

    Args:
        channels: of each convolution.
        channels_last: where an image has them: true: height × width × channels; false: first; null: tell by its shape.
        normalize_obs: vectors beside images, by running mean and standard deviation, which are saved with the network.
    """

    channels: Sequence[Count]
    channels_last: bool | None = None  # of configs from before there was this key
    normalize_obs: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layout(self.channels_last)

    def encoder(self, space: gym.Space) -> Encoder:
        """Make an encoder of images; see `Network.encoder`."""
        return cnn_encoder(self, space)


@dataclass(kw_only=True)
class Recurrent(MLP):
    """An encoder (convolutions for images), then a cell with a memory (configs `network=lstm` and `network=gru`).

    Args:
        sequence: steps that gradients flow back through, and that a minibatch's sequences have; null: a whole rollout.
        cell: kind of memory.
        size: units of the cell.
        channels: of each convolution, where images are seen.
        channels_last: where an image has them: true: height × width × channels; false: first; null: tell by its shape.
    """

    cell: Literal["lstm", "gru"]
    size: Count
    sequence: Count | None  # type: ignore[misc]
    channels: Sequence[Count]
    channels_last: bool | None = None  # of configs from before there was this key

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layout(self.channels_last)
        if self.cell not in ("lstm", "gru"):
            raise UserError(f"network.cell={self.cell} is not known; choose lstm or gru")

    def encoder(self, space: gym.Space) -> Encoder:
        """Make an encoder with a memory; see `Network.encoder`."""
        inner = cnn_encoder(self, space) if shows_images(space) else self.of_vectors(space)
        return RecurrentEncoder(inner, self.cell, self.size)


def cnn_encoder(network: CNN | Recurrent, space: gym.Space) -> Encoder:
    """Make convolutions on images, then linear layers, as a network's settings ask.

    Raises:
        UserError: there is no image, or what is to be normalised is no vector.
    """
    layers = (network.channels, network.hidden, network.activation, network.init_gain, network.channels_last)
    images = images_of(space)
    if not images:
        raise UserError(f"network=cnn reads images, but the observations are {space}: use network=mlp")
    if network.normalize_obs and len(images) == len(observed(space)):
        raise UserError(
            "network.normalize_obs=true is for vectors, and the observations are images, which are divided by "
            "255: use network.normalize_obs=false"
        )
    if len(observed(space)) == 1:
        return CNNEncoder(space, *layers, rounds=network.rounds, norm=network.layer_norm)
    assert isinstance(space, gym.spaces.Dict)
    normalize, rounds, norm = network.normalize_obs, network.rounds, network.layer_norm
    return MixedEncoder(space, *layers, normalize=normalize, rounds=rounds, norm=norm)
