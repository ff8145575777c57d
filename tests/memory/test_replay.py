"""Replay against a plain list of everything that happened, and priorities against their formulas."""

import io
import logging
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.core.sum_tree import SumTree
from pgrun.data.types import Transition
from pgrun.errors import UserError
from pgrun.memory import replay
from pgrun.memory.prioritized import Prioritized
from pgrun.memory.replay import LARGE, Replay, size_of
from pgrun.memory.side_by_side import tensors

GAMMA = 0.9
VECTOR = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (3, 20, 20), np.uint8)
SPACES = {
    "vector": VECTOR,
    "image": IMAGE,
    "dict": gym.spaces.Dict({"x": VECTOR, "grid": gym.spaces.Box(-1.0, 1.0, (2, 3), np.float32)}),
    "dict with an image": gym.spaces.Dict({"x": VECTOR, "image": IMAGE}),
}


def look(space, number):
    """An observation [*O] of this space that no other number has."""
    if isinstance(space, gym.spaces.Dict):
        return {key: look(part, number) for key, part in space.items()}
    if space.dtype == np.uint8:
        return torch.full(space.shape, number % 251, dtype=torch.uint8).index_fill(2, torch.tensor([0]), number // 251)
    return torch.full(space.shape, float(number))


def stack(parts):
    if isinstance(parts[0], dict):
        return {key: torch.stack([part[key] for part in parts]) for key in parts[0]}
    return torch.stack(parts)


class World:
    """B environments in which nothing looks alike, and a list of all that happened in each."""

    def __init__(self, b, kind="vector", *, same_step=True, seed=0, ends=0.3):
        self.rng = np.random.default_rng(seed)
        self.b, self.space, self.same_step, self.ends = b, SPACES[kind], same_step, ends
        self.count = 0
        self.now = [self.fresh() for _ in range(b)]
        self.resets = [False] * b
        self.happened = [[] for _ in range(b)]  # of each environment: one dict a row

    def fresh(self):
        self.count += 1
        return self.count

    def row(self, b):
        """Return what happens next in environment b."""
        rng, obs = self.rng, self.now[b]
        if self.resets[b]:
            self.resets[b], self.now[b] = False, self.fresh()
            row = {"obs": obs, "next": self.now[b], "reward": 0.0, "discount": 1.0, "last": False, "valid": False}
        else:
            after = self.now[b] = self.fresh()
            last = bool(rng.random() < self.ends)
            death = last and bool(rng.random() < 0.5)
            if last and self.same_step:
                self.now[b] = self.fresh()
            self.resets[b] = last and not self.same_step
            row = {"obs": obs, "next": after, "reward": float(rng.normal()), "discount": 1.0 - death, "last": last}
            row["valid"] = True
        row["action"] = 1000 * b + len(self.happened[b])
        self.happened[b].append(row)
        return row

    def rollout(self, t):
        rows = [[self.row(b) for b in range(self.b)] for _ in range(t)]

        def field(name, dtype):
            return torch.tensor([[row[name] for row in line] for line in rows], dtype=dtype)

        def seen(name):
            return stack([stack([look(self.space, row[name]) for row in line]) for line in rows])

        return Transition(
            obs=seen("obs"),
            action=field("action", torch.long),
            reward=field("reward", torch.float32),
            discount=field("discount", torch.float32),
            next_obs=seen("next"),
            last=field("last", torch.bool),
            valid=field("valid", torch.bool),
            extras={"log_prob": field("action", torch.float64)},
        )

    def break_off(self):
        """All environments begin anew in the middle of their episodes."""
        for b in range(self.b):
            self.happened[b][-1]["broken"] = True
            self.now[b], self.resets[b] = self.fresh(), False

    def held(self, length):
        """The actions of the valid rows among each environment's last `length`."""
        return sorted(row["action"] for rows in self.happened for row in rows[-length:] if row["valid"])

    def target(self, action, n):
        """Of the window that begins with this action: reward, discount, the number of what it bootstraps from."""
        rows = self.happened[action // 1000][action % 1000 :]
        total, discount = 0.0, 1.0 / GAMMA
        for k, row in enumerate(rows[:n]):
            total += GAMMA**k * row["reward"]
            discount *= GAMMA * row["discount"]
            if row["last"] or row.get("broken"):
                break
        return rows[0]["obs"], total, discount, row["next"]

    def env(self):
        return SimpleNamespace(obs_space=self.space, action_space=gym.spaces.Discrete(9), num_envs=self.b)


COMMON = {"batch_size": 4, "warmup": 0, "updates": 1, "n_step": 1, "gamma": GAMMA, "save": True}
PRIORITY = {"alpha": 0.6, "beta": 0.4, "anneal": 1000, "epsilon": 1e-6}


def memory(world, kind=Replay, **changes):
    more = PRIORITY if kind is Prioritized else {}
    return kind(
        **{"capacity": 8 * world.b, **COMMON, **more, "device": "cpu", "learn_device": "cpu", **changes},
        env=world.env(),
    )


def everything(m):
    """A sample with each transition that is held, once."""
    (batch,) = m.ring.gather(m.ring.locate(torch.arange(m.ring.size)), 1, torch.device("cpu"))
    return batch


def same(x, y):
    if isinstance(x, dict):
        return list(x) == list(y) and all(same(x[key], y[key]) for key in x)
    return x.dtype == y.dtype and torch.equal(x, y)


def check(batch, world, n):
    """Every row of a sample is what happened."""
    obs, reward, discount, after = zip(*(world.target(action, n) for action in batch.action.tolist()), strict=True)
    assert_close(batch.reward, torch.tensor(reward), rtol=1e-5, atol=1e-6)
    assert_close(batch.discount, torch.tensor(discount), rtol=1e-5, atol=1e-6)
    assert same(batch.obs, stack([look(world.space, number) for number in obs]))
    assert same(batch.next_obs, stack([look(world.space, number) for number in after]))
    assert torch.equal(batch.extras["log_prob"], batch.action.double())
    assert bool(batch.valid.all())


@pytest.mark.parametrize("kind", SPACES)
def test_memory_that_was_used_before_is_no_part_of_a_sample(kind, monkeypatch):
    """Rows not yet written hold what the memory held before: here, numbers that no weight of 0 makes 0."""
    empty = torch.empty

    def used(*shape, **options):
        x = empty(*shape, **options)
        return x.fill_(torch.nan) if x.is_floating_point() else x

    monkeypatch.setattr(torch, "empty", used)
    world = World(1, kind, same_step=True, seed=0)
    m = memory(world, n_step=3)
    m.add(world.rollout(2))
    check(everything(m), world, 3)


@pytest.mark.parametrize("same_step", [True, False])
@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("n", [1, 3])
def test_what_is_held_is_what_happened(n, kind, same_step):
    """After every rollout, however long, around the ring's end: targets as a loop over the list has them."""
    for b in (1, 3):
        world = World(b, kind, same_step=same_step, seed=b)
        m = memory(world, n_step=n)
        assert m.once == (size_of(world.space) >= LARGE) == ("image" in kind)
        for t in (1, 2, 1, 3, 5, 8, 1, 4, 11, 2, 8, 7):
            m.add(world.rollout(t))
            batch = everything(m)
            assert sorted(batch.action.tolist()) == world.held(8)
            check(batch, world, n)
        assert m.seen == sum(row["valid"] for rows in world.happened for row in rows)


def test_the_control_sees_another_n():
    world = World(2)
    m = memory(world, n_step=3)
    m.add(world.rollout(8))
    with pytest.raises(AssertionError):
        check(everything(m), world, 2)


@pytest.mark.parametrize("kind", ["vector", "image"])
@pytest.mark.parametrize("n", [1, 4])
def test_no_window_crosses_a_break(n, kind):
    """Environments that had to start afresh, as after a resume without their states: the true successor stays."""
    world = World(2, kind, ends=0.0)
    m = memory(world, n_step=n)
    for t in (3, 2, 1, 4, 1):
        m.add(world.rollout(t))
        check(everything(m), world, n)
        world.break_off()
    m.add(world.rollout(2))
    check(everything(m), world, n)


def test_the_whole_ring_at_once_around_its_end():
    for kind in ("vector", "image"):
        world = World(2, kind, same_step=False)
        m = memory(world, n_step=2)
        for t in (5, 8, 20, 3):
            m.add(world.rollout(t))
            check(everything(m), world, 2)
            assert len(everything(m).action) == len(world.held(8))


def test_images_are_kept_once():
    world = World(1, "image", ends=0.0)
    m = memory(world, capacity=50)
    m.add(world.rollout(60))
    assert sum(x.shape[0] for x in m.ring.frames.parts.values()) == 51
    assert all(len(x) == 0 for x in m.ring.frames.apart.values())
    assert m.ring.row_fields.matrix.shape[1] == 3


def test_successors_apart_are_dropped_with_their_rows():
    world = World(1, "image", ends=1.0)  # every step is an episode's end
    m = memory(world, capacity=20)
    for _ in range(30):
        m.add(world.rollout(7))
    assert all(len(x) <= 40 for x in m.ring.frames.apart.values())
    check(everything(m), world, 1)


@pytest.mark.parametrize("kind", [Replay, Prioritized])
def test_random_actions_record_nothing(kind):
    world = World(2)
    m = memory(world, kind)
    m.add(world.rollout(3)._replace(extras={}))
    m.add(world.rollout(2))
    batch = everything(m)
    later = batch.action % 1000 >= 3
    assert batch.extras["log_prob"][later].tolist() == batch.action[later].tolist()
    assert not batch.extras["log_prob"][~later].any()


# ---------------------------------------------------------------- sampling


def test_nothing_to_learn_before_the_warmup():
    world = World(1, same_step=False, ends=0.0)
    m = memory(world, warmup=6, updates=3)
    assert list(m.batches()) == []
    m.add(world.rollout(5))
    assert list(m.batches()) == []
    m.add(world.rollout(1))
    assert [batch.reward.shape for batch in m.batches()] == [(4,)] * 3


@pytest.mark.parametrize("kind", [Replay, Prioritized])
def test_only_filler_is_nothing_to_learn(kind):
    world = World(1)
    m = memory(world, kind)
    m.add(world.rollout(2)._replace(valid=torch.zeros(2, 1, dtype=torch.bool)))
    assert list(m.batches()) == []
    assert m.seen == 0


@pytest.mark.parametrize("kind", [Replay, Prioritized])
@pytest.mark.parametrize("same_step", [True, False])
def test_samples_are_uniform_over_what_is_valid(same_step, kind):
    """χ² over the transitions held, filler never drawn; the bound is passed once in a thousand. With new priorities,
    which are all the same, draws are of equal shares, and closer to uniform than independent ones.
    """
    world = World(2, same_step=same_step, seed=3)
    m = memory(world, kind, batch_size=5000)
    for t in (5, 7):
        m.add(world.rollout(t))
    torch.manual_seed(0)
    (batch,) = m.batches()
    held = world.held(8)
    assert (len(held) == 16) == same_step
    counts = torch.tensor([(batch.action == action).sum() for action in held])
    assert int(counts.sum()) == 5000
    expect = 5000 / len(held)
    bound = {12: 31.3, 16: 37.7}[len(held)]
    assert float((counts - expect).square().sum() / expect) < bound
    check(Transition(*(f[:50] if torch.is_tensor(f) else {k: x[:50] for k, x in f.items()} for f in batch)), world, 1)


def test_several_samples_at_once_are_samples():
    world = World(2, seed=1)
    m = memory(world, n_step=2, updates=7, capacity=40)
    m.add(world.rollout(20))
    torch.manual_seed(0)
    samples = list(m.batches())
    assert len(samples) == 7
    for batch in samples:
        assert batch.action.shape == (4,)
        check(batch, world, 2)
    torch.manual_seed(0)
    rank = torch.randint(40, (28,))
    assert torch.equal(torch.cat([batch.action for batch in samples]), everything(m).action[rank])


def test_large_samples_are_gathered_one_by_one(monkeypatch):
    world = World(1, "image", seed=1)
    m = memory(world, updates=5)
    m.add(world.rollout(8))
    monkeypatch.setattr(replay, "AT_ONCE", 2 * 4 * m.row_bytes)
    calls = []
    gather = m.ring.gather
    m.ring.gather = lambda index, k, device: calls.append(k) or gather(index, k, device)
    for batch in m.batches():
        check(batch, world, 1)
    assert calls == [2, 2, 1]


def test_sampling_follows_the_global_generator():
    world = World(2)
    for kind in (Replay, Prioritized):
        m = memory(world, kind, batch_size=50)
        m.add(world.rollout(8))
        draws = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            draws.append(next(m.batches()).reward)
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("kind", [Replay, Prioritized])
@pytest.mark.parametrize("sort", ["vector", "image"])
def test_samples_go_to_the_learners_device(sort, kind):
    world = World(2, sort)
    m = memory(world, kind, learn_device="meta", n_step=2)
    m.add(world.rollout(5))
    batch = next(m.batches())
    assert {x.device.type for x in tensors(batch)} == {"meta"}


# ---------------------------------------------------------------- saving


def stored(state):
    """Through a checkpoint's file and back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True), buffer.getbuffer().nbytes


def drawn(m, errors=False):
    """All tensors of what it samples; with `errors`, each sample gets its errors."""
    found = []
    for batch in m.batches():
        if errors:
            batch.extras["priority"].copy_(batch.reward.abs())
        found += [x.clone() for x in tensors(batch)]
    return found


@pytest.mark.parametrize("kind", [Replay, Prioritized])
@pytest.mark.parametrize("sort", ["vector", "image", "dict with an image"])
@pytest.mark.parametrize("same_step", [True, False])
@pytest.mark.parametrize("steps", [3, 13])
def test_a_snapshot_restores_everything_that_follows(steps, same_step, sort, kind):
    world = World(2, sort, same_step=same_step)
    m, other = (memory(world, kind, n_step=3, updates=3) for _ in range(2))
    for t in (steps - 1, 1):
        m.add(world.rollout(t))
        drawn(m, kind is Prioritized)
    saved, _ = stored(m.snapshot())
    other.restore(saved)
    for t in (0, 2, 7):
        if t:
            rollout = world.rollout(t)
            for each in (m, other):
                each.add(rollout)
        outcomes = []
        for each in (m, other):
            torch.manual_seed(t)
            outcomes.append(drawn(each, kind is Prioritized))
        assert len(outcomes[0]) > 20
        for x, y in zip(*outcomes, strict=True):
            assert torch.equal(x, y)
    check(everything(other), world, 3)


def test_a_snapshot_is_of_what_is_held_and_stays_so():
    world = World(1, "image")
    m = memory(world, capacity=2000)
    m.add(world.rollout(8))
    state = m.snapshot()
    assert stored(state)[1] < 30 * size_of(IMAGE)  # not of the room that it has
    before = state["ring"]["frames"]["parts"][""].clone()
    m.add(world.rollout(8))
    assert torch.equal(state["ring"]["frames"]["parts"][""], before)


@pytest.mark.parametrize("kind", [Replay, Prioritized])
def test_an_empty_snapshot(kind):
    world = World(1)
    m = memory(world, kind)
    m.restore(stored(memory(world, kind).snapshot())[0])
    m.add(world.rollout(3))
    check(everything(m), world, 1)


@pytest.mark.parametrize("kind", [Replay, Prioritized])
def test_a_replay_that_is_not_saved_starts_empty_and_says_so(kind, caplog):
    world = World(2, ends=0.0)
    m, other = (memory(world, kind, save=False, warmup=6, capacity=100) for _ in range(2))
    m.add(world.rollout(20))
    state, size = stored(m.snapshot())
    assert size < 3000
    with caplog.at_level(logging.INFO, logger="pgrun"):
        other.restore(state)
    (line,) = caplog.messages
    assert "starts empty" in line
    assert other.seen == 40
    other.add(world.rollout(2))
    assert list(other.batches()) == []  # it fills again, as far as the warm-up goes
    other.add(world.rollout(1))
    (batch,) = other.batches()
    assert bool((batch.action % 1000 >= 20).all())
    again, _ = stored(other.snapshot())
    third = memory(world, kind, save=False)
    third.restore(again)
    assert third.forgotten == 46


# ---------------------------------------------------------------- room


def test_a_replay_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(replay, "free_memory", lambda device: 10_000)
    world = World(2)
    assert memory(world).note == "replay: 16 × 37 bytes = 592 bytes"
    with pytest.raises(UserError, match=r"1,000 × 37 bytes = 37 kB, but 10 kB are free on cpu; use .*=200 or less"):
        memory(world, capacity=1000)
    with pytest.raises(UserError, match=r"use memory\.capacity=6 or more"):
        memory(world, capacity=5, n_step=3)


def test_replays_of_several_processes_have_to_fit_together(monkeypatch):
    monkeypatch.setattr(replay, "free_memory", lambda device: 10_000)
    m = memory(World(2), Prioritized, capacity=200, anneal=1000)
    m.share(4, here=1)  # the others are on other machines
    assert m.priorities.anneal == 250
    with pytest.raises(UserError, match=r"in each of 4 processes, but 10 kB are free on cpu; use .*=50 or less"):
        m.share(4, here=4)


def test_the_figure_is_what_the_tensors_take():
    for sort in SPACES:
        for n in (1, 3):
            world = World(1, sort, ends=0.0)
            m = memory(world, Prioritized, n_step=n, capacity=128)
            m.add(world.rollout(3)._replace(extras={}))
            ring = m.ring
            found = [ring.valid, m.priorities.tree.leaves]
            for table in (ring.row_fields, ring.successor_fields, ring.window_fields):
                found += [table.matrix, *table.others.values()]
            if ring.frames is not None:
                found += [ring.frames.next, *(x[:-1] for x in ring.frames.parts.values())]
            assert sum(x.numel() * x.element_size() for x in found) == 128 * m.row_bytes


def test_room_is_taken_as_it_is_filled():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    world = World(1, "image")
    m = memory(world, capacity=500_000)  # 650 MB
    before = resident()
    m.add(world.rollout(20))
    drawn(m)
    assert resident() - before < 40_000_000


def test_columns_of_another_number():
    m = memory(World(2))
    with pytest.raises(UserError, match="collector=rollouts"):
        m.add(World(3).rollout(2))


# ---------------------------------------------------------------- priorities


def test_probabilities_and_weights_are_the_papers():
    """P(i) = p_i^α / Σ p^α and w_i = (N P(i))^−β / max w, of errors written in place, and of new ones: max p."""
    world = World(2, same_step=False, seed=3)
    m = memory(world, Prioritized, batch_size=4000, anneal=100)
    m.add(world.rollout(8))
    errors = {action: 0.1 * i for i, action in enumerate(world.held(8))}
    (batch,) = (
        b
        for b in m.batches()
        if not b.extras["priority"].copy_(torch.tensor([errors[a] for a in b.action.tolist()])).isnan().any()
    )
    list(m.batches())  # written after the first was used
    m.add(world.rollout(2))
    held = world.held(8)
    p = {
        action: errors.get(action, max(1.0, *errors.values())) + (1e-6 if action in errors else 0.0) for action in held
    }
    total = sum(x**0.6 for x in p.values())
    share = {action: x**0.6 / total for action, x in p.items()}
    torch.manual_seed(0)
    (batch,) = m.batches()
    counts = {action: int((batch.action == action).sum()) for action in held}
    assert sum(counts.values()) == 4000
    for action in held:
        assert abs(counts[action] - 4000 * share[action]) <= 2  # stratified
    beta = 0.4 + 0.6 * m.seen / 100
    raw = torch.tensor([(len(held) * share[action]) ** -beta for action in batch.action.tolist()])
    assert_close(batch.extras["weight"], raw / raw.max(), rtol=1e-4, atol=1e-6)
    assert batch.extras["weight"].std() > 0.05


def test_beta_grows_to_one():
    world = World(1, ends=0.0)
    m = memory(world, Prioritized, anneal=20)
    seen = []
    for _ in range(4):
        m.add(world.rollout(10))
        seen.append(m.figures()["beta"])
    assert seen == pytest.approx([0.7, 1.0, 1.0, 1.0])


def test_priorities_that_nobody_wrote_stay():
    world = World(1, ends=0.0)
    m = memory(world, Prioritized, batch_size=64)
    m.add(world.rollout(8))
    before = m.priorities.tree.leaves.clone()
    list(m.batches())
    assert torch.equal(m.priorities.tree.leaves, before)
    for batch in m.batches():
        batch.extras["priority"].fill_(2.0)
    assert_close(m.priorities.tree.leaves[:8], torch.full((8,), (2.0 + 1e-6) ** 0.6, dtype=torch.float64))
    m.add(world.rollout(1))
    assert m.priorities.tree.leaves[0] == m.priorities.tree.leaves[1]  # as large as the largest


def test_a_row_that_is_overwritten_takes_its_priority_along():
    world = World(1, same_step=False, ends=1.0)  # every second row is filler
    m = memory(world, Prioritized)
    for t in (8, 1, 1, 3):
        m.add(world.rollout(t))
        held = set(world.held(8))
        assert int((m.priorities.tree.leaves > 0).sum()) == len(held) == m.ring.size
        assert set(everything(m).action.tolist()) == held
        assert set(torch.cat([b.action for b in m.batches()]).tolist()) <= held
    assert isinstance(m.priorities.tree, SumTree)


def test_an_update_that_diverged_leaves_priorities_that_can_be_drawn_from():
    world = World(1, "vector", same_step=True, seed=0)
    m = memory(world, Prioritized, updates=3)
    m.add(world.rollout(6))
    for batch in m.batches():
        batch.extras["priority"].copy_(torch.tensor([torch.nan, torch.inf, 1.0, 2.0]))
    assert bool(torch.isfinite(m.priorities.tree.total))
    assert bool(torch.isfinite(m.priorities.largest))


def test_an_argument_that_no_constructor_takes() -> None:
    with pytest.raises(TypeError, match=r"Replay\.__init__\(\) got an unexpected keyword argument 'capasity'"):
        Prioritized(alpha=0.6, beta=0.4, anneal=10, epsilon=1e-6, capasity=10)
