"""Matrix products in the forms in which a CPU is quicker at them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pgrun.optim.recording import Like

aten = torch.ops.aten

FEW_COLUMNS = 32  # with more, both orders of the factors take equally long
FEW_ROWS, SMALL = 8, 64  # rows of a product, and its other sizes, up to which sums are quicker than a library's call


def quicken(made: fx.GraphModule) -> None:
    """Write the matrix products in a graph and its loops in their quickest forms.

    They are equal to the ones before but for rounding. A product is looked at where both factors' forms are known
    (`node.meta["form"]`).
    """
    for module in made.modules():
        if isinstance(module, fx.GraphModule):
            for node in list(module.graph.nodes):
                quicken_node(module.graph, node)
            module.recompile()


def quicken_node(graph: fx.Graph, node: fx.Node) -> None:
    """Write a node in its quickest form, if it is a product."""
    if node.target not in (aten.mm.default, aten.addmm.default, aten.bmm.default) or node.kwargs:
        return
    *added, a, b = node.args
    forms = [x.meta["form"] for x in (a, b) if isinstance(x, fx.Node) and "form" in x.meta]
    if len(forms) < 2:
        return
    with graph.inserting_before(node):
        if node.target is not aten.bmm.default and few_rows(*forms):
            result = sums(graph, a, b)
            result = graph.call_function(aten.add.Tensor, (result, *added)) if added else result
        elif not added and few_columns(*forms):
            result = turned(graph, node.target, a, b)
        else:
            return
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def few_rows(a: Like, b: Like) -> bool:
    """Tell whether AB has so few rows, and is so small, that sums are quicker."""
    return a.size[0] <= FEW_ROWS and max(b.size) <= SMALL and a.dtype == torch.float32


def few_columns(a: Like, b: Like) -> bool:
    """Tell whether AB is quicker as (BᵀAᵀ)ᵀ.

    It is where A is stored by columns, B by rows, and B has few columns: so is the gradient of a layer of few inputs,
    which takes a third to a sixth of the time then.
    """
    by_columns = a.stride[-2] == 1 and a.stride[-1] > 1
    return by_columns and b.stride[-1] == 1 and b.size[-1] < a.size[-2] and b.size[-1] <= FEW_COLUMNS


def sums(graph: fx.Graph, a: Any, b: Any) -> fx.Node:
    """Write AB [m, n] as the sum over k of A [m, 1, k] times Bᵀ [1, n, k].

    The compiler joins it with what comes before and after. With few rows a library's call takes longer than this.
    """
    rows = graph.call_function(aten.unsqueeze.default, (a, 1))
    columns = graph.call_function(aten.unsqueeze.default, (graph.call_function(aten.t.default, (b,)), 0))
    return graph.call_function(aten.sum.dim_IntList, (graph.call_function(aten.mul.Tensor, (rows, columns)), [2]))


def turned(graph: fx.Graph, name: Any, a: Any, b: Any) -> fx.Node:
    """Write AB, A [..., m, k] and B [..., k, n], as (BᵀAᵀ)ᵀ [..., m, n], stored by rows as AB is."""
    a, b = (graph.call_function(aten.transpose.int, (x, -2, -1)) for x in (a, b))
    product = graph.call_function(aten.transpose.int, (graph.call_function(name, (b, a)), -2, -1))
    return graph.call_function(aten.clone.default, (product,), {"memory_format": torch.contiguous_format})
