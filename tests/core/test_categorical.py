"""The projection onto a fixed support, against a loop over atoms and answers worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from pgrun.core.categorical import by_triangles, project_distribution

Z = torch.linspace(-2.0, 4.0, 7, dtype=torch.float64)  # −2, −1, …, 4


def draw(shape, low, high):
    torch.manual_seed(0)
    target = torch.empty(*shape, dtype=torch.float64).uniform_(low, high)
    return target, torch.randn(*shape, dtype=torch.float64).softmax(-1)


def triangle(target, p, z):
    """Each atom takes from each point of mass what a triangle of half a width says: Bellemare et al.'s eq. 7 as it is
    written.
    """
    step = float(z[1] - z[0])
    out = torch.zeros(len(z), dtype=torch.float64)
    for i, atom in enumerate(z.tolist()):
        for y, mass in zip(target.tolist(), p.tolist(), strict=True):
            y = min(max(y, float(z[0])), float(z[-1]))
            out[i] += max(0.0, 1.0 - abs(y - atom) / step) * mass
    return out


@pytest.mark.parametrize(("low", "high"), [(-2.0, 4.0), (-9.0, 9.0), (3.9, 4.1)])
def test_it_is_the_triangles(low, high):
    target, p = draw((5, 4, 6), low, high)
    got = project_distribution(target, p, Z)
    assert got.shape == (5, 4, 7)
    for i in range(5):
        for j in range(4):
            assert_close(got[i, j], triangle(target[i, j], p[i, j], Z))


def test_in_a_fixed_order_it_is_the_same():
    """As on a GPU."""
    target, p = draw((200, 9), -9.0, 9.0)
    at = target.clamp(-2.0, 4.0) + 2.0
    assert_close(by_triangles(at, p, 7), project_distribution(target, p, Z))


def test_mass_is_conserved_wherever_it_falls():
    target, p = draw((200, 9), -20.0, 20.0)
    got = project_distribution(target, p, Z)
    assert bool((got >= 0.0).all())
    assert_close(got.sum(-1), torch.ones(200, dtype=torch.float64))


def test_the_mean_is_conserved_where_nothing_lies_beyond_the_ends():
    target, p = draw((200, 9), -2.0, 4.0)
    assert_close(project_distribution(target, p, Z) @ Z, (p * target).sum(-1))
    beyond = project_distribution(target + 3.0, p, Z) @ Z
    assert bool((beyond < (p * (target + 3.0)).sum(-1) - 1e-3).any())


@pytest.mark.parametrize(
    ("target", "want"),
    [
        (0.0, {2: 1.0}),  # on an atom
        (0.25, {2: 0.75, 3: 0.25}),
        (-2.0, {0: 1.0}),  # the ends themselves
        (4.0, {6: 1.0}),
        (3.9, {5: 0.1, 6: 0.9}),
        (-50.0, {0: 1.0}),  # beyond them
        (math.inf, {6: 1.0}),
    ],
)
def test_one_point_of_mass(target, want):
    got = project_distribution(torch.tensor([[target]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64), Z)
    assert_close(got[0], torch.tensor([want.get(i, 0.0) for i in range(7)], dtype=torch.float64))


def test_several_points_of_mass_on_one_atom_add_up():
    target = torch.tensor([1.0, 1.5, 1.0, 9.0], dtype=torch.float64)
    got = project_distribution(target, torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64), Z)
    assert_close(got, torch.tensor([0.0, 0.0, 0.0, 0.5, 0.2, 0.0, 0.3], dtype=torch.float64))


def test_in_single_precision_the_last_atom_is_not_overrun():
    z = torch.linspace(-815.0, 0.0, 51)
    got = project_distribution(z.expand(3, 51).contiguous(), torch.full((3, 51), 1.0 / 51.0), z)
    assert_close(got.sum(-1), torch.ones(3))
    assert_close(got, torch.full((3, 51), 1.0 / 51.0), atol=1e-4, rtol=0.0)
