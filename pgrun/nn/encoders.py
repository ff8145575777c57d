"""Encoders of observations, and the factories (config group `network`) that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.config.ranges import Count, NotNegative
from pgrun.data.types import Obs, Transition
from pgrun.errors import UserError
from pgrun.nn.encoder import Encoder
from pgrun.nn.gaussian import LOG_STD_MAX, LOG_STD_MIN
from pgrun.nn.images import CNNEncoder, check_layout, holds_image
from pgrun.nn.layers import ACTIVATIONS, Flatten, Layers, flat_size, is_image


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
    ) -> None:
        super().__init__()
        self.flatten = Flatten(space, normalize)
        self.layers = Layers([flat_size(space), *hidden], activation, gain, rounds=rounds)
        self.features = self.layers.features

    def forward(self, obs: Obs) -> Tensor:
        """Encode observations."""
        return self.layers.run(self.flatten.run(obs))

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the running statistics; see `Encoder.observe`."""
        if self.flatten.norm is not None:
            self.flatten.norm.observe(self.flatten.flat(obs), valid)


class RecurrentEncoder(Encoder):
    """An encoder, then an LSTM or a GRU, run over time and begun anew at each episode's start.

    LSTM: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735. GRU: Cho et al. 2014,
    https://arxiv.org/abs/1406.1078. The state begins with the features; an LSTM's cell follows.
    """

    def __init__(self, inner: Encoder, cell: str, size: int) -> None:
        super().__init__()
        self.inner, self.features = inner, size
        self.lstm = cell == "lstm"
        self.rnn = nn.LSTM(inner.features, size) if self.lstm else nn.GRU(inner.features, size)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.detach().split(size):
                    nn.init.orthogonal_(gate)
        self.state_size = size * (2 if self.lstm else 1)

    def step(self, obs: Obs, state: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one observation and renew the state; see `Encoder.step`."""
        rnn, x = self.rnn, self.inner(obs)
        weights: Any = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0)
        if self.lstm:
            after = torch.cat(torch.lstm_cell(x, state.chunk(2, -1), *weights), -1)  # type: ignore[arg-type]
        else:
            after = torch.gru_cell(x, state, *weights)
        return after[:, : self.features], after

    def along(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a rollout's observations; see `Encoder.along`."""
        pieces = Pieces(batch)
        return pieces.take(self.run(pieces, pieces.lay(self.inner(batch.obs)), batch, slot))

    def beyond(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a rollout's successors; see `Encoder.beyond`."""
        pieces = Pieces(batch)
        x = pieces.lay(self.inner(batch.obs), self.inner(batch.next_obs))  # each piece, and its last row's successor
        return pieces.take(self.run(pieces, x, batch, slot), ahead=1)

    def run(self, pieces: Pieces, x: Tensor, batch: Transition, slot: slice) -> Tensor:
        """Compute features [L, N, F] of pieces [L, N, *], each from zero or from the state at the rollout's start."""
        state = pieces.begin(batch.extras["carry"][0, :, slot]).unsqueeze(0)
        if self.lstm:
            h, c = state.chunk(2, -1)
            return self.rnn(x, (h.contiguous(), c.contiguous()))[0]
        return self.rnn(x, state)[0]

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the inner encoder's statistics; see `Encoder.observe`."""
        self.inner.observe(obs, valid)


class Pieces:
    """A rollout [T, B] cut into episodes, laid side by side [L, N]: one call of a recurrent layer instead of T.

    A filler row is a piece of its own.
    """

    def __init__(self, batch: Transition) -> None:
        ended = (batch.last | ~batch.valid)[:-1]  # [T − 1, B]
        starts = torch.cat([torch.ones_like(batch.last[:1]), ended]).T.flatten()  # [B·T]
        self.shape = batch.reward.shape
        at = starts.nonzero().squeeze(-1)  # [N] where each piece starts, column after column
        self.piece = starts.cumsum(0) - 1  # [B·T] the piece that a row is in
        self.row = torch.arange(len(starts), device=at.device) - at[self.piece]  # its place there
        self.lengths = torch.diff(at, append=at.new_tensor([len(starts)]))
        self.first = self.piece[:: self.shape[0]]  # [B] the pieces that the rollout starts with
        self.end = at + self.lengths - 1  # [N] where each piece ends

    def lay(self, x: Tensor, successors: Tensor | None = None) -> Tensor:
        """Lay out [T, B, F] as [L, N, F], zeros past a piece's end.

        With `successors`, each piece is followed by its last row's successor.
        """
        flat = x.transpose(0, 1).flatten(0, 1)
        more = 0 if successors is None else 1
        laid = flat.new_zeros(int(self.lengths.max()) + more, len(self.lengths), flat.shape[-1])
        laid = laid.index_put((self.row, self.piece), flat)
        if successors is not None:
            after_pieces = successors.transpose(0, 1).flatten(0, 1)[self.end]
            laid = laid.index_put((self.lengths, torch.arange(len(self.lengths), device=flat.device)), after_pieces)
        return laid

    def take(self, laid: Tensor, ahead: int = 0) -> Tensor:
        """Bring [L, N, F] back to [T, B, F]: each row's features, or those of the row `ahead` steps later."""
        t, b = self.shape
        return laid[self.row + ahead, self.piece].unflatten(0, (b, t)).transpose(0, 1)

    def begin(self, carry: Tensor) -> Tensor:
        """Return the state [N, S] that each piece begins with, from the rollout's [B, S]."""
        return carry.new_zeros(len(self.lengths), carry.shape[-1]).index_put((self.first,), carry)


@dataclass(kw_only=True)
class Network:
    """A factory of the encoders that algorithms need.

    Args:
        hidden: units of each layer; of a recurrent network, of those before its cell.
        activation: between layers.
        init_gain: gain of the orthogonal initialisation; 0: torch's own initialisation.
        head_gain: the same for the policy's last layer: small, so that it starts near uniform.
        shared: one body for policy and value.
        log_std_init: log σ at the start, of Gaussian policies.
        std: σ of Gaussian policies: global (a parameter, the same in all states) or state (outputs of the network, with
            log σ between −5 and 2).
        squash: Gaussian policies are squashed by tanh to within the bounds of actions, with log σ between −5 and 2;
            their entropy is computed by quadrature. false: environments clip the actions.
    """

    hidden: Sequence[Count]
    activation: Literal["tanh", "relu", "elu", "silu"]
    init_gain: NotNegative
    head_gain: NotNegative
    shared: bool
    log_std_init: float
    std: Literal["global", "state"] = "global"  # of configs from before there were these two keys
    squash: bool = False

    rounds = False  # whether products between hidden layers are rounded to bfloat16, as matmul_precision asks
    sequence: ClassVar[int | None] = None  # length of the sequences that a recurrent network learns from

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            names = ", ".join(ACTIVATIONS)
            raise UserError(f"network.activation={self.activation} is not known; choose one of {names}")
        if self.std not in ("global", "state"):
            raise UserError(f"network.std={self.std} is not known; choose global or state")
        if self.bounds_log_std and not LOG_STD_MIN < self.log_std_init < LOG_STD_MAX:
            raise UserError(
                f"network.log_std_init={self.log_std_init:g} is out of range: with network.std=state or "
                f"network.squash=true it must be between {LOG_STD_MIN:g} and {LOG_STD_MAX:g}, where log σ is kept"
            )

    @property
    def bounds_log_std(self) -> bool:
        """Whether Gaussian policies keep log σ within bounds; see `gaussian.bounded`."""
        return self.std == "state" or self.squash

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
        return MLPEncoder(space, *layers, self.normalize_obs, rounds=self.rounds)


@dataclass(kw_only=True)
class CNN(Network):
    """Convolutions on images, then linear layers (config `network=cnn`).

    Args:
        channels: of each convolution.
        channels_last: where an image has them: true: height × width × channels; false: first; null: tell by its shape.
    """

    channels: Sequence[Count]
    channels_last: bool | None = None  # of configs from before there was this key

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
        inner: Encoder
        if holds_image(space):
            if self.normalize_obs:
                raise UserError(
                    "network.normalize_obs=true is for vectors, and the observations are images, which are divided by "
                    "255: use network.normalize_obs=false"
                )
            inner = cnn_encoder(self, space)
        else:
            inner = self.of_vectors(space)
        return RecurrentEncoder(inner, self.cell, self.size)


def cnn_encoder(network: CNN | Recurrent, space: gym.Space) -> CNNEncoder:
    """Make convolutions on images, then linear layers, as a network's settings ask."""
    layers = (network.channels, network.hidden, network.activation, network.init_gain)
    return CNNEncoder(space, *layers, network.channels_last, rounds=network.rounds)
