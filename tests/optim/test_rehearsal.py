"""Rehearsals: what a function reads, writes to and draws from, and that it leaves nothing behind."""

import weakref

import pytest
import torch

from pgrun.errors import CantRecord
from pgrun.optim.rehearsal import Rehearsal

CPU = torch.device("cpu")


def test_it_knows_inputs_writes_and_draws_and_undoes_them():
    kept, given, generator = torch.zeros(4), torch.ones(2), torch.Generator().manual_seed(1)
    state, own = torch.get_rng_state(), generator.get_state()
    rehearsal = Rehearsal(CPU)
    with rehearsal:
        kept[1:3].add_(given)
        kept.mul_(3.0)
        made = given * 2.0
        made.add_(torch.rand(2) + torch.rand(2, generator=generator))
    assert kept.tolist() == [0.0, 3.0, 3.0, 0.0]
    rehearsal.undo()
    assert kept.tolist() == [0.0] * 4
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(generator.get_state(), own)
    assert rehearsal.writes_to(kept)
    assert not rehearsal.writes_to(given)
    assert not rehearsal.writes_to(made)
    assert {id(given), id(kept)} <= set(rehearsal.inputs)
    assert id(made) not in rehearsal.inputs


def test_it_keeps_no_result_alive():
    x, rehearsal = torch.ones(1000), Rehearsal(CPU)
    with rehearsal:
        left = weakref.ref((x + 1.0).untyped_storage())
    assert left() is None


def test_gradients_are_seen():
    layer, x, rehearsal = torch.nn.Linear(2, 1), torch.ones(1, 2), Rehearsal(CPU)
    layer.weight.grad = torch.zeros(1, 2)
    with rehearsal:
        layer(x).sum().backward()
    rehearsal.undo()
    assert layer.weight.grad.tolist() == [[0.0, 0.0]]


@pytest.mark.slow  # the first operations on `meta` take seconds
def test_what_is_elsewhere_is_refused_but_for_constants():
    x, there = torch.ones(2), torch.ones(2, device="meta")
    with Rehearsal(torch.device("meta")):
        (there * torch.tensor(2.0)).sum()
    for function in (lambda: there.sum() * x.sum(), lambda: x + 1.0, lambda: torch.ones(3)):
        with (
            pytest.raises(CantRecord, match="it computes on cpu, too, not on meta alone"),
            Rehearsal(torch.device("meta")),
        ):
            function()
    with pytest.raises(CantRecord, match="draws random numbers on cpu"), Rehearsal(torch.device("meta")):
        torch.rand(2, generator=torch.Generator())
