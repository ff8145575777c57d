"""Numbers of the steps to come: the right ones, and few of them for nothing."""

import torch

from pgrun.optim.upcoming import MOST, Upcoming


class Made:
    def __init__(self):
        self.rate, self.calls = 1.0, []

    def __call__(self, first, n):
        self.calls.append((first, n))
        return (torch.arange(first, first + n) * self.rate,)


def test_they_are_those_of_the_step_and_what_decides_it():
    made = Made()
    upcoming = Upcoming(made)
    for step, rate in [(1, 1.0), (2, 1.0), (3, 1.0), (4, 0.5), (5, 0.5), (6, 0.5), (2, 0.5), (3, 0.5), (9, 0.5)]:
        made.rate = rate
        (found,) = upcoming(step, [rate])
        assert float(found) == step * rate


def test_more_are_made_at_once_the_longer_nothing_changes():
    made = Made()
    upcoming = Upcoming(made)
    for step in range(1, 200):
        upcoming(step, [1.0])
    assert [n for _, n in made.calls] == [1, 2, 4, 8, 16, 32, MOST, MOST, MOST]


def test_one_is_made_where_all_steps_differ():
    made = Made()
    upcoming = Upcoming(made)
    for step in range(1, 10):
        upcoming(step, [1 / step])
    assert [n for _, n in made.calls] == [1] * 9
