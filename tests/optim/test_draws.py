"""Draws of several calls at once: the same bits as call by call, whatever the kind and the size."""

import pytest
import torch

from pgrun.optim.draws import drawer, repeated
from pgrun.optim.recording import record

OWN = torch.Generator()

CALLS = {
    "exponential": lambda x: torch.empty_like(x).exponential_(),
    "uniform": lambda x: torch.rand_like(x),
    "normal": lambda x: torch.randn_like(x),
    "normal from its own": lambda x: torch.randn(x.shape, generator=OWN),
    "in double": lambda x: torch.rand(x.shape, generator=OWN, dtype=torch.float64),
    "permuted": lambda x: torch.randperm(len(x)),
    "two of a kind": lambda x: (torch.rand_like(x), torch.rand(2, 3)),
    "two kinds": lambda x: (torch.rand_like(x), torch.randn_like(x)),
    "two generators": lambda x: (torch.randn_like(x), torch.rand(4, generator=OWN), torch.randn(2)),
    "two ranges": lambda x: (torch.empty_like(x).uniform_(1.0, 2.0), torch.rand_like(x)),
}


@pytest.mark.parametrize("size", [1, 3, 8, 16, 24, 64])
@pytest.mark.parametrize("kind", CALLS)
def test_all_at_once_are_the_bits_of_one_by_one(kind, size):
    draws = [(draw, like) for _, draw, like in record(CALLS[kind], torch.ones(size)).draws]
    n, one, all_at_once = 6, drawer(draws), repeated(draws, 6)
    for used in (0, 1):  # a second half of a pair of normal numbers may wait in the generator
        found = []
        for draw in (lambda: map(torch.stack, zip(*[one() for _ in range(n)], strict=True)), all_at_once):
            torch.manual_seed(5)
            OWN.manual_seed(7)
            torch.randn(used)
            found.append([*draw(), torch.get_rng_state(), OWN.get_state()])
        assert all(map(torch.equal, *found))
        assert all(x.is_contiguous() for x in found[1])


@pytest.mark.parametrize("size", [1, 8, 16, 64])
@pytest.mark.parametrize("kind", CALLS)
def test_a_draw_is_the_functions_own(kind, size):
    x = torch.ones(size)
    draw = drawer([(draw, like) for _, draw, like in record(CALLS[kind], x).draws])
    found = []
    for make in (lambda: CALLS[kind](x), draw):
        torch.manual_seed(5)
        OWN.manual_seed(7)
        made = make()
        found.append([*([made] if isinstance(made, torch.Tensor) else made), torch.get_rng_state(), OWN.get_state()])
    assert all(map(torch.equal, *found))
    assert [x.dtype for x in found[0]] == [x.dtype for x in found[1]]


@pytest.mark.parametrize(("kind", "size"), [("exponential", 8), ("uniform", 5), ("normal", 16), ("normal", 3)])
def test_they_are_one_call_where_they_can_be(kind, size):
    draws = [(draw, like) for _, draw, like in record(CALLS[kind], torch.ones(size)).draws]
    draw = repeated(draws, 50)
    with torch.profiler.profile() as seen:
        draw()
    assert sum(e.count for e in seen.key_averages() if e.key.endswith(("l_", "m_"))) == 1


def test_trying_out_draws_nothing():
    draws = [(draw, like) for _, draw, like in record(CALLS["two generators"], torch.ones(4)).draws]
    before = torch.get_rng_state(), OWN.get_state()
    repeated(draws, 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(OWN.get_state(), before[1])
