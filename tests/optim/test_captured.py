"""Captured functions, on graphs that are emulated on the CPU: what is replayed is what the call would do."""

import pytest
import torch
from fake_graphs import FakeGraphs
from torch.testing import assert_close

from pgrun.errors import CantRecord
from pgrun.optim.captured import TRIES, Captured
from pgrun.optim.compiled import FORMS, MOST


class Owner(torch.nn.Module):
    """Has all that a function may read and write to."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.register_buffer("total", torch.zeros(4))
        self.gamma, self.calls, self.rng = 0.5, 0, torch.Generator().manual_seed(3)

    def learn(self, x, more):
        """Take a gradient inside, write to a view of a buffer and to an argument, and draw from two generators."""
        with torch.enable_grad():
            loss = self.gamma * self.layer(x).tanh().square().sum()
        (gradient,) = torch.autograd.grad(loss, [self.layer.weight])
        self.total[:2].add_(1.0)
        self.total.mul_(2.0)
        more["noise"].add_(torch.rand(3)).add_(torch.randn(3, generator=self.rng))
        return loss.detach(), {"gradient": gradient, "noise": more["noise"], "total": self.total}


@pytest.fixture
def graphs():
    return FakeGraphs()


def test_replays_do_what_calls_do(graphs):
    """The same numbers, to the bit, the same writes, and generators that stand where they would."""
    owner, twin = Owner(), Owner()
    twin.load_state_dict(owner.state_dict())
    captured = Captured(owner.learn, graphs)
    for n in range(4):
        x, noise, other = torch.randn(4, 3), torch.zeros(3), torch.zeros(3)
        state = torch.get_rng_state()
        loss, more = captured(x, {"noise": noise})
        after = torch.get_rng_state()
        torch.set_rng_state(state)
        want, those = twin.learn(x, {"noise": other})
        assert torch.equal(after, torch.get_rng_state())
        assert torch.equal(owner.rng.get_state(), twin.rng.get_state())
        assert_close((loss, more["gradient"], noise), (want, those["gradient"], other), rtol=0.0, atol=0.0)
        assert more["noise"] is noise
        assert more["total"] is owner.total
        assert_close(owner.total, twin.total, rtol=0.0, atol=0.0)
        assert (graphs.captured, graphs.replays) == (1, n + 1)
    assert captured.seconds > 0.0


def test_results_are_the_caller_s(graphs):
    double = Captured(lambda x: {"twice": 2.0 * x, "first": x[0]}, graphs)
    first = double(torch.ones(2))
    double(torch.zeros(2))
    assert first["twice"].tolist() == [2.0, 2.0]
    assert first["first"] == 1.0


def test_parameters_and_buffers_may_move_in_place(graphs):
    owner = Owner()
    captured, x = Captured(owner.layer.forward, graphs, (owner,)), torch.randn(2, 3)
    for _ in range(3):
        with torch.no_grad():
            owner.layer.weight.add_(1.0)
        assert_close(captured(x), owner.layer(x), rtol=0.0, atol=0.0)
    owner.layer.weight = torch.nn.Parameter(torch.zeros(2, 3))  # a new one is read from then on
    assert_close(captured(x), owner.layer(x), rtol=0.0, atol=0.0)
    assert graphs.captured == 2


def test_numbers_that_change_are_captured_anew_and_found_again(graphs):
    owner = Owner()
    captured = Captured(lambda x: owner.gamma * x, graphs, (owner,))
    for gamma in (0.5, 0.9, 0.5, 0.9):
        owner.gamma = gamma
        assert_close(captured(torch.ones(2)), torch.full((2,), gamma))
    assert graphs.captured == 2
    owner.calls += 1  # it isn't read
    captured(torch.ones(2))
    assert graphs.captured == 2
    for i in range(2, MOST):
        owner.gamma = float(i)
        captured(torch.ones(2))
    owner.gamma = -1.0
    with pytest.raises(CantRecord, match="it reads numbers that keep changing"):
        captured(torch.ones(2))
    assert graphs.captured == MOST


def test_other_forms_are_captured_apart(graphs):
    total = Captured(lambda x: x.sum(), graphs)
    for n in range(1, FORMS + 1):
        assert total(torch.ones(n)) == n
    assert total(torch.ones(1)) == 1
    assert graphs.captured == FORMS
    with pytest.raises(CantRecord, match="sizes of what it is given keep changing"):
        total(torch.ones(FORMS + 1))


def test_one_tensor_in_two_places_stays_one(graphs):
    def function(x, y):
        x.add_(1.0)
        return y * 2.0

    captured, x = Captured(function, graphs), torch.zeros(2)
    assert captured(x, x).tolist() == [2.0, 2.0]
    assert captured(x, torch.zeros(2)).tolist() == [0.0, 0.0]
    assert x.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x if x.sum() > 0 else -x, "it reads a number out of a tensor"),
        (lambda x: x[x > 0].sum(), "it reads a number out of a tensor"),
        (lambda x: x.add_(1.0).to("meta"), "it computes on meta, too"),
        (lambda x: x.add_(1.0) / x.nonzero().sum(), "it reads a number out of a tensor"),
    ],
)
def test_what_no_graph_can_hold_is_refused_and_leaves_nothing(graphs, function, why):
    x = torch.ones(3)
    with pytest.raises(CantRecord, match=why):
        Captured(function, graphs)(x)
    assert x.tolist() == [1.0] * 3
    assert (graphs.captured, graphs.busy, graphs.rehearsing) == (0, False, False)


def test_memory_that_arguments_share_may_not_be_written_to(graphs):
    x = torch.zeros(4)
    with pytest.raises(CantRecord, match="have in common"):
        Captured(lambda a, b: (a.add_(1.0), b.sum()), graphs)(x[:3], x[1:])
    with pytest.raises(CantRecord, match="have in common"):
        Captured(lambda a: (x.add_(1.0), a.sum()), graphs)(x[1:])
    assert x.tolist() == [0.0] * 4


def test_a_failed_capture_is_no_failed_call(graphs):
    """A device may refuse an operation that a rehearsal lets pass."""
    first = []

    def function(x):
        return x + 1.0 if not first.append(0) and len(first) == 1 else x + float(x.sum())

    with pytest.raises(CantRecord, match="not permitted when stream is capturing"):
        Captured(function, graphs)(torch.ones(2))
    assert not graphs.busy


def test_what_counts_its_calls_is_not_captured(graphs):
    owner = Owner()

    def function(x):
        owner.calls += 1
        return x + owner.calls

    captured = Captured(function, graphs, (owner,))
    found = [captured(torch.zeros(1)).item() for _ in range(TRIES - 1)]
    assert found == [1.0, 2.0]
    with pytest.raises(CantRecord, match="each call sets 'calls'"):
        captured(torch.zeros(1))
    assert owner.calls == TRIES - 1
    assert graphs.captured == 0


def test_what_a_first_call_sets_up_is_set_up_first(graphs):
    owner = Owner()
    owner.scale, owner.history = None, []

    def function(x):
        if owner.scale is None:
            owner.scale = torch.full((2,), 3.0)
            owner.history.append(0)
        return owner.scale * x

    captured = Captured(function, graphs, (owner,))
    assert [captured(torch.ones(2))[0].item() for _ in range(3)] == [3.0] * 3
    assert (graphs.captured, graphs.replays, owner.history) == (1, 2, [0])


def test_inner_functions_are_a_part_of_the_outer_one(graphs):
    inner = Captured(lambda x: x + 1.0, graphs)
    outer = Captured(lambda x: inner(x) * 2.0, graphs)
    assert outer(torch.ones(1)).item() == outer(torch.ones(1)).item() == 4.0
    assert graphs.captured == 1
    assert inner(torch.ones(1)).item() == 2.0
    assert graphs.captured == 2


def test_compiled_code_is_made_before_the_capture_and_its_writes_are_undone(graphs):
    """A rehearsal doesn't see what compiled code writes to; it sees the same writes by torch's own operations."""
    total, ran = torch.zeros(1), []

    def function(x):
        ran.append(graphs.rehearsing)
        total.add_(x)
        return total * 1.0

    captured = Captured(function, graphs, warm=True)
    assert captured(torch.ones(1)).item() == 1.0
    assert captured(torch.ones(1)).item() == 2.0
    assert ran == [True, False, False]


def test_gradients_are_on_or_off_as_for_the_call(graphs):
    layer = torch.nn.Linear(2, 1)
    modes = Captured(lambda x: torch.tensor(float(layer(x).requires_grad)) + 0.0 * x.sum(), graphs)
    assert modes(torch.ones(2)).item() == 1.0
    with torch.no_grad():
        assert modes(torch.ones(2)).item() == 0.0
