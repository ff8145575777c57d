import pytest
import torch

from pgrun.memory import Latest, Replay, tensors
from pgrun.types import Transition


def rollout(first, t, b=1, valid=None, *, as_dict=False):
    """Rows numbered from `first` on, time-major; every field of a row is derived from its number."""
    number = (first + torch.arange(t * b)).reshape(t, b)
    obs = torch.stack([number, -number], -1).float()
    return Transition(
        obs={"x": obs, "n": number} if as_dict else obs,
        action=number * 10,
        reward=number.float() / 2,
        discount=(number % 2).float(),
        next_obs={"x": obs + 1, "n": number + 1} if as_dict else obs + 1,
        last=number % 3 == 0,
        valid=torch.ones(t, b, dtype=torch.bool) if valid is None else valid,
        extras={"log_prob": -number.double()},
    )


def replay(**changes):
    kwargs = {"capacity": 10, "batch_size": 4, "warmup": 0, "updates": 1, "device": "cpu", "learn_device": "cpu"}
    return Replay(**{**kwargs, **changes})


def held(memory):
    """The numbers of the rows in a ring, in the ring's order; every field must agree on them."""
    ring = memory.ring
    number = ring.reward[: memory.size] * 2
    n = memory.size
    assert torch.equal(ring.obs[:n], torch.stack([number, -number], -1))
    assert torch.equal(ring.next_obs[:n], ring.obs[:n] + 1)
    assert torch.equal(ring.action[:n], (number * 10).long())
    assert torch.equal(ring.last[:n], number % 3 == 0)
    assert torch.equal(ring.discount[:n], number % 2)
    assert torch.equal(ring.extras["log_prob"][:n], -number.double())
    return number.long().tolist()


def test_the_ring_fills_and_wraps_around():
    memory = replay()
    memory.add(rollout(0, 4))
    assert (held(memory), memory.size, memory.position) == ([0, 1, 2, 3], 4, 4)
    memory.add(rollout(4, 4))
    assert held(memory) == list(range(8))
    memory.add(rollout(8, 4))
    assert held(memory) == [10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (memory.size, memory.position, memory.seen) == (10, 2, 12)


def test_a_rollout_that_ends_at_the_rings_end():
    memory = replay()
    memory.add(rollout(0, 10))
    assert (held(memory), memory.position) == (list(range(10)), 0)
    memory.add(rollout(10, 1))
    assert held(memory) == [10, *range(1, 10)]


@pytest.mark.parametrize("before", [0, 3])
def test_of_a_rollout_larger_than_the_ring_the_newest_rows_stay(before):
    memory = replay()
    if before:
        memory.add(rollout(0, before))
    memory.add(rollout(100, 25))
    assert sorted(held(memory)) == list(range(115, 125))
    assert memory.size == 10


def test_several_environments_are_flattened_time_first():
    memory = replay()
    memory.add(rollout(0, 3, b=2))
    assert held(memory) == [0, 1, 2, 3, 4, 5]


def test_filler_rows_are_dropped():
    memory = replay()
    valid = torch.tensor([[True, False], [False, True], [True, True]])
    memory.add(rollout(0, 3, b=2, valid=valid))
    assert held(memory) == [0, 3, 4, 5]
    assert memory.seen == 4
    memory.add(rollout(6, 2, valid=torch.zeros(2, 1, dtype=torch.bool)))
    assert held(memory) == [0, 3, 4, 5]


def test_nothing_to_learn_before_the_warmup():
    memory = replay(warmup=6, updates=3)
    assert list(memory.batches()) == []
    memory.add(rollout(0, 5))
    assert list(memory.batches()) == []
    memory.add(rollout(5, 1))
    assert [batch.reward.shape for batch in memory.batches()] == [(4,)] * 3


def test_only_filler_is_nothing_to_learn():
    memory = replay()
    memory.add(rollout(0, 2, valid=torch.zeros(2, 1, dtype=torch.bool)))
    assert list(memory.batches()) == []


def test_samples_are_uniform_over_what_is_held():
    """χ² over 7 rows: 22.5 once in a thousand. The three empty rows are never drawn."""
    memory = replay(batch_size=7000)
    memory.add(rollout(0, 7))
    (batch,) = memory.batches()
    number = (batch.reward * 2).long()
    assert torch.equal(batch.action, number * 10)  # rows stay whole
    assert torch.equal(batch.obs[:, 1].long(), -number)
    counts = torch.bincount(number, minlength=10)
    assert counts[7:].sum() == 0
    assert float(((counts[:7] - 1000.0).square() / 1000.0).sum()) < 22.5
    (again,) = memory.batches()
    assert not torch.equal(again.reward, batch.reward)


def test_sampling_follows_the_global_generator():
    memory = replay(batch_size=50)
    memory.add(rollout(0, 10))
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(next(memory.batches()).reward)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("steps", [4, 13])
def test_a_snapshot_restores_the_ring_and_what_follows(steps, as_dict):
    memory, other = replay(), replay()
    memory.add(rollout(0, steps, as_dict=as_dict))
    saved = memory.snapshot()
    assert saved["ring"]["reward"].shape[0] == min(steps, 10)
    other.restore(saved)
    for each in (memory, other):
        each.add(rollout(50, 3, as_dict=as_dict))
    assert (other.size, other.position, other.seen) == (memory.size, memory.position, memory.seen)
    for x, y in zip(tensors(memory.ring), tensors(other.ring), strict=True):
        assert x.dtype == y.dtype
        assert torch.equal(x[: memory.size], y[: memory.size])


def test_an_empty_snapshot():
    memory = replay()
    memory.restore(replay().snapshot())
    assert memory.ring is None
    memory.add(rollout(0, 2))
    assert held(memory) == [0, 1]


def test_samples_go_to_the_learners_device():
    memory = replay(learn_device="meta")
    memory.add(rollout(0, 5))
    (batch,) = memory.batches()
    assert {x.device.type for x in tensors(batch)} == {"meta"}
    assert memory.ring.reward.device.type == "cpu"


def test_latest_offers_the_last_rollout_once():
    memory = Latest(learn_device="cpu")
    first, second = rollout(0, 3), rollout(3, 3)
    memory.add(first)
    assert [batch is first for batch in memory.batches()] == [True]
    memory.add(second)
    assert [batch is second for batch in memory.batches()] == [True]
    assert memory.snapshot() == {}
    memory.restore({})
    assert memory.rollout is second


def test_latest_moves_to_the_learners_device():
    memory = Latest(learn_device="meta")
    memory.add(rollout(0, 3))
    (batch,) = memory.batches()
    assert {x.device.type for x in tensors(batch)} == {"meta"}
    assert batch.obs.shape == (3, 1, 2)
