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


def test_there_are_no_others():
    assert set(SCHEDULES) == {"constant", "linear", "cosine"}
