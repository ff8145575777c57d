import math

import pytest

from pgrun.core.schedules import SCHEDULES, Schedule


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("constant", {0.0: 1.0, 0.5: 1.0, 1.0: 1.0, 1.5: 1.0}),
        ("linear", {0.0: 1.0, 0.25: 0.75, 1.0: 0.0, 1.5: 0.0}),
        ("cosine", {0.0: 1.0, 0.25: (2.0 + math.sqrt(2.0)) / 4.0, 0.5: 0.5, 1.0: 0.0, 1.5: 0.0}),
    ],
)
def test_schedule(name, at):
    for progress, factor in at.items():
        assert SCHEDULES[name](progress) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_takes_a_share_off_and_gives_none_back(name):
    """Whatever the run's progress, also past its end: a factor in [0, 1] that never rises, and 1 at the start."""
    factors = [SCHEDULES[name](i / 50) for i in range(101)]
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == factors[50] >= 0.0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (0.3, {0.0: 0.3, 0.7: 0.3, 1.0: 0.3}),
        ("linear:0.4:0.2", {0.0: 0.4, 0.25: 0.35, 1.0: 0.2}),
        ("linear:0:1:0.5", {0.0: 0.0, 0.25: 0.5, 0.5: 1.0, 0.9: 1.0}),  # rises, over the first half
        ("cosine:1:0", {0.0: 1.0, 0.5: 0.5, 0.25: (2.0 + math.sqrt(2.0)) / 4.0, 1.0: 0.0}),
        ("cosine:3:1:0.5", {0.0: 3.0, 0.25: 2.0, 0.5: 1.0, 1.0: 1.0}),
        ("piecewise:1@0:0.5@0.5:0@1", {0.0: 1.0, 0.25: 0.75, 0.5: 0.5, 0.75: 0.25, 1.0: 0.0}),
        ("piecewise:1@0.2:2@0.4", {0.0: 1.0, 0.2: 1.0, 0.3: 1.5, 0.4: 2.0, 1.0: 2.0}),  # level before and after
        ("piecewise:1@0:1@0.5:3@0.5:3@1", {0.0: 1.0, 0.49: 1.0, 0.5: 3.0, 1.0: 3.0}),  # a jump
        ("linear:1e-3:-1E-3", {0.0: 1e-3, 0.5: 0.0, 1.0: -1e-3}),
    ],
)
def test_the_text_of_a_schedule(text, at):
    schedule = Schedule(text)
    for progress, value in at.items():
        assert schedule(progress) == pytest.approx(value, abs=1e-12)
    assert schedule.constant is not isinstance(text, str)


def test_a_text_that_falls_to_0_is_the_factor_bit_for_bit():
    for name in ("linear", "cosine"):
        for progress in (i / 97 for i in range(98)):
            assert Schedule(f"{name}:0.2:0")(progress) == Schedule(0.2, name)(progress)


def test_a_text_says_all_and_a_number_falls():
    assert Schedule("linear:1:0.5", "cosine")(0.5) == 0.75
    assert Schedule(1.0, "linear")(0.25) == 0.75


def test_an_unknown_fall_is_refused():
    with pytest.raises(ValueError, match=r"algo\.eta_schedule=sine is not known"):
        Schedule(1.0, "sine", setting="algo.eta_schedule")
