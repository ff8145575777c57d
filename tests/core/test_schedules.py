import math

import pytest

from pgrun.core.schedules import SCHEDULES


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
