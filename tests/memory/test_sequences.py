"""Replay of sequences against a plain list of everything that happened, and their priorities against the formulas."""

from collections import Counter
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from running import same
from torch.testing import assert_close

from pgrun.data.history import History
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.memory.prioritized_sequences import PrioritizedSequences, of_sequences
from pgrun.memory.sequences import Sequences, window_returns

GAMMA, S = 0.9, 3
VECTOR = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (3, 20, 20), np.uint8)
SPACES = {"vector": VECTOR, "image": IMAGE, "dict": gym.spaces.Dict({"x": VECTOR, "y": VECTOR})}


class World:
    """B environments that count their steps: what is seen, done and remembered tells which step of which it was."""

    def __init__(self, b=2, kind="vector", ends=0.2, same_step=True, seed=0):
        self.b, self.space, self.ends, self.same_step = b, SPACES[kind], ends, same_step
        self.rng = np.random.default_rng(seed)
        self.rows = [[] for _ in range(b)]
        self.resets, self.count = [False] * b, 0
        self.now = [self.fresh() for _ in range(b)]

    def fresh(self):
        self.count += 1
        return self.count

    def look(self, number):
        if isinstance(self.space, gym.spaces.Dict):
            return {key: torch.full((2,), float(number)) for key in self.space}
        return torch.full(self.space.shape, number, dtype=torch.uint8 if self.space is IMAGE else torch.float32)

    def step(self, b):
        filler = self.resets[b]
        last = not filler and bool(self.rng.random() < self.ends)
        after = self.fresh()
        row = {"obs": self.now[b], "next": after, "last": last, "valid": not filler, "action": len(self.rows[b])}
        row |= {"reward": float(self.rng.normal()), "discount": 1.0 - float(last and self.rng.random() < 0.5)}
        row["carry"] = [1000.0 * b + len(self.rows[b])] * S
        self.now[b] = self.fresh() if last and self.same_step else after
        self.resets[b] = last and not self.same_step
        self.rows[b].append(row)
        return row

    def break_off(self):
        self.now = [self.fresh() for _ in range(self.b)]

    def rollout(self, t):
        rows = [[self.step(b) for b in range(self.b)] for _ in range(t)]

        def field(name, dtype=torch.float32):
            return torch.tensor([[row[name] for row in line] for line in rows], dtype=dtype)

        def seen(name):
            looks = [[self.look(row[name]) for row in line] for line in rows]
            if isinstance(looks[0][0], dict):
                return {k: torch.stack([torch.stack([x[k] for x in line]) for line in looks]) for k in looks[0][0]}
            return torch.stack([torch.stack(line) for line in looks])

        flags = {name: field(name, torch.bool) for name in ("last", "valid")}
        number = torch.stack([field("action"), torch.arange(float(self.b)).expand(t, -1)], -1)
        return Transition(seen("obs"), number, field("reward"), field("discount"), seen("next"), **flags,
                          extras={"carry": field("carry")})  # fmt: skip


def memory(world, kind=Sequences, **changes):
    env = SimpleNamespace(obs_space=world.space, action_space=VECTOR, num_envs=world.b)
    common = {"capacity": 20 * world.b, "batch_size": 4, "length": 4, "burn_in": 3, "stride": 2, "warmup": 0}
    more = {"updates": 1, "n_step": 1, "gamma": GAMMA, "save": True, "device": "cpu", "learn_device": "cpu"}
    return kind(**{**common, **more, "state_size": S, **changes}, env=env)


def every(m):
    """A sample of each sequence that there is, one by one."""
    return [m.sample(m.locate(torch.tensor([i]))) for i in range(len(m.places) * m.num_envs)]


def number(obs):
    """Tell which observation each row shows."""
    x = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return x.flatten(1)[:, 0].long().tolist()


def check(batch, world, k, length, n, held=20):
    """Rows, states and targets are what happened, step after step."""
    assert isinstance(batch.obs, History)
    b, begin = divmod(int(batch.obs.state[0, 0]), 1000)
    assert begin >= len(world.rows[b]) - held
    rows = world.rows[b]
    counted = [i for i in range(begin + k, begin + k + length) if rows[i]["valid"]]
    assert batch.action[:, 0].tolist() == counted
    assert number(batch.obs.obs) == [rows[i]["obs"] for i in counted]
    last = begin + k + length + n - 2
    for row, i in enumerate(counted):
        reward, discount, at = rows[i]["reward"], rows[i]["discount"], i
        for m in range(1, n):
            if rows[at]["last"] or rows[at]["next"] != rows[at + 1]["obs"]:
                break
            at += 1
            assert at <= last
            reward += GAMMA**m * rows[at]["reward"]
            discount = GAMMA**m * rows[at]["discount"]
        assert float(batch.reward[row]) == pytest.approx(reward, abs=1e-5)
        assert float(batch.discount[row]) == pytest.approx(discount, abs=1e-5)
        assert number(batch.next_obs.obs)[row] == rows[at]["next"]
    assert bool(batch.valid.all())
    return counted


@pytest.mark.parametrize("same_step", [True, False])
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("n", [1, 3])
def test_sequences_are_what_happened(n, kind, same_step):
    """After every rollout, however long, around the ring's end and over the ends of episodes."""
    world = World(2 if kind != "image" else 1, kind, same_step=same_step)
    m = memory(world, n_step=n)
    found = Counter()
    for t in (1, 6, 1, 2, 9, 23, 5, 1, 7):
        if kind == "image" and world.count > 90:
            break
        m.add(world.rollout(t))
        for batch in every(m):
            found.update(check(batch, world, 3, 4, n))
        if t == 2:
            world.break_off()
    assert len(found) > 20


def test_every_step_is_in_as_many_sequences():
    """But for those at the ring's two ends."""
    world = World(2, same_step=True)
    m = memory(world, length=6, burn_in=3, stride=2, capacity=80)
    m.add(world.rollout(61))
    seen = Counter(tuple(row) for batch in every(m) for row in batch.action.tolist())
    newest = len(world.rows[0])
    inner = [seen[i, b] for b in (0.0, 1.0) for i in range(newest - 40 + 3 + 6, newest - 7)]
    assert len(inner) > 40
    assert set(inner) == {3}


def test_draws_are_uniform_over_places():
    world = World(2)
    m = memory(world)
    m.add(world.rollout(33))
    (batch,) = memory_of(m, 4000).batches()
    starts = Counter(batch.obs.state[:, 0].tolist())
    assert len(starts) == len(m.places) * 2
    assert min(starts.values()) > 0.7 * 4000 / len(starts)


def memory_of(m, size):
    m.batch_size = size
    return m


def test_nothing_is_offered_before_a_sequence_is_there():
    world = World(1)
    m = memory(world, length=4, burn_in=3)
    m.add(world.rollout(6))
    assert not list(m.batches())
    m.add(world.rollout(1))
    assert len(list(m.batches())) == 1


def test_without_a_memory_the_rows_are_plain():
    world = World(1, "dict", ends=0.0)
    m = memory(world, state_size=0, n_step=2)
    m.add(world.rollout(20))
    for i, batch in enumerate(every(m)):
        first = [row["obs"] for row in world.rows[0]][2 * i + 3]
        assert number(batch.obs) == [first + j for j in range(4)]
        assert number(batch.next_obs) == [first + j + 2 for j in range(4)]
        assert same(batch.obs["x"], batch.obs["y"])


def test_filler_alone_is_no_batch():
    world = World(1)
    m = memory(world)
    rollout = world.rollout(20)
    m.add(rollout._replace(valid=torch.zeros_like(rollout.valid)))
    assert not list(m.batches())
    assert m.sample(torch.tensor([0])) is None


def test_a_restored_memory_goes_on_as_it_would_have():
    world = World(2)
    m = memory(world)
    m.add(world.rollout(27))
    other = memory(world)
    other.restore(m.snapshot())
    more = world.rollout(5)
    for each in (m, other):
        each.add(more)
    ours, theirs = every(m), every(other)
    assert len(ours) == len(theirs) > 4
    for x, y in zip(ours, theirs, strict=True):
        assert torch.equal(x.obs.state, y.obs.state)
        assert torch.equal(x.action, y.action)
        assert torch.equal(x.next_obs.obs, y.next_obs.obs)


def test_states_take_a_strides_share_of_the_room():
    world = World(2)
    m = memory(world, stride=4, length=8, capacity=96)
    assert m.bytes_per_row(SimpleNamespace(obs_space=VECTOR, action_space=VECTOR)) == 37 + 3
    m.add(world.rollout(4))
    assert m.states.shape == (12, 2, S)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_window_returns_by_a_loop(n):
    torch.manual_seed(1)
    t = 9
    reward, goes_on = torch.randn(t, 3, dtype=torch.float64), torch.rand(t, 3) < 0.7
    discount = torch.where(goes_on, 1.0, (torch.rand(t, 3) < 0.5).double())
    total, left, m = window_returns(reward, discount, goes_on, n, GAMMA)
    for i in range(t):
        for b in range(3):
            want, d, steps = float(reward[i, b]), float(discount[i, b]), 1
            while steps < n and goes_on[i + steps - 1, b] and i + steps < t:
                want += GAMMA**steps * float(reward[i + steps, b])
                d = GAMMA**steps * float(discount[i + steps, b])
                steps += 1
            assert_close((float(total[i, b]), float(left[i, b]), int(m[i, b])), (want, d, steps))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stride": 3}, "memory.length=4 must be a multiple of memory.stride=3.* use memory.stride=2"),
        ({"capacity": 15}, "no room for sequences of 7 steps of 2 environments; use memory.capacity=16 or more"),
        ({"burn_in": 30}, "use memory.capacity=72 or more"),
    ],
)
def test_refusals(changes, says):
    with pytest.raises(UserError, match=says):
        memory(World(2), **changes)


def test_the_least_capacity_will_do():
    world = World(2)
    m = memory(world, capacity=16)
    for _ in range(40):
        m.add(world.rollout(1))
        assert len(m.places) or m.ring.filled < 8


# ---------------------------------------------------------------- priorities


PRIORITY = {"eta": 0.9, "alpha": 0.7, "beta": 0.4, "anneal": 100, "epsilon": 1e-6}


def prioritized(world, **changes):
    return memory(world, PrioritizedSequences, **PRIORITY, **changes)


def begins(m):
    """The numbers of the rows where there is a sequence to draw."""
    return sorted(m.locate(torch.arange(len(m.places) * m.num_envs)).tolist())


def drawable(m):
    """The numbers of the rows where a sequence of some priority begins."""
    place = m.priorities.tree.leaves[: len(m.there) * m.num_envs].nonzero().squeeze(-1)
    return sorted((place // m.num_envs * m.stride * m.num_envs + place % m.num_envs).tolist())


def report(batch, errors):
    """Write |δ| of each row, by its step and environment."""
    batch.extras["priority"].copy_(torch.tensor([errors[tuple(x)] for x in batch.action.tolist()]))


def test_a_sequences_priority_mixes_its_largest_and_its_mean_error():
    error, sequence = torch.tensor([1.0, 4.0, 0.5, 3.0]), torch.tensor([0, 2, 0, 2])
    assert of_sequences(error, sequence, 4, 0.9).tolist() == pytest.approx(
        [0.9 * 1.0 + 0.1 * 0.75, 0.0, 0.9 * 4.0 + 0.1 * 3.5, 0.0]
    )


@pytest.mark.parametrize("same_step", [True, False])
def test_whole_sequences_alone_are_drawn(same_step):
    """Round the ring's end, after rollouts of any length: one as soon as it is whole, until it is written over."""
    world = World(2, same_step=same_step)
    m = prioritized(world)
    for t in (1, 6, 1, 2, 9, 23, 5, 1, 7, 1, 1, 40):
        m.add(world.rollout(t))
        assert drawable(m) == begins(m)
        for batch in m.batches():
            batch.extras["priority"].fill_(0.3)


def test_sequences_are_drawn_by_their_priority_with_the_papers_weights():
    world = World(2, seed=3)
    m = prioritized(world, batch_size=4000)
    m.add(world.rollout(21))
    errors = {(i, b): 0.1 + float(i % 7) + b for i in range(100) for b in range(2)}
    for batch in m.batches():
        report(batch, errors)  # of every sequence: each is drawn of 4,000
    m.add(world.rollout(2))  # one more in each environment, whose priority is the largest so far
    p = {}
    for place in range(len(m.places) * 2):
        x = m.sample(m.locate(torch.tensor([place])))
        found = torch.tensor([errors[tuple(row)] for row in x.action.tolist()])
        new = place // 2 == len(m.places) - 1
        p[float(x.obs.state[0, 0])] = m.priorities.largest if new else 0.9 * found.max() + 0.1 * found.mean() + 1e-6
    total = sum(float(x) ** 0.7 for x in p.values())
    share = {state: float(x) ** 0.7 / total for state, x in p.items()}
    torch.manual_seed(0)
    (batch,) = m.batches()
    counts = Counter(batch.obs.state[:, 0].tolist())
    beta = 0.4 + 0.6 * m.seen / 100
    weight = {state: (len(p) * x) ** -beta for state, x in share.items()}
    assert m.figures()["beta"] == pytest.approx(beta)
    for state, x in share.items():
        assert abs(counts[state] - 4000 * x) <= 2  # stratified
    row = {}  # its sequence is the one whose step it is
    for place in range(len(m.places) * 2):
        x = m.sample(m.locate(torch.tensor([place])))
        row |= {(float(x.obs.state[0, 0]), *step): weight[float(x.obs.state[0, 0])] for step in x.action.tolist()}
    states = batch.obs.flat(batch.obs.state[:, 0].expand(m.steps, -1)).tolist()
    expect = torch.tensor([row[(s, *step)] for s, step in zip(states, batch.action.tolist(), strict=True)])
    assert_close(batch.extras["weight"], expect / max(weight.values()), rtol=1e-4, atol=1e-6)


def test_sequences_that_nobody_reports_stay_as_they_were():
    world = World(2)
    m = prioritized(world)
    m.add(world.rollout(20))
    before = m.priorities.tree.leaves.clone()
    list(m.batches())
    assert torch.equal(m.priorities.tree.leaves, before)


def test_priorities_are_restored():
    world = World(2)
    m = prioritized(world, updates=5)
    for t in (27, 4):
        m.add(world.rollout(t))
        for batch in m.batches():
            batch.extras["priority"].copy_(batch.reward.abs())
    other = prioritized(world, updates=5)
    other.restore(m.snapshot())
    more = world.rollout(5)
    drawn = []
    for each in (m, other):
        each.add(more)
        torch.manual_seed(1)
        drawn.append([(batch.action, batch.extras["weight"]) for batch in each.batches()])
    assert same(*drawn)
    assert torch.equal(m.priorities.tree.leaves, other.priorities.tree.leaves)
