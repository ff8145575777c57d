"""Networks of several agents as one batched product, and the joint actions that follow from their outputs.

Shapes: N agents, A the numbers of a joint action, Z those of all observations; M rows; k networks; R joint policies.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgrun.core.gumbel import gumbel_softmax, one_hot_max
from pgrun.data.types import Obs, blocks, width
from pgrun.errors import UserError
from pgrun.nn.encoders import MLP, Network
from pgrun.nn.layers import ACTIVATIONS, Flatten, flat_size, linear
from pgrun.nn.precision import Product, hidden_product

NONE = -1e9  # the logit of what can't be chosen


class Side(nn.Module):
    """Several networks side by side, k of them, each with its own columns of one input and number of outputs.

    Narrower ones are padded with zeros, whose weights are zero and stay so. All parameters are one, `theta` [k, P]:
    each network's gradient is a row.

    Args:
        network: hidden layers and activation.
        sees: the columns of the input that each network reads.
        outputs: the number of outputs of each; all have the largest number, and those beyond their own mean nothing.
        head_gain: of the last layer's initialisation.
    """

    sees: Tensor

    def __init__(
        self, network: Network, sees: Sequence[Sequence[int]], outputs: Sequence[int], head_gain: float
    ) -> None:
        super().__init__()
        if not isinstance(network, MLP):
            raise UserError("networks of several agents read vectors: use network=mlp")
        if type(network).encoder is not MLP.encoder:
            raise UserError(
                f"networks of several agents are one product of the layers of network=mlp, in which the encoder of "
                f"{type(network).__name__} has no place: use network=mlp"
            )
        self.k, wide = len(sees), max(map(len, sees))
        whole = list(range(wide))
        self.whole = wide if all(list(cols) == whole for cols in sees) else -1  # the width that needs no gathering
        index = [[*cols, *[-1] * (wide - len(cols))] for cols in sees]  # −1: the zero behind the input
        self.register_buffer("sees", torch.tensor(index), persistent=False)  # [k, W]
        self.activation, self.rounds = ACTIVATIONS[network.activation], network.rounds
        self.shapes = list(itertools.pairwise([wide, *network.hidden, max(outputs)]))
        parts = []
        for inputs, last in zip(map(len, sees), outputs, strict=True):
            sizes = list(itertools.pairwise([inputs, *network.hidden, last]))
            row = []
            for depth, ((into, out), (full_in, full_out)) in enumerate(zip(sizes, self.shapes, strict=True)):
                layer = linear(into, out, head_gain if depth == len(sizes) - 1 else network.init_gain)
                row.append(F.pad(layer.weight.detach().T, (0, full_out - out, 0, full_in - into)).flatten())
                row.append(F.pad(layer.bias.detach(), (0, full_out - out)))
            if network.layer_norm:
                row += [x for n in network.hidden for x in (torch.ones(n), torch.zeros(n))]  # scale and shift of each
            parts.append(torch.cat(row))
        self.theta = nn.Parameter(torch.stack(parts))
        self.sizes = [n for into, out in self.shapes for n in (into * out, out)]
        self.norms = len(self.sizes) if network.layer_norm else None  # where their numbers begin among the sizes
        self.sizes += [n for n in network.hidden for _ in range(2)] if network.layer_norm else []

    def forward(self, x: Tensor) -> Tensor:
        """Run all networks on one input [M, n], or on one each [k, M, n]; [k, M, outputs]."""
        x = self.look(x)
        parts = self.theta.split(self.sizes, 1)
        product: Product = torch.baddbmm
        for depth, shape in enumerate(self.shapes):
            weight, bias = parts[2 * depth].unflatten(1, shape), parts[2 * depth + 1].unsqueeze(1)
            x = _column(bias, x, weight) if shape[1] == 1 else product(bias, x, weight)
            if depth < len(self.shapes) - 1:
                if self.norms is not None:
                    scale, shift = parts[self.norms + 2 * depth :][:2]
                    x = F.layer_norm(x, x.shape[-1:]) * scale.unsqueeze(1) + shift.unsqueeze(1)
                x = self.activation(x)
            product = hidden_product(torch.baddbmm, self.rounds) if depth < len(self.shapes) - 2 else torch.baddbmm
        return x

    def look(self, x: Tensor) -> Tensor:
        """Gather the columns that each network reads, [k, M, W]."""
        if x.shape[-1] == self.whole:
            return x.expand(self.k, -1, -1)
        x = F.pad(x, (0, 1))
        if x.dim() == 2:
            return x[:, self.sees].transpose(0, 1)
        return x.gather(2, (self.sees % x.shape[-1]).unsqueeze(1).expand(-1, x.shape[1], -1))


def _column(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Compute baddbmm of a matrix with one column; a product and a sum are faster."""
    return (x * weight.transpose(1, 2)).sum(-1, keepdim=True) + bias


class JointAction(nn.Module):
    """A map from the outputs u [..., A] of the agents' policies to joint actions [..., A].

    Choices come from logits; bounded numbers are squashed by tanh, others stay as they are.
    """

    agent: Tensor
    own: Tensor
    chosen: Tensor
    edge: Tensor
    share: Tensor
    lay: Tensor
    back: Tensor

    def __init__(self, action_space: gym.spaces.Dict) -> None:
        super().__init__()
        parts = list(action_space.values())
        self.widths = [width(part) for part in parts]
        agent = torch.arange(len(parts)).repeat_interleave(torch.tensor(self.widths))  # [A] the agent of a coordinate
        edge: list[Tensor] = []
        lay: list[range] = []  # each choice's coordinates
        back: list[tuple[int, int]] = []  # of each coordinate, its choice and place there; −1: a number
        at = 0
        for part, numbers in zip(parts, self.widths, strict=True):
            sizes = blocks(part)
            if not sizes and not isinstance(part, gym.spaces.Box):
                raise UserError(f"no policy for actions in {part}: use Discrete, MultiDiscrete or Box")
            high = part.high.flatten() if isinstance(part, gym.spaces.Box) else np.ones(numbers)
            edge.append(torch.from_numpy(high.astype(np.float32)))
            for n in sizes:
                back += [(len(lay), j) for j in range(n)]
                lay.append(range(at, at + n))
                at += n
            if not sizes:
                back += [(-1, 0)] * numbers
                at += numbers
        most = max(map(len, lay), default=0)
        buffers = {
            "agent": agent,
            "own": (agent == torch.arange(len(parts)).unsqueeze(-1)).unsqueeze(1),  # [N, 1, A]
            "edge": torch.cat(edge),  # [A] 1, or infinite
            "chosen": torch.tensor([block >= 0 for block, _ in back]),  # [A] choices
            "share": 1.0 / torch.tensor(self.widths)[agent],  # [A] 1 / the number of its agent's coordinates
            "lay": torch.tensor([[*block, *[-1] * (most - len(block))] for block in lay]),  # [C, W] of C choices
            "back": torch.tensor([block * most + j if block >= 0 else 0 for block, j in back]),  # [A] into C·W
        }
        for name, x in buffers.items():
            self.register_buffer(name, x, persistent=False)
        self.numbers = bool((~self.chosen).any())

    def forward(self, u: Tensor, noise: Tensor | None, temperature: float = 1.0) -> Tensor:
        """Compute the actions [..., A]: the likeliest choices, or samples with Gumbel noise [..., A].

        Gradients pass through the samples at a temperature.
        """
        numbers = self.bounded(u)
        if not len(self.lay):
            return numbers
        logits = self.laid(u)
        y = one_hot_max(logits) if noise is None else gumbel_softmax(logits, self.laid(noise, 0.0), temperature)
        return torch.where(self.chosen, self.joined(y), numbers) if self.numbers else self.joined(y)

    def bounded(self, u: Tensor) -> Tensor:
        """Squash the bounded coordinates."""
        return torch.where(self.edge.isinf(), u, u.tanh())

    def log_likelihood(self, u: Tensor, action: Tensor) -> Tensor:
        """Compute each coordinate's part of log π(a), up to a constant, [..., A]; numbers are normal, of variance 1."""
        numbers = -0.5 * (self.bounded(u) - action).square()
        if not len(self.lay):
            return numbers
        return torch.where(self.chosen, action * self.log_softmax(u), numbers)

    def entropy(self, u: Tensor) -> Tensor:
        """Compute each coordinate's part of the entropy of the choices, [..., A]."""
        if not len(self.lay):
            return torch.zeros_like(u)
        log_p = self.log_softmax(u)
        return torch.where(self.chosen, -log_p.exp() * log_p, 0.0)

    def log_softmax(self, u: Tensor) -> Tensor:
        """Compute the log-softmax of each choice by itself, [..., A]."""
        return self.joined(F.log_softmax(self.laid(u), -1))

    def laid(self, u: Tensor, beyond: float = NONE) -> Tensor:
        """Lay out [..., A] as [..., C, W], each choice by itself, padded."""
        return F.pad(u, (0, 1), value=beyond)[..., self.lay]

    def joined(self, y: Tensor) -> Tensor:
        """Invert `laid`, [..., C, W] to [..., A]; coordinates that are numbers mean nothing."""
        return y.flatten(-2)[..., self.back]


class JointActors(nn.Module):
    """Joint policies, R of them, of agents that see their own observations; they return u for `JointAction`."""

    back: Tensor

    def __init__(self, network: Network, obs_space: gym.spaces.Dict, action_space: gym.spaces.Dict, r: int) -> None:
        super().__init__()
        self.flatten = Flatten(obs_space, normalize=False)
        sees, widths = columns(obs_space), [width(part) for part in action_space.values()]
        self.side = Side(network, sees * r, widths * r, network.head_gain)
        self.r, most = r, max(widths)
        back = [n * most + j for n, size in enumerate(widths) for j in range(size)]
        self.register_buffer("back", torch.tensor(back), persistent=False)  # [A] into N·W

    def forward(self, obs: Obs) -> Tensor:
        """Compute u of observations, [R, M, A]."""
        u = self.side(self.flatten.run(obs)).unflatten(0, (self.r, -1))  # [R, N, M, W]
        return u.transpose(1, 2).flatten(2)[..., self.back]


class JointCritics(nn.Module):
    """Critics Q_1 to Q_N of observations and joint actions.

    Args:
        network: hidden layers and activation.
        obs_space: the agents' observations.
        action_space: the agents' actions.
        central: each reads all observations and actions; else those of its agent alone.
    """

    def __init__(
        self, network: Network, obs_space: gym.spaces.Dict, action_space: gym.spaces.Dict, *, central: bool
    ) -> None:
        super().__init__()
        self.flatten = Flatten(obs_space, normalize=False)
        n, z = len(obs_space), flat_size(obs_space)
        seen, done = columns(obs_space), columns(action_space, z)
        sees = (
            [list(range(z + width(action_space)))] * n if central else [s + d for s, d in zip(seen, done, strict=True)]
        )
        self.side = Side(network, sees, [1] * n, network.init_gain)

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute each Q, [N, M], of joint actions [M, A], or [N, M, A] with one for each critic."""
        z = self.flatten.run(obs)
        if action.dim() > z.dim():
            z = z.expand(len(action), *z.shape)
        return self.side(torch.cat([z, action], -1)).squeeze(-1)


def columns(space: gym.spaces.Dict, first: int = 0) -> list[list[int]]:
    """List each agent's columns, of all observations or all actions one after the other."""
    result = []
    for part in space.values():
        size = width(part)
        result.append(list(range(first, first + size)))
        first += size
    return result
