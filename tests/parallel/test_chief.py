"""The chief's rounds: which gradients make a step, which are dropped, and that nobody waits for ever."""

import asyncio
import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipes import sampled

from pgrun.nn.normalize import RunningNorm
from pgrun.optim.rules import SGD, Adam
from pgrun.parallel.ray.chief import Chief, ChiefParameters


def held(optimizer=SGD, max_grad_norm=None, learners=1, n=3, **options):
    """A vector of zeros, stepped by gradient descent at rate 1."""
    theta = torch.zeros(n)
    options = {"momentum": 0.0} if optimizer is SGD else options
    made = optimizer([theta], **{"lr": 1.0, "schedule": "constant", **options})
    step = SimpleNamespace(theta=theta, optimizer=made, max_grad_norm=max_grad_norm, learners=learners)
    return copy.deepcopy(ChiefParameters.of(step))  # as it comes to another process: without a gradient


def chief(wait_for, workers, *, names=("policy",), make=held, norms=None):
    """A chief whose workers are all there."""
    made = Chief(
        wait_for=wait_for,
        held={name: make() for name in names},
        norms=norms or {},
        module={},
        steps=0,
        updates=0,
        threads=1,
    )
    made.begun.set()
    for rank in range(workers):
        asyncio.run(made.join(rank))
    return made


def g(*values):
    return np.array(values, dtype=np.float32)


async def settled(*coroutines):
    """Start these; -> their tasks, once nothing moves any more."""
    tasks = [asyncio.ensure_future(c) for c in coroutines]
    for _ in range(20):
        await asyncio.sleep(0)
    return tasks


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def test_the_step_is_along_the_mean_over_all_rows():
    async def play():
        first, second = await settled(
            c.push(0, "policy", 0, g(1, 2, 3), 100.0), c.push(1, "policy", 0, g(5, 6, 7), 300.0)
        )
        assert first.done()
        assert second.done()
        assert first.result().version == 1
        np.testing.assert_allclose(first.result().theta, -(g(1, 2, 3) + 3 * g(5, 6, 7)) / 4)
        np.testing.assert_array_equal(first.result().theta, second.result().theta)

    c = chief(2, 2)
    run(play())


def test_all_are_waited_for_when_d_is_w():
    async def play():
        (first,) = await settled(c.push(0, "policy", 0, g(1, 1, 1), 1.0))
        assert not first.done()
        assert torch.equal(c.held["policy"].theta, torch.zeros(3))
        await c.push(1, "policy", 0, g(1, 1, 1), 1.0)
        assert (await first).version == 1

    c = chief(2, 2)
    run(play())


def test_the_late_one_is_dropped_told_of_and_goes_on_with_what_is_held():
    async def play():
        await settled(*(c.push(rank, "policy", 0, g(rank, 0, 0), 1.0) for rank in (0, 1)))
        late = await c.push(2, "policy", 0, g(100, 100, 100), 1.0)
        assert late.version == 1
        np.testing.assert_allclose(late.theta, g(-0.5, 0, 0))
        tasks = await settled(c.push(2, "policy", 1, g(1, 0, 0), 1.0), c.push(0, "policy", 1, g(1, 0, 0), 1.0))
        assert [task.result().version for task in tasks] == [2, 2]
        status = await c.status()
        assert status["dropped"] == {0: 0, 1: 0, 2: 1}
        assert status["received"] == {0: 2, 1: 1, 2: 2}
        assert status["taken"] == {"policy": 2}

    c = chief(2, 3)
    run(play())


def test_the_mean_is_clipped_and_not_each():
    async def play():
        await settled(c.push(0, "policy", 0, g(3, 0, 0), 1.0), c.push(1, "policy", 0, g(0, 4, 0), 1.0))
        mean = torch.tensor([1.5, 2.0, 0.0])
        assert torch.allclose(c.held["policy"].theta, -0.5 * mean / mean.norm(), atol=1e-5)

    c = chief(2, 2, make=lambda: held(max_grad_norm=0.5))
    run(play())


def test_each_learner_is_clipped_by_itself():
    async def play():
        await c.push(0, "policy", 0, g(3, 4, 0.3, 0.4), 1.0)
        assert torch.allclose(c.held["policy"].theta, -torch.tensor([0.6, 0.8, 0.3, 0.4]), atol=1e-5)

    c = chief(1, 1, make=lambda: held(max_grad_norm=1.0, learners=2, n=4))
    run(play())


def test_optimizers_keep_their_statistics_at_the_chief():
    async def play():
        for version in range(3):
            await c.push(0, "policy", version, g(1, -2, 3), 7.0)
        theta, state = (await c.state())["policy"]
        assert torch.equal(theta, alone.theta)
        assert all(torch.equal(state[key], alone.state[key]) for key in alone.state)

    options = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "decoupled": False}
    c = chief(1, 1, make=lambda: held(Adam, **options))
    theta = torch.zeros(3)
    alone = Adam([theta], lr=1.0, schedule="constant", **options)
    theta.grad = torch.tensor([1.0, -2.0, 3.0])
    for _ in range(3):
        alone.step()
    run(play())


def test_who_waits_elsewhere_is_not_waited_for():
    """Two workers in different substeps, each of which would need the other."""

    async def play():
        policy, value = await settled(c.push(0, "policy", 0, g(1, 1, 1), 1.0), c.push(1, "value", 0, g(2, 2, 2), 1.0))
        assert policy.done()  # worker 1 can't come while it waits
        assert not value.done()  # worker 0 can
        (second,) = await settled(c.push(0, "value", 0, g(4, 4, 4), 1.0))
        assert value.done()
        assert second.done()
        np.testing.assert_allclose(value.result().theta, g(-3, -3, -3))

    c = chief(2, 2, names=("policy", "value"))
    run(play())


def test_the_dead_are_not_waited_for():
    async def play():
        (first,) = await settled(c.push(0, "policy", 0, g(1, 1, 1), 1.0))
        assert not first.done()
        await c.leave(1, "SIGKILL")
        await c.leave(1, "again")
        assert (await first).version == 1
        status = await c.status()
        assert status["alive"] == [0]
        assert status["ended"] == {1: "SIGKILL"}

    c = chief(2, 2)
    run(play())


def test_a_latecomer_is_waited_for_from_when_it_joins():
    async def play():
        await c.push(0, "policy", 0, g(1, 1, 1), 1.0)  # alone, although D is 2
        (joined,) = await settled(c.join(1))
        assert joined.done()
        await c.begin(1, 0.0, {})
        (first,) = await settled(c.push(0, "policy", 1, g(1, 1, 1), 1.0))
        assert not first.done()
        await c.push(1, "policy", 1, g(1, 1, 1), 1.0)
        assert (await first).version == 2

    c = chief(2, 1)
    run(play())


def test_workers_begin_together():
    async def play():
        c.begun.clear()
        (joined,) = await settled(c.join(1))
        assert not joined.done()
        assert not await c.gather([1, 2], 0.01)
        await c.leave(2, "it could not be built")
        assert await c.gather([1, 2], 0.01)
        await c.start()
        _, count = await joined
        assert count == (0, 0, False)

    c = chief(2, 1)
    run(play())


def test_the_end_releases_everyone_and_steps_no_more():
    async def play():
        (waiting,) = await settled(c.push(0, "policy", 0, g(1, 1, 1), 1.0))
        await c.end()
        assert (await waiting).version == 0
        assert (await c.push(1, "policy", 0, g(1, 1, 1), 1.0)).version == 0
        assert torch.equal(c.held["policy"].theta, torch.zeros(3))
        assert (await c.advance(5, 1)).over

    c = chief(2, 2)
    run(play())


def test_steps_and_updates_are_of_all():
    async def play():
        await c.advance(100, 0)
        await c.advance(50, 0)
        assert await c.advance(0, 1) == (150, 1, False)

    c = chief(2, 2)
    run(play())


def test_schedules_follow_the_furthest():
    async def play():
        await c.begin(0, 0.5, {})
        await c.begin(0, 0.4, {})  # a slow worker's
        await c.push(0, "policy", 0, g(1, 1, 1), 1.0)
        assert torch.allclose(c.held["policy"].theta, torch.full((3,), -0.5))

    def falling():
        theta = torch.zeros(3)
        made = SGD([theta], lr=1.0, schedule="linear", momentum=0.0)
        return copy.deepcopy(
            ChiefParameters.of(SimpleNamespace(theta=theta, optimizer=made, max_grad_norm=None, learners=1))
        )

    c = chief(1, 1, make=falling)
    run(play())


def test_statistics_are_of_all_workers_rows():
    async def play():
        for rows in x.split([20, 30, 50]):
            mine = RunningNorm((2,))
            mine.merged = []
            mine.observe(rows, torch.ones(len(rows), dtype=torch.bool))
            _, found = await c.begin(0, 0.0, {"norm": [tuple(t.numpy() for t in batch) for batch in mine.merged]})
        np.testing.assert_allclose(found["norm"]["mean"], x.double().mean(0), rtol=1e-12)
        np.testing.assert_allclose(found["norm"]["var"], x.double().var(0, unbiased=False), rtol=1e-12)
        assert found["norm"]["count"] == 100

    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    c = chief(1, 1, norms={"norm": RunningNorm((2,))})
    run(play())


@pytest.mark.parametrize("seed", range(12))
def test_nobody_waits_for_ever(seed):
    """Workers of any speed that leave out substeps, come late and die, with any D: all that live get to the end."""
    rng = random.Random(seed)
    workers = rng.randint(2, 6)
    wait_for = rng.randint(1, workers)
    ends = []

    async def worker(rank, c):
        await asyncio.sleep(rng.random() * 0.01)
        await c.join(rank)
        speed = rng.choice([0.0, 0.0005, 0.005])
        last = rng.choice([40, 40, 40, 13])  # of its iterations, before it dies
        for iteration in range(40):
            if iteration == last:
                break
            parameters, _ = await c.begin(rank, iteration / 40, {})
            for name, times in (("policy", rng.randint(0, 4)), ("value", rng.randint(0, 3))):
                version = parameters[name].version
                for _ in range(times):
                    await asyncio.sleep(speed * rng.random())
                    version = (await c.push(rank, name, version, g(1, 1, 1), 1.0)).version
        ends.append(rank)
        await c.leave(rank)

    async def play():
        await asyncio.wait_for(asyncio.gather(*(worker(rank, c) for rank in range(workers))), 60)

    c = chief(wait_for, 0, names=("policy", "value"))
    asyncio.run(play())
    assert sorted(ends) == list(range(workers))
    received, dropped = sum(c.received.values()), sum(c.dropped.values())
    taken = sum(held.version for held in c.held.values())
    assert 0 < taken <= received - dropped <= taken * workers


class Clockless(asyncio.SelectorEventLoop):
    """A loop whose time is only what is slept: as if nothing else took any."""

    def __init__(self):
        self.now = 0.0
        super().__init__()

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


def pace(wait_for, slow, *, workers=3, breaks=0.0, seed=0):
    """Steps a second that a chief takes, and the shares dropped by worker; the last may be ten times as slow."""
    rng = random.Random(seed)
    c = chief(wait_for, workers, names=("policy", "value"))
    end = 20.0

    async def worker(rank):
        factor = 10.0 if slow and rank == workers - 1 else 1.0
        while asyncio.get_running_loop().time() < end:
            parameters, _ = await c.begin(rank, 0.0, {})
            await asyncio.sleep(factor * 0.05 * rng.uniform(0.9, 1.1))
            for name in ("policy", "value"):
                version = parameters[name].version
                for _ in range(10):
                    if name == "policy" and rng.random() < breaks:
                        break
                    await asyncio.sleep(factor * 0.002 * rng.uniform(0.5, 1.5))
                    version = (await c.push(rank, name, version, g(1, 1, 1), 1.0)).version
        await c.leave(rank)

    async def play():
        await asyncio.gather(*(worker(rank) for rank in range(workers)))

    with asyncio.Runner(loop_factory=Clockless) as runner:
        runner.run(play())
    shares = {rank: c.dropped[rank] / c.received[rank] for rank in c.received}
    return sum(held.version for held in c.held.values()) / end, shares


@pytest.mark.parametrize(("workers", "breaks"), sampled([(2, 0.0), (3, 0.0), (3, 0.02), (5, 0.02)], [(3, 0.02)]))
def test_a_worker_ten_times_as_slow_holds_up_only_who_waits_for_all(workers, breaks):
    usual, shares = pace(workers, False, workers=workers, breaks=breaks)
    assert not any(shares.values()) or breaks
    waited, _ = pace(workers, True, workers=workers, breaks=breaks)
    assert waited < 0.3 * usual
    kept, shares = pace(workers - 1, True, workers=workers, breaks=breaks)
    assert kept > 0.9 * usual
    assert shares[workers - 1] > 0.9
    assert max(shares[rank] for rank in range(workers - 1)) < 0.1


def test_whoever_comes_third_of_three_alike_is_dropped():
    usual, _ = pace(3, False)
    kept, shares = pace(2, False)
    assert kept > usual
    assert all(0.2 < share < 0.45 for share in shares.values())
