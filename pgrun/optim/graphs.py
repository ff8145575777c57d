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
    """Add a recording's operations to a graph, and their results to the nodes of its values.

    The nodes get the values' forms, as `meta["form"]`.
    """
    for value, node in nodes.items():
        node.meta["form"] = recording.forms[value]
    for name, args, kwargs, values in recording.operations:
        node = made.call_function(name, mapped(nodes.get, args, Value), mapped(nodes.get, kwargs, Value))
        if isinstance(values, Value):
            node.meta["form"] = recording.forms[values]
            nodes[values] = node
        elif isinstance(values, tuple | list):
            for i, value in enumerate(values):
                if isinstance(value, Value):
                    part = nodes[value] = made.call_function(getitem, (node, i))
                    part.meta["form"] = recording.forms[value]


def looped(recording: Recording, results: Sequence[Value], rows: Sequence[Value], n: int) -> fx.GraphModule:
    """Write n calls of a recorded function as one graph.

    Each call writes in place: to what the function writes to, and to its rows of the results.

    Args:
        recording: of one call.
        results: the values that it returns, of which the graph returns n in a row, [n, ...]; after them it returns the
            number of calls, as torch's compiler would drop a loop of which nothing is returned.
        rows: the inputs that are another row in each call. In the graph they have n rows, [n, ...], as draws have.
        n: calls.
    """
    drawn = [value for value, *_ in recording.draws]
    places = [*recording.places, *drawn]
    made = fx.Graph()
    nodes = {value: made.placeholder(f"input{i}") for i, value in enumerate(places)}
    start = made.call_function(aten.zeros.default, ([],), {"dtype": torch.int64})
    found = []
    for like in (recording.forms[value] for value in results):
        node = made.call_function(aten.zeros.default, ([n, *like.size],), {"dtype": like.dtype})
        found.append(node)
    root = torch.nn.Module()
    root.add_module("go_on", go_on(len(found) + len(places), n))
    root.add_module("body", body(recording, results, {*rows, *drawn}))
    written = [*range(len(found)), *(len(found) + places.index(value) for value in recording.written)]
    made_loop = while_loop(made, "go_on", "body", start, [*found, *nodes.values()], written)
    calls = made.call_function(getitem, (made_loop, 0))
    made.output((*found, calls))
    return fx.GraphModule(root, made)


def go_on(inputs: int, n: int) -> fx.GraphModule:
    """Write the graph that tells whether there is another call to make: of the number of calls, and so many tensors."""
    made = fx.Graph()
    i, *_ = [made.placeholder(f"value{k}") for k in range(1 + inputs)]
    made.output(made.call_function(aten.lt.Scalar, (i, n)))
    return fx.GraphModule(torch.nn.Module(), made)


def body(recording: Recording, results: Sequence[Value], rows: set[Value]) -> fx.GraphModule:
    """Write one call as a graph of the number of calls before it, the results so far, and what it reads or draws."""
    made = fx.Graph()
    i = made.placeholder("i")
    found = [made.placeholder(f"found{k}") for k in range(len(results))]
    places = [*recording.places, *(value for value, *_ in recording.draws)]
    nodes: dict[Value, Any] = {value: made.placeholder(f"input{k}") for k, value in enumerate(places)}
    place = made.call_function(aten.view.default, (i, [1]))
    for value in rows:
        row = made.call_function(aten.index_select.default, (nodes[value], 0, place))
        nodes[value] = made.call_function(aten.squeeze.dim, (row, 0))
    replay(recording, made, nodes)
    for so_far, value in zip(found, results, strict=True):
        row = made.call_function(aten.unsqueeze.default, (nodes[value], 0))
        made.call_function(aten.index_copy_.default, (so_far, 0, place, row))
    after = made.call_function(aten.add.Tensor, (i, 1))
    after.meta["val"] = torch.zeros((), dtype=torch.int64)  # torch asks for its form
    made.output((after,))
    return fx.GraphModule(torch.nn.Module(), made)
