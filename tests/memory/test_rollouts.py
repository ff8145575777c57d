import pytest
import torch

from pgrun.data.types import Transition, pad
from pgrun.memory.guided import Guided
from pgrun.memory.latest import Latest
from pgrun.memory.side_by_side import side_by_side, tensors
from pgrun.memory.trajectories import Trajectories


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


def trajectories(**changes):
    kwargs = {"capacity": 3, "replay_ratio": 2, "poisson": False, "warmup": 0, "merge": False}
    return Trajectories(**{**kwargs, "device": "cpu", "learn_device": "cpu", **changes})


def numbers(batch):
    """The numbers of a batch's valid rows, column by column; every field must agree on them."""
    number = batch.reward * 2
    on = batch.valid
    assert torch.equal(batch.obs[on], torch.stack([number, -number], -1)[on])
    assert torch.equal(batch.next_obs[on], batch.obs[on] + 1)
    assert torch.equal(batch.action[on], (number * 10).long()[on])
    assert torch.equal(batch.discount[on], (number % 2)[on])
    assert torch.equal(batch.extras["log_prob"][on], -number.double()[on])
    return [number[on[:, b], b].long().tolist() for b in range(number.shape[1])]


def test_the_latest_rollout_comes_first_and_then_samples():
    memory = trajectories()
    for first in (0, 10):
        memory.add(rollout(first, 4, b=2))
    latest, *samples = memory.batches()
    assert numbers(latest) == [[10, 12, 14, 16], [11, 13, 15, 17]]
    held = [list(range(i, i + 8, 2)) for i in (0, 1, 10, 11)]
    assert [len(numbers(sample)) for sample in samples] == [2, 2]
    assert all(column in held for sample in samples for column in numbers(sample))


def test_columns_are_drawn_uniformly_from_the_newest_rollouts():
    """χ² over 6 columns: 20.5 once in a thousand."""
    memory = trajectories(replay_ratio=1500)
    for first in (100, 0, 10, 20):
        memory.add(rollout(first, 4, b=2))
    _, *samples = memory.batches()
    columns = [column[0] for sample in samples for column in numbers(sample)]
    counts = torch.tensor([columns.count(i) for i in (0, 1, 10, 11, 20, 21)])
    assert int(counts.sum()) == 3000
    assert float(((counts - 500.0).square() / 500.0).sum()) < 20.5


def test_a_stored_rollouts_end_cuts_its_traces_and_the_latests_does_not():
    memory = trajectories(replay_ratio=1)
    original = rollout(1, 5)  # 3 is a last one, 5 is not
    memory.add(original)
    latest, sample = memory.batches()
    assert latest.last.flatten().tolist() == original.last.flatten().tolist() == [False, False, True, False, False]
    assert sample.last.flatten().tolist() == [False, False, True, False, True]


def test_rollouts_of_unequal_length_are_padded():
    memory = trajectories(replay_ratio=40)
    for first, length in ((0, 3), (10, 5), (20, 2)):
        memory.add(rollout(first, length))
    latest, *samples = memory.batches()
    assert latest.reward.shape == (2, 1)
    held = {3: [0, 1, 2], 5: list(range(10, 15)), 2: [20, 21]}
    assert {sample.reward.shape[0] for sample in samples} == set(held)  # no longer than the longest in it
    for sample in samples:
        assert numbers(sample) == [held[sample.reward.shape[0]]]
        assert bool(sample.last[-1, 0])
    memory.add(rollout(30, 4))  # takes the oldest's place
    assert sorted(numbers(columns)[0][0] for columns in (memory.sample(1) for _ in range(60)))[0] == 10


def test_padding_is_not_valid():
    padded = pad(rollout(1, 2, b=2), 4)
    assert padded.valid.tolist() == [[True, True]] * 2 + [[False, False]] * 2
    assert padded.reward[2:].abs().sum() == 0
    original = rollout(0, 3)
    assert pad(original, 3) is original


@pytest.mark.parametrize("merge", [False, True])
def test_what_no_update_has_seen_is_marked(merge):
    memory = Trajectories(capacity=3, replay_ratio=2, poisson=False, warmup=0, merge=merge, device="cpu",
                          learn_device="cpu")  # fmt: skip
    for first in (1, 10):
        memory.add(rollout(first, 3, b=2))
        marks = [batch.extras["fresh"].all(0).tolist() for batch in memory.batches()]
        old = 0 if first == 1 else 2  # a merged batch holds no trajectory twice
        assert marks == ([[True] * 2 + [False] * old] if merge else [[True] * 2, [False] * 2, [False] * 2])
    assert "fresh" not in memory.ring.extras


def test_of_guided_rollouts_the_latest_is_marked():
    memory = Guided(demonstrations=None, capacity=2, env=None, learn_device="cpu")
    for first in (1, 10):
        memory.add(rollout(first, 3))
    (batch,) = memory.batches()
    assert batch.extras["fresh"].all(0).tolist() == [False, True]


def test_side_by_side():
    batch = side_by_side([rollout(1, 3, b=2), rollout(10, 5)])
    assert batch.reward.shape == (5, 3)
    assert numbers(batch) == [[1, 3, 5], [2, 4, 6], [10, 11, 12, 13, 14]]
    assert batch.last[2].tolist() == [True, True, True]  # cut; 12 is one by itself
    assert batch.last[4].tolist() == [False, False, False]  # the longest goes on, as it does alone


@pytest.mark.parametrize("as_dict", [False, True])
def test_one_batch_of_them_all(as_dict):
    memory = trajectories(merge=True)
    memory.add(rollout(0, 4, as_dict=as_dict))
    memory.add(rollout(10, 2, as_dict=as_dict))
    (batch,) = memory.batches()
    assert batch.reward.shape == (4, 2)  # two samples are asked for, and there is one beside the latest
    assert (batch.reward[:2, 0] * 2).tolist() == [10, 11]
    assert (batch.reward[:, 1] * 2).tolist() == [0, 1, 2, 3]
    (alone,) = trajectories_with(rollout(0, 4), merge=True, replay_ratio=0).batches()
    assert alone.reward.shape == (4, 1)


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("added", [1, 2, 3, 4, 5])
def test_no_trajectory_stands_twice_in_a_batch(added, merge):
    """Else a mean over the others, left out one's own, would hold one's own again."""
    memory = trajectories(merge=merge)  # of three rollouts, two samples
    for i in range(added):
        memory.add(rollout(100 * i, 2, b=4))
    for _ in range(20):
        for batch in memory.batches():
            first = (batch.reward[0] * 2).tolist()
            assert len(set(first)) == len(first)
        if merge:
            assert len(first) == 4 * min(added, 3)
            assert first[:4] == [100.0 * (added - 1) + i for i in range(4)]


def trajectories_with(*rollouts, **changes):
    memory = trajectories(**changes)
    for each in rollouts:
        memory.add(each)
    return memory


def test_a_poisson_number_of_samples():
    """Mean and variance 4; the standard errors are 0.06 and 0.18."""
    memory = trajectories_with(rollout(0, 2), replay_ratio=4, poisson=True)
    draws = torch.tensor([float(memory.draws()) for _ in range(1000)])
    assert abs(float(draws.mean()) - 4.0) < 0.25
    assert abs(float(draws.var()) - 4.0) < 0.8


def test_a_fraction_of_a_sample_is_one_so_often():
    memory = trajectories_with(rollout(0, 2), replay_ratio=1.25)
    draws = [memory.draws() for _ in range(1000)]
    assert set(draws) == {1, 2}
    assert 190 < draws.count(2) < 310


def test_the_latest_is_learnt_from_before_the_warmup():
    valid = torch.ones(4, 2, dtype=torch.bool)
    valid[0, 0] = False
    memory = trajectories(warmup=8)
    memory.add(rollout(0, 4, b=2, valid=valid))
    assert len(list(memory.batches())) == 1
    memory.add(rollout(8, 1, b=2))
    assert len(list(memory.batches())) == 3


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("added", [1, 2, 5])
def test_a_snapshot_restores_rollouts_and_what_follows(added, as_dict):
    memory, other = trajectories(), trajectories()
    for i in range(added):
        memory.add(rollout(10 * i, 2 + i % 3, b=2, as_dict=as_dict))
    other.restore(memory.snapshot())
    for each in (memory, other):
        each.add(rollout(90, 5, b=2, as_dict=as_dict))
    outcomes = []
    for each in (memory, other):
        torch.manual_seed(0)
        outcomes.append([list(tensors(batch)) for batch in each.batches()])
    assert all(torch.equal(x, y) for a, b in zip(*outcomes, strict=True) for x, y in zip(a, b, strict=True))
    assert memory.snapshot()["lengths"] == other.snapshot()["lengths"]


def test_a_snapshot_is_not_changed_by_what_follows():
    memory = trajectories_with(rollout(0, 3))
    saved = memory.snapshot()
    for first in (10, 20, 30):
        memory.add(rollout(first, 3))
    assert (saved["ring"]["reward"][:, 0] * 2).tolist() == [0, 1, 2]


def test_an_empty_snapshot_of_trajectories():
    memory = trajectories()
    memory.restore(trajectories().snapshot())
    memory.add(rollout(0, 2))
    assert numbers(next(memory.batches())) == [[0, 1]]


def test_samples_of_trajectories_go_to_the_learners_device():
    memory = trajectories_with(rollout(0, 5), learn_device="meta")
    assert [{x.device.type for x in tensors(batch)} for batch in memory.batches()] == [{"meta"}] * 3
