"""Matrix products are found with their shapes, and timed."""

import pytest
import torch
from torch import nn

from pgrun.run.profiling.products import Products, cost, kept

CPU = torch.device("cpu")


def learn(net, x):
    net(x).square().mean().backward()


def test_an_update_s_products_are_forward_and_backward():
    net, x = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4)), torch.randn(16, 8)
    products = Products(lambda: ("learning",))
    with products:
        learn(net, x)
        learn(net, x)
    found = cost(products.found["learning",], CPU)
    first, second = 2 * 16 * 8 * 32, 2 * 16 * 32 * 4
    assert found.flops == 2 * (2 * first + 3 * second)  # the gradient of each weight, and of what is between
    assert found.count == 2 * 5
    assert 0 < found.seconds < 0.1
    assert found.gflops_per_second == pytest.approx(found.flops / found.seconds / 1e9)


def test_they_are_counted_where_they_happen():
    path = ("acting",)
    products = Products(lambda: path)
    a = torch.randn(4, 4)
    with products:
        _ = a @ a
        path = ("learning",)
        _ = a @ a, a @ a
    assert {where: sum(p.count for p in of.values()) for where, of in products.found.items()} == {
        ("acting",): 1,
        ("learning",): 2,
    }


def test_repeated_rows_and_transposes_keep_their_layout():
    wide = torch.randn(3, 1).expand(3, 5)
    assert kept(wide).stride() == wide.stride()
    assert torch.equal(kept(wide), wide)
    turned = torch.randn(3, 5).T
    assert kept(turned).stride() == turned.stride()
    products = Products(lambda: ("learning",))
    with products:
        _ = torch.randn(1, 4, 3).expand(2, 4, 3) @ torch.randn(2, 3, 5)
    assert cost(products.found["learning",], CPU).flops == 2 * 2 * 4 * 3 * 5


@pytest.mark.slow
def test_a_larger_product_takes_longer():
    def seconds(n):
        products = Products(lambda: ())
        with products:
            _ = torch.ones(n, n) @ torch.ones(n, n)
        return cost(products.found[()], CPU).seconds

    assert seconds(256) > 4 * seconds(16)
