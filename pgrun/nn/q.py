"""Q functions of discrete actions, with one output per action."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from copy import copy
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.data.types import Obs, action_mask
from pgrun.nn.encoders import MLP, Network
from pgrun.nn.layers import ACTIVATIONS, Flatten, LayerNorm, Layers, flat_size, is_image, linear
from pgrun.nn.precision import Product, hidden_product


class DiscreteQ(nn.Module):
    """Several functions Q(s, ·) of discrete actions, k of them; an action that obs["action_mask"] forbids has −1e9.

    Args:
        network: makes them.
        obs_space: the observations.
        action_space: the actions.
        k: how many. Those of network=mlp are one batched product.
        dueling: Q = V + F − mean_a F, each of the two with a last hidden layer of its own (Wang et al. 2016,
            https://arxiv.org/abs/1511.06581, eq. 9).
    """

    def __init__(
        self,
        network: Network,
        obs_space: gym.Space,
        action_space: gym.Space,
        *,
        k: int = 1,
        dueling: bool = False,
    ) -> None:
        super().__init__()
        assert isinstance(action_space, gym.spaces.Discrete)
        actions = int(action_space.n)
        self.functions: Callable[[Obs], Tensor]
        if isinstance(network, MLP) and type(network).encoder is MLP.encoder and not is_image(obs_space):
            self.functions = Batched(network, obs_space, actions, k, dueling)
        else:
            self.functions = OneByOne(SingleQ(network, obs_space, actions, dueling) for _ in range(k))

    def all(self, obs: Obs) -> Tensor:
        """Compute Q_i(s, ·) of every function, [k, M, A], of obs [M, *O]."""
        q = self.functions(obs)
        if (mask := action_mask(obs)) is not None:
            q = q.masked_fill(mask == 0, -1e9)
        return q

    def forward(self, obs: Obs, action: Tensor) -> Tensor:
        """Compute Q_i(s, a) of every function, [k, M], of obs [M, *O] and action [M]."""
        q = self.functions(obs)
        return q.gather(-1, action.expand(len(q), -1).unsqueeze(-1)).squeeze(-1)


class Batched(nn.Module):
    """Several Q functions of vectors, each layer one batched product: [M, *O] to [k, M, A]."""

    def __init__(self, network: MLP, obs_space: gym.Space, actions: int, k: int, dueling: bool) -> None:
        super().__init__()
        self.k, self.dueling, self.rounds = k, dueling, network.rounds
        self.flatten = Flatten(obs_space, network.normalize_obs)
        self.activation = ACTIVATIONS[network.activation]
        hidden, gain = list(network.hidden), network.init_gain
        sizes = [flat_size(obs_space), *hidden]
        self.layers, norms = [], []
        for n, (i, o) in enumerate(itertools.pairwise(sizes), 1):
            streams = 2 if dueling and n == len(hidden) else 1  # for F and V, side by side
            self.layers.append(self._layer(f"{n}", [[linear(i, o, gain) for _ in range(streams)] for _ in range(k)]))
            norms.append(LayerNorm(o, k if k > 1 else None, streams))
        self.norms = nn.ModuleList(norms) if network.layer_norm else None
        head_gain = 1.0 if gain else 0.0
        self.head = self._layer("_head", [[linear(sizes[-1], actions, head_gain)] for _ in range(k)])
        self.value = self._layer("_value", [[linear(sizes[-1], 1, head_gain)] for _ in range(k)]) if dueling else None

    def _layer(self, name: str, layers: list[list[nn.Linear]]) -> tuple[str, str]:
        """Register weights [k, in, out] and biases [k, 1, out] of layers; return their names.

        Layers of one function lie side by side. With k = 1 they are [in, out] and [out], whose product is faster.
        """
        for kind, part in (("weight", lambda x: x.weight.detach().T), ("bias", lambda x: x.bias.detach().unsqueeze(0))):
            stack = torch.stack([torch.cat([part(layer) for layer in group], -1) for group in layers]).contiguous()
            if self.k == 1:
                stack = stack[0] if kind == "weight" else stack[0, 0]
            self.register_parameter(kind + name, nn.Parameter(stack))
        return "weight" + name, "bias" + name

    def forward(self, obs: Obs) -> Tensor:
        """Compute every Q(s, ·), [k, M, A]."""
        parameters: Any = self._parameters
        x = self.flatten.run(obs)
        product: Product = torch.addmm
        if self.k > 1:
            x, product = x.expand(self.k, -1, -1), torch.baddbmm
        hidden = product
        for i, (weight, bias) in enumerate(self.layers):
            x = hidden(parameters[bias], x, parameters[weight])
            x = self.activation(x if self.norms is None else self.norms[i](x))
            hidden = hidden_product(product, self.rounds)
        of_q, of_v = x.chunk(2, -1) if self.value and self.layers else (x, x)
        weight, bias = self.head
        q = product(parameters[bias], of_q, parameters[weight])
        if self.value is not None:
            weight, bias = self.value
            q = duel(product(parameters[bias], of_v, parameters[weight]), q)
        return q if self.k > 1 else q.unsqueeze(0)


class OneByOne(nn.ModuleList):
    """Several Q functions, computed one after the other: [M, *O] to [k, M, A]."""

    def forward(self, obs: Obs) -> Tensor:
        """Compute every Q(s, ·), [k, M, A]."""
        return torch.stack([q(obs) for q in self])


class SingleQ(nn.Module):
    """One Q function on any encoder: [M, *O] to [M, A]."""

    def __init__(self, network: Any, obs_space: gym.Space, actions: int, dueling: bool) -> None:
        super().__init__()
        hidden, gain = list(network.hidden), network.init_gain
        head_gain = 1.0 if gain else 0.0
        split = len(hidden) - 1 if dueling and hidden else len(hidden)
        part = copy(network)
        part.hidden = hidden[:split]
        self.encoder = part.encoder(obs_space)
        sizes = [self.encoder.features, *hidden[split:]]
        outputs = [actions, 1] if dueling else [actions]  # for F, and for V
        made = {"rounds": network.rounds, "norm": network.layer_norm}
        self.streams = nn.ModuleList(Layers(sizes, network.activation, gain, **made) for _ in outputs)
        self.heads = nn.ModuleList(linear(sizes[-1], n, head_gain) for n in outputs)

    def forward(self, obs: Obs) -> Tensor:
        """Compute Q(s, ·), [M, A]."""
        x = self.encoder(obs)
        f, *v = [head(stream(x)) for stream, head in zip(self.streams, self.heads, strict=True)]
        return duel(v[0], f) if v else f


def duel(v: Tensor, f: Tensor) -> Tensor:
    """Compute Q(s, a) = V(s) + F(s, a) − mean_a' F(s, a'), [..., A], of v [..., 1] and f [..., A]."""
    return v + f - f.mean(-1, keepdim=True)
