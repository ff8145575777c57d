import pytest
import torch

from pgrun.core.sum_tree import SumTree


def filled(n, width, seed=0):
    """A tree of random priorities, some of them zero, and those priorities."""
    torch.manual_seed(seed)
    p = torch.rand(n, dtype=torch.float64) * (torch.rand(n) < 0.7)
    p[n // 2] = 1.0
    tree = SumTree(n, width=width)
    tree.set(torch.arange(n), p)
    return tree, p


SIZES = [(1, 4), (4, 4), (5, 4), (16, 4), (17, 4), (1000, 4), (1000, 64), (5000, 64)]


@pytest.mark.parametrize(("n", "width"), SIZES)
def test_it_finds_what_a_running_sum_finds(n, width):
    tree, p = filled(n, width)
    sums = p.cumsum(0)
    assert float(tree.total) == pytest.approx(float(sums[-1]), rel=1e-12)
    mass = torch.cat([torch.rand(2000, dtype=torch.float64) * sums[-1], torch.zeros(1, dtype=torch.float64)])
    clear = (sums - mass.unsqueeze(-1)).abs().min(-1).values > 1e-9  # rounding may decide the others either way
    want = torch.searchsorted(sums, mass, right=True)
    got = tree.find(mass)
    assert torch.equal(got[clear], want[clear])
    assert clear.sum() > 1900
    assert bool((p[got] > 0).all())


@pytest.mark.parametrize(("n", "width"), SIZES)
def test_the_edges_of_each_leaf_are_never_an_empty_one(n, width):
    tree, p = filled(n, width)
    edges = p.cumsum(0)
    for mass in (edges, torch.nextafter(edges, edges * 0.0), edges * 2.0):
        found = tree.find(mass)
        assert bool((p[found] > 0).all())
    assert bool((p[tree.draw(500)] > 0).all())


def test_nothing_drifts():
    """After many changes every node is, to the bit, what a tree built afresh has."""
    tree, p = filled(500, 8)
    for i in range(2000):
        index = torch.randint(500, (16,)).unique()
        p[index] = torch.rand(len(index), dtype=torch.float64) * 10.0 ** float(i % 7 - 3)
        tree.set(index, p[index])
    fresh = SumTree(500, width=8)
    fresh.set(torch.arange(500), p)
    assert all(torch.equal(x, y) for x, y in zip(tree.levels, fresh.levels, strict=True))
    assert len(tree.levels) == 3
    assert torch.equal(tree.get(torch.tensor([3, 499])), p[[3, 499]])


def test_an_index_that_is_there_twice():
    tree, _ = filled(100, 4)
    tree.set(torch.tensor([7, 7, 9]), torch.tensor([3.0, 3.0, 2.0]))
    assert tree.get(torch.tensor([7, 9])).tolist() == [3.0, 2.0]
    assert float(tree.total) == pytest.approx(float(tree.leaves.sum()), rel=1e-12)


def test_draws_are_one_of_each_share():
    tree = SumTree(10, width=4)
    tree.set(torch.arange(10), torch.tensor([1.0, 0.0, 2.0, 3.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]))
    counts = torch.bincount(tree.draw(1000), minlength=10)
    assert counts.tolist() == [100, 0, 200, 300, 0, 100, 0, 100, 100, 100]


def test_draws_are_random_within_their_shares():
    """χ² of four shares over two leaves: 10.8 once in a thousand."""
    tree = SumTree(2)
    tree.set(torch.arange(2), torch.tensor([1.0, 7.0]))  # the first share of 4 holds both
    torch.manual_seed(0)
    first = sum(int((tree.draw(4) == 0).sum()) for _ in range(1000))
    assert (first - 500) ** 2 / 500 + (1000 - first - 500) ** 2 / 500 < 10.8
