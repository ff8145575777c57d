"""Graphs of torch's operators from recordings: of one call, and of n calls in a row."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import torch
from torch import fx

from pgrun.compat.torch import while_loop
from pgrun.optim.recording import Recording, Value, mapped

aten = torch.ops.aten


def graph(recording: Recording, results: Sequence[Value]) -> fx.GraphModule:
    """Write a recording as a graph of torch's operators."""
    made = fx.Graph()
    places = [*recording.places, *(value for value, *_ in recording.draws)]
    nodes = {value: made.placeholder(f"input{i}") for i, value in enumerate(places)}
    replay(recording, made, nodes)
    made.output(tuple(nodes[value] for value in results))
    return fx.GraphModule(torch.nn.Module(), made)


def replay(recording: Recording, made: fx.Graph, nodes: dict[Value, Any]) -> None:
    """Add a recording's operations to a graph, and their results to the nodes of its values."""
    for name, args, kwargs, values in recording.operations:
        node = made.call_function(name, mapped(nodes.get, args, Value), mapped(nodes.get, kwargs, Value))
        if isinstance(values, Value):
            nodes[values] = node
        elif isinstance(values, tuple | list):
            for i, value in enumerate(values):
                if isinstance(value, Value):
                    nodes[value] = made.call_function(getitem, (node, i))


def looped(recording: Recording, results: Sequence[Value], rows: Sequence[Value], n: int) -> fx.GraphModule:
    """Write n calls of a recorded function as one graph.

    Args:
        recording: of one call.
        results: the values that it returns, of which the graph returns n in a row, [n, ...].
        rows: the inputs that are another row in each call. In the graph they have n rows, [n, ...], as draws have.
        n: calls.
    """
    drawn = [value for value, *_ in recording.draws]
    places = [*recording.places, *drawn]
    kept = [value for value in places if value not in recording.written]
    made = fx.Graph()
    nodes = {value: made.placeholder(f"input{i}") for i, value in enumerate(places)}
    start = made.call_function(aten.zeros.default, ([],), {"dtype": torch.int64})
    forms = [recording.forms[value] for value in results]
    empty = [made.call_function(aten.zeros.default, ([n, *like.size],), {"dtype": like.dtype}) for like in forms]
    carried = [start, *(nodes[value] for value in recording.written), *empty]
    root = torch.nn.Module()
    root.add_module("go_on", go_on(len(carried) + len(kept), n))
    root.add_module("body", body(recording, kept, results, {*rows, *drawn}))
    made_loop = while_loop(made, "go_on", "body", carried, [nodes[value] for value in kept])
    after = [made.call_function(getitem, (made_loop, i)) for i in range(1, len(carried))]
    for value, node in zip(recording.written, after, strict=False):
        made.call_function(aten.copy_.default, (nodes[value], node))
    made.output(tuple(after[len(recording.written) :]))
    return fx.GraphModule(root, made)


def go_on(inputs: int, n: int) -> fx.GraphModule:
    """Write the graph that tells whether there is another call to make, of the loop's values."""
    made = fx.Graph()
    i, *_ = [made.placeholder(f"value{k}") for k in range(inputs)]
    made.output(made.call_function(aten.lt.Scalar, (i, n)))
    return fx.GraphModule(torch.nn.Module(), made)


def body(recording: Recording, kept: Sequence[Value], results: Sequence[Value], rows: set[Value]) -> fx.GraphModule:
    """Write one call as a graph of the loop's values: its number, what it writes to, the results so far, the rest."""
    made = fx.Graph()
    i = made.placeholder("i")
    own = [made.placeholder(f"own{k}") for k in range(len(recording.written))]
    so_far = [made.placeholder(f"so_far{k}") for k in range(len(results))]
    nodes: dict[Value, Any] = {value: made.placeholder(f"kept{k}") for k, value in enumerate(kept)}
    place = made.call_function(aten.view.default, (i, [1]))
    for value in rows:
        row = made.call_function(aten.index_select.default, (nodes[value], 0, place))
        nodes[value] = made.call_function(aten.squeeze.dim, (row, 0))
    for value, node in zip(recording.written, own, strict=True):
        nodes[value] = made.call_function(aten.clone.default, (node,))
    written = [nodes[value] for value in recording.written]
    replay(recording, made, nodes)
    filled = [
        made.call_function(
            aten.index_copy.default, (before, 0, place, made.call_function(aten.unsqueeze.default, (nodes[value], 0)))
        )
        for before, value in zip(so_far, results, strict=True)
    ]
    after = made.call_function(aten.add.Tensor, (i, 1))
    made.output((after, *written, *filled))
    return fx.GraphModule(torch.nn.Module(), made)
