"""A policy as one module of tensors, which can be exported: observations in, actions out, in the environment's units.

Shapes: B copies, R rows of the policy for each (the agents that share it, else 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pgrun.algos.parts.base import Algorithm
from pgrun.envs.graph_codecs import Codec, Port
from pgrun.errors import UserError
from pgrun.nn.precision import in_full

# the functions that draw random numbers, and the distribution that they draw from
DRAWS: dict[Callable[..., Any], str] = {
    torch.randn: "standard normal",
    torch.randn_like: "standard normal",
    torch.rand: "uniform on [0, 1)",
    torch.rand_like: "uniform on [0, 1)",
    Tensor.exponential_: "exponential with mean 1",
}
OTHER_DRAWS = {
    *(torch.randint, torch.randint_like, torch.randperm, torch.multinomial, torch.bernoulli, torch.normal),
    *(Tensor.normal_, Tensor.uniform_, Tensor.random_, Tensor.bernoulli_, Tensor.geometric_, Tensor.multinomial),
}


class Draw(NamedTuple):
    """Random numbers that a policy draws in one step."""

    kind: str
    shape: tuple[int, ...]
    axis: int = 0  # that of the rows


class Draws(TorchFunctionMode):
    """Notes what is drawn at random in its block; or gives tensors in place of what would be drawn.

    Args:
        given: what to give, in order; None: draw, and note what was drawn.
    """

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.given = None if given is None else list(given)
        self.noted: list[Draw] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in OTHER_DRAWS:
            raise UserError(f"it draws by {func.__name__}, which can't be an input of a graph")
        if func not in DRAWS:
            return func(*args, **(kwargs or {}))
        if self.given is not None:
            return self.given.pop(0).clone()  # it may be written to
        drawn = func(*args, **(kwargs or {}))
        self.noted.append(Draw(DRAWS[func], tuple(drawn.shape)))
        return drawn


class PolicyGraph(nn.Module):
    """A policy's step as a function of tensors: inputs, noise and state to actions and the next state.

    Args:
        algorithm: the policy, on the CPU.
        codec: what stands before and after it.
        rows: R.
        explore: whether it samples its actions.
    """

    def __init__(self, algorithm: Algorithm, codec: Codec, *, rows: int, explore: bool) -> None:
        super().__init__()
        self.algorithm, self.codec, self.rows, self.explore = algorithm, codec, rows, explore
        with torch.no_grad(), Draws() as begun:
            self.initial = algorithm.initial_carry(rows)
        if begun.noted:
            raise UserError("it draws at random at an episode's start, which a graph can't")
        self.kept = list(range(len(self.initial)))  # the parts of the carry that actions depend on
        few, many = (self.draws(copies) for copies in (2, 3))
        self.noise = [
            one._replace(axis=next(i for i, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a != b))
            for one, other in zip(few, many, strict=True)
        ]

    @property
    def inputs(self) -> list[Port]:
        """The inputs, in order."""
        noise = [
            Port(name, self.split(shape_without(draw.shape, draw.axis)), torch.float32, f"noise, {draw.kind}")
            for name, draw in zip(numbered("noise", len(self.noise)), self.noise, strict=True)
        ]
        return [*self.codec.inputs, *noise, *self.states("state", "what the policy remembers")]

    @property
    def outputs(self) -> list[Port]:
        """The outputs, in order."""
        return [*self.codec.outputs, *self.states("next_state", "the state to give with the next observation")]

    def states(self, name: str, meaning: str) -> list[Port]:
        """Make the ports of the state."""
        carry = [self.initial[i] for i in self.kept]
        names = numbered(name, len(carry))
        return [Port(n, self.split(tuple(c.shape[1:])), c.dtype, meaning) for n, c in zip(names, carry, strict=True)]

    def split(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Add the axis of a copy's rows to a shape, where there are several."""
        return shape if self.rows == 1 else (self.rows, *shape)

    def example(self, copies: int) -> tuple[Tensor, ...]:
        """Make inputs of this many copies: zeros, actions that are all allowed, and the state of an episode's start."""
        ports, states = self.inputs, [self.initial[i] for i in self.kept]
        values = [torch.ones if port.name == "action_mask" else torch.zeros for port in ports[: -len(states) or None]]
        plain = [make((copies, *port.shape), dtype=port.dtype) for make, port in zip(values, ports, strict=False)]
        return (*plain, *(self.start(i, copies) for i in self.kept))

    def start(self, i: int, copies: int) -> Tensor:
        """Return a part of the state at an episode's start, [B, ...] or [B, R, ...]."""
        state = self.initial[i]
        return (state if self.rows == 1 else state.unsqueeze(0)).repeat_interleave(copies, 0)

    @torch.no_grad()
    def draws(self, copies: int) -> list[Draw]:
        """Find what is drawn in one step of this many copies."""
        obs = [torch.ones((copies, *port.shape), dtype=port.dtype) for port in self.codec.inputs]
        with Draws() as found:
            self.algorithm.act(self.codec.observe(obs), self.algorithm.initial_carry(copies * self.rows), self.explore)
        return found.noted

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Compute the actions and the next state of the inputs."""
        count, draws = len(self.codec.inputs), len(self.noise)
        obs = self.codec.observe(tensors[:count])
        noise = [
            self.merge(x).movedim(0, draw.axis)
            for x, draw in zip(tensors[count : count + draws], self.noise, strict=True)
        ]
        copies = tensors[0].shape[0]
        given = dict(zip(self.kept, tensors[count + draws :], strict=True))
        carry = tuple(
            self.merge(given[i]) if i in given else c[:1].expand(copies * self.rows, *([-1] * (c.dim() - 1)))
            for i, c in enumerate(self.initial)
        )
        with torch.no_grad(), in_full(self.algorithm), Draws(noise):
            action, after, _ = self.algorithm.act(obs, carry, self.explore)
        state = [after[i] if self.rows == 1 else after[i].unflatten(0, (-1, self.rows)) for i in self.kept]
        return (*self.codec.act(action), *(x.clone() for x in state))

    def merge(self, x: Tensor) -> Tensor:
        """Make rows [B·R, ...] of [B, R, ...], where a copy has several."""
        return x if self.rows == 1 else x.flatten(0, 1)


def numbered(name: str, count: int) -> list[str]:
    """Name several things of a kind; one alone has no number."""
    return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]


def shape_without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Leave out one axis of a shape."""
    return (*shape[:axis], *shape[axis + 1 :])


def traced(graph: PolicyGraph) -> Any:
    """Trace a policy's graph with a free number of copies, and drop the parts of its state that no action depends on.

    Returns:
        A torch.export.ExportedProgram.

    Raises:
        UserError: the policy computes something that no graph can hold.
    """
    program = trace(graph)
    needed = needed_states(program, len(graph.inputs) - len(graph.kept), len(graph.codec.outputs))
    if len(needed) < len(graph.kept):
        graph.kept = [graph.kept[i] for i in needed]
        program = trace(graph)
    return program


def trace(graph: PolicyGraph) -> Any:
    """Trace a policy's graph; see `traced`."""
    example = graph.example(3)
    dynamic = (tuple({0: torch.export.Dim.DYNAMIC} for _ in example),)
    try:
        return torch.export.export(graph, example, dynamic_shapes=dynamic, strict=False)
    except UserError:
        raise
    except Exception as error:  # whatever torch's tracer raises
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"torch.export can't trace it: {line[:200]}") from error


def needed_states(program: Any, first: int, actions: int) -> list[int]:
    """List the parts of the state on which the actions, or parts that are needed, depend.

    Args:
        program: the traced program.
        first: the number of inputs before the state.
        actions: the number of outputs before the state.
    """
    states = list(program.graph_signature.user_inputs)[first:]
    sources: dict[Any, set[int]] = {}
    outputs: list[Any] = []
    for node in program.graph.nodes:
        if node.op == "output":
            outputs = list(node.args[0])[-len(program.graph_signature.user_outputs) :]
        own = {states.index(node.name)} if node.op == "placeholder" and node.name in states else set()
        sources[node] = own.union(*(sources[x] for x in node.all_input_nodes))
    of = [sources.get(output, set()) for output in outputs]
    needed: set[int] = set().union(*of[:actions])
    while (more := set().union(*(of[actions + i] for i in needed), needed)) != needed:
        needed = more
    return sorted(needed)
