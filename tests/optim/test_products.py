"""Products in the order that is quicker: which are turned, and that they are the same product."""

import pytest
import torch
from torch.testing import assert_close

from pgrun.optim.program import Program
from pgrun.optim.recording import record


def by_columns(*size):
    return torch.randn(*size[:-2], size[-1], size[-2]).transpose(-2, -1)


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
def test_a_product_with_few_columns_is_turned(interpreted, a, columns, turned):
    b = torch.randn(*a.shape[:-2], a.shape[-1], columns)
    function = torch.bmm if a.dim() == 3 else torch.mm
    recording = record(function, a, b)
    assert len(recording.operations) == (4 if turned else 1)
    (product,) = Program(recording)(list(recording.inputs))
    assert_close(product, a @ b, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_a_first_layer_is_turned():
    layer, x = torch.nn.Linear(4, 64), torch.randn(128, 4)

    def function(x):
        with torch.enable_grad():
            loss = layer(x).square().sum()
        return torch.autograd.grad(loss, [layer.weight])

    recording = record(function, x)
    names = [op.name for op in recording.operations]
    assert names.count(torch.ops.aten.transpose.int) == 3
    (size,) = recording.forms.values()
    assert (size.size, size.stride) == ((64, 4), (1, 64))
