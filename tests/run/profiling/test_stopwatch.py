"""Times of parts within parts."""

import copy
import time

import pytest

from pgrun.run.profiling.stopwatch import Stopwatch, replace_methods


def test_a_part_within_another_is_counted_under_it():
    watch = Stopwatch()
    inner = watch.timed(lambda: time.sleep(0.01), "inner")

    def outer():
        inner()
        inner()
        time.sleep(0.01)

    watch.timed(outer, "outer")()
    inner()
    assert watch.calls == {("outer",): 1, ("outer", "inner"): 2, ("inner",): 1}
    assert watch.seconds["outer", "inner"] >= 0.02
    assert watch.seconds[("outer",)] >= watch.seconds["outer", "inner"] + 0.01
    watch.reset()
    assert not watch.calls


def test_a_part_that_fails_is_ended():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.timed(lambda: 1 / 0, "part")()
    assert watch.path == ()
    assert watch.calls["part",] == 1


def test_what_is_done_after_a_call_is_of_its_time():
    watch = Stopwatch()
    watch.timed(lambda: None, "part", after=lambda: time.sleep(0.01))()
    assert watch.seconds["part",] >= 0.01


def test_of_a_generator_the_making_of_items_is_timed_and_not_their_use():
    watch = Stopwatch()

    def items(n):
        for i in range(n):
            time.sleep(0.01)
            yield i

    found = []
    for item in watch.timed_items(items, "making")(3):
        found.append(item)
        time.sleep(0.02)
    assert found == [0, 1, 2]
    assert 0.03 <= watch.seconds["making",] < 0.09  # the use takes 0.06 more


class Counter:
    def __init__(self):
        self.n = 0

    def add(self, k):
        self.n += k
        return self.n


def test_a_copy_calls_its_own_method():
    watch, counter, other = Stopwatch(), Counter(), Counter()
    replace_methods(counter, add=lambda method: watch.timed(method, "add"))
    twin = copy.deepcopy(counter)
    assert (counter.add(1), twin.add(5), twin.add(5)) == (1, 5, 10)
    assert counter.n == 1
    assert watch.calls["add",] == 3
    other.add(1)  # another object is as it was
    assert watch.calls["add",] == 3
    assert type(counter).__name__ == "Counter"
    assert isinstance(counter, Counter)
