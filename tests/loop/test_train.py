import time
from types import SimpleNamespace

import pytest
import torch

from pgrun.errors import Diverged
from pgrun.loop.train import Clock, check_finite, learn, mean_of, train


def scalar(x):
    return torch.tensor(float(x))


class World:
    """Algorithm, collector, memory and hook at once; writes down who was called, in which order."""

    def __init__(self, steps=4, batches=2, loss=1.0):
        self.log, self.rows, self.n, self.loss = [], steps, batches, loss
        self.clock = None

    def set_progress(self, progress):
        self.log.append(("progress", progress))

    def collect(self, algorithm):
        assert algorithm is self
        self.log.append("collect")
        valid = torch.ones(3, 2, dtype=torch.bool)
        valid.view(-1)[self.rows :] = False
        return SimpleNamespace(valid=valid)

    def add(self, rollout):
        self.log.append(("add", self.clock.steps))  # the clock has counted what is added

    def batches(self):
        yield from range(self.n)

    def update(self, batch):
        self.log.append(("update", batch))
        return {"loss": scalar(self.loss + batch)}

    def hook(self, clock, metrics):
        self.log.append(("hook", clock.steps, clock.updates, {k: v.item() for k, v in metrics.items()}))

    def run(self, total_steps, *hooks):
        self.clock = Clock(total_steps)
        train(self, self, self, self.clock, hooks)
        return self.clock


def test_the_order_of_one_round():
    world = World()
    world.run(8, world.hook)
    assert world.log == [
        ("progress", 0.0),
        "collect",
        ("add", 4),
        ("update", 0),
        ("update", 1),
        ("hook", 4, 2, {"loss": 1.5}),
        ("progress", 0.5),
        "collect",
        ("add", 8),
        ("update", 0),
        ("update", 1),
        ("hook", 8, 4, {"loss": 1.5}),
    ]


def test_the_clock_counts_only_valid_rows():
    assert World(steps=4).run(9).steps == 12
    assert World(steps=6).run(6).steps == 6
    assert World(steps=1).run(3).updates == 6


def test_hooks_are_called_in_their_order_with_nothing_while_the_memory_fills():
    world, seen = World(batches=0), []
    clock = world.run(4, lambda c, m: seen.append(("first", m)), lambda c, m: seen.append(("second", m)))
    assert seen == [("first", {}), ("second", {})]
    assert clock.updates == 0


def test_stop_ends_the_run_after_the_round():
    world = World()

    def stop(clock, metrics):
        clock.stop = "stop_at"

    clock = world.run(100, stop, world.hook)
    assert (clock.steps, clock.running) == (4, False)
    assert world.log[-1][0] == "hook"  # the hooks after it still had their turn


def test_a_run_that_is_done_does_nothing():
    world = World()
    world.clock = Clock(4)
    world.clock.steps = 4
    train(world, world, world, world.clock, [world.hook])
    assert world.log == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_run_before_the_hooks(bad):
    world = World(loss=bad)
    with pytest.raises(Diverged, match=f"loss is {bad}"):
        world.run(8, world.hook)
    assert all(entry[0] != "hook" for entry in world.log)


def test_check_finite_names_the_metric():
    clock = Clock(1)
    check_finite({}, clock)
    check_finite({"a": scalar(1), "b": scalar(-1e30)}, clock)
    with pytest.raises(Diverged, match=r"^gradient/norm is nan$"):
        check_finite({"loss/policy": scalar(1), "gradient/norm": scalar(float("nan"))}, clock)
    with pytest.raises(Diverged, match=r"^loss/value is inf$"):
        check_finite({"loss/value": scalar(float("inf")), "x": scalar(float("-inf"))}, clock)


def test_finite_metrics_whose_sum_overflows_are_no_divergence():
    check_finite({"a": scalar(3e38), "b": scalar(3e38)}, Clock(1))


def test_mean_of_what_not_every_update_has():
    got = mean_of([{"a": scalar(1)}, {"a": scalar(3), "b": scalar(5)}])
    assert {key: value.item() for key, value in got.items()} == {"a": 2.0, "b": 5.0}


def test_mean_of():
    assert mean_of([]) == {}
    assert mean_of([{"a": scalar(3)}])["a"] == 3.0
    assert {k: v.item() for k, v in mean_of({"a": scalar(x), "b": scalar(-x)} for x in (1, 2, 6)).items()} == {
        "a": 3.0,
        "b": -3.0,
    }


def test_learn_counts_updates_as_they_happen():
    world, clock = World(batches=3), Clock(1)
    assert [clock.updates for _ in learn(world.update, world, clock)] == [0, 1, 2]
    assert clock.updates == 3


def test_clock_progress_stays_below_1():
    clock = Clock(10)
    clock.steps = 5
    assert (clock.progress, clock.running) == (0.5, True)
    clock.steps = 13
    assert (clock.progress, clock.running) == (1.0, False)


@pytest.fixture
def now(monkeypatch):
    """A list of one number, the time in seconds: it stands still unless a test moves it."""
    now = [100.0]
    for name in ("perf_counter", "monotonic", "time"):
        monkeypatch.setattr(time, name, lambda: now[0])
    return now


def test_clock_snapshot_and_laps(now):
    clock, other = Clock(10), Clock(10)
    clock.steps, clock.updates = 7, 3
    now[0] += 4.0
    clock.lap("collect")
    assert clock.seconds == {"collect": 4.0, "learn": 0.0, "hooks": 0.0}
    saved = clock.snapshot()
    now[0] += 2.0
    clock.lap("learn")  # a snapshot is no view
    other.restore(saved)
    assert (other.steps, other.updates, other.seconds) == (7, 3, {"collect": 4.0, "learn": 0.0, "hooks": 0.0})


def test_an_evaluation_is_in_no_part_of_the_loop_at_any_moment(now):
    clock = Clock(10)
    now[0] += 5.0  # five seconds of hooks, then an evaluation of a minute
    with clock.aside("evaluate"):
        now[0] += 60.0
    assert sum(clock.seconds.values()) == 0.0  # as a checkpoint in the middle of the hooks has it
    now[0] += 2.0
    clock.lap("hooks")
    assert (clock.seconds["hooks"], clock.apart["evaluate"]) == (7.0, 60.0)


def test_the_seconds_of_a_run_are_accounted_for(now):
    class Slow(World):
        def collect(self, algorithm):
            now[0] += 1.0
            return super().collect(algorithm)

        def update(self, batch):
            now[0] += 0.25
            return super().update(batch)

        def hook(self, clock, metrics):
            now[0] += 3.0

    world = Slow()
    clock = world.run(8, world.hook)  # two rounds of two updates
    assert clock.seconds == {"collect": 2.0, "learn": 1.0, "hooks": 6.0}
    assert clock.train_seconds == 9.0
