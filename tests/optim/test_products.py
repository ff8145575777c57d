"""Products in their quickest forms: which are changed, and that they are the same products."""

import pytest
import torch
from torch.testing import assert_close

from pgrun.optim.graphs import graph, looped
from pgrun.optim.products import quicken
from pgrun.optim.recording import record

aten = torch.ops.aten


def by_columns(*size):
    return torch.randn(*size[:-2], size[-1], size[-2]).transpose(-2, -1)


def quickened(function, *args):
    """Return a recorded function's graph in its quickest form, and the tensors that it takes."""
    recording = record(function, *args)
    made = graph(recording, [recording.result])
    quicken(made)
    return made, recording.inputs


def operators(made):
    return [node.target for node in made.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(
    ("a", "columns", "turned"),
    [
        (by_columns(64, 128), 4, True),
        (by_columns(2, 64, 128), 4, True),
        (by_columns(64, 128), 33, False),  # as quick either way
        (by_columns(4, 128), 4, False),
        (torch.randn(64, 128), 4, False),
    ],
)
def test_a_product_with_few_columns_is_turned(a, columns, turned):
    b = torch.randn(*a.shape[:-2], a.shape[-1], columns)
    made, inputs = quickened(torch.bmm if a.dim() == 3 else torch.mm, a, b)
    assert operators(made).count(aten.transpose.int) == (3 if turned else 0)
    (product,) = made(*inputs)
    assert product.is_contiguous()
    assert_close(product, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "summed"),
    [(1, 4, 64, True), (8, 64, 64, True), (9, 64, 64, False), (1, 65, 2, False), (1, 2, 65, False)],
)
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_of_few_rows_is_a_sum(rows, inputs, outputs, summed, biased):
    layer, x = torch.nn.Linear(inputs, outputs, bias=biased), torch.randn(rows, inputs)
    made, given = quickened(layer, x)
    assert (aten.sum.dim_IntList in operators(made)) == summed
    (found,) = made(*given)
    assert_close(found, layer(x).detach())


def test_products_of_other_numbers_stay():
    a, b = torch.randn(2, 3).double(), torch.randn(3, 4).double()
    assert operators(quickened(torch.mm, a, b)[0]) == [aten.mm.default]


def test_the_gradient_of_a_first_layer_is_turned():
    layer, x = torch.nn.Linear(4, 64), torch.randn(128, 4)

    def function(x):
        with torch.enable_grad():
            loss = layer(x).square().sum()
        return torch.autograd.grad(loss, [layer.weight])[0].view(-1)  # as it is stored by rows

    made, inputs = quickened(function, x)
    assert aten.clone.default in operators(made)
    (found,) = made(*inputs)
    assert_close(found, function(x), rtol=1e-4, atol=1e-3)


def test_products_in_loops_too():
    layer, x = torch.nn.Linear(4, 64), torch.randn(8, 4)
    recording = record(layer, x)
    made = looped(recording, [recording.result], [], 3)
    quicken(made)
    assert aten.sum.dim_IntList in operators(made.body)
