"""A value of a wrong type or out of its range is told in words that say what would be right."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import pytest

from pgrun.algos.offpolicy_pg import WEIGHTS
from pgrun.config.ranges import Count, Decay, Device, Falling, FileName, Fraction, Positive, Scheduled, Workers
from pgrun.config.signatures import signature
from pgrun.config.types import core, is_mapping, is_plain, may_be_null, names_a_file, problem, words
from pgrun.core.schedules import SCHEDULES
from pgrun.envs.make import BACKENDS
from pgrun.nn.layers import ACTIVATIONS

WRONG = [
    (1.5, Fraction, "is out of range: it must be from 0 to 1"),
    (-1, Fraction, "is out of range: it must be from 0 to 1"),
    ("x", Fraction, "should be a number from 0 to 1"),
    (True, Fraction, "should be a number from 0 to 1"),
    (float("nan"), Fraction, "should be a number from 0 to 1"),
    (float("inf"), Positive, "should be a number above 0"),
    (0, Positive, "is out of range: it must be above 0"),
    (1.0, Decay, "is out of range: it must be at least 0 and below 1"),
    (2.0, Count, "should be a whole number of at least 1"),
    (True, Count, "should be a whole number of at least 1"),
    (0, Count, "is out of range: it must be at least 1"),
    (0, Count | None, "is out of range: it must be at least 1, or null"),
    (None, Count, "should be a whole number of at least 1"),
    (0, Workers, "is out of range: it must be at least 1, or -1 for as many as there are"),
    (1, bool, "should be true or false"),
    (1, str, "should be text"),
    ("linea", Falling, "is not known; choose one of linear, cosine, constant"),
    ("gpu", Device, "is not known; choose auto, cpu, cuda or cuda:N"),
    (64, Sequence[Count], "should be a list, each a whole number of at least 1, as [64]"),
    ([64, 0], Sequence[Count], "holds 0, which is out of range: it must be at least 1"),
    ([0.9], tuple[Decay, Decay], "should be a list of 2, each a number of at least 0 and below 1"),
]
RIGHT = [
    *((0, Fraction), (1, Fraction), (0.5, Fraction), (1, Positive), (None, Count | None), (-2, Workers)),
    *(("cuda:3", Device), ("cosine", Falling), ([8, 8], Sequence[Count]), ([], Sequence[Count]), ("x", Any)),
    *((None, Any), ([0.9, 0.99], tuple[Decay, Decay]), ("x", Literal["x"] | None)),
]


@pytest.mark.parametrize(("value", "type_", "says"), WRONG)
def test_what_is_wrong(value, type_, says):
    assert problem(value, type_) == says


@pytest.mark.parametrize(("value", "type_"), RIGHT)
def test_what_is_right(value, type_):
    assert problem(value, type_) == ""


def test_of_types():
    assert may_be_null(Count | None)
    assert not may_be_null(Count)
    assert core(Count | None) == Count
    assert is_mapping(Mapping[str, Any])
    assert is_plain(Sequence[Count])
    assert not is_plain(Mapping[str, float])
    assert names_a_file(FileName | None)
    assert names_a_file(Sequence[FileName])
    assert not names_a_file(str | None)
    assert words(Count | None) == "a whole number of at least 1, or null"


@pytest.mark.parametrize(
    ("value", "type_", "says"),
    [
        ("linear:1:2", Positive, "should be a number above 0"),  # no schedule is allowed there
        ("fast", Scheduled[Positive], "should be a number above 0, or a schedule as linear:FIRST:LAST"),
        (-1, Scheduled[Positive], "is out of range: it must be above 0"),
        ("linear:1", Scheduled[Positive], "is no schedule: a schedule is linear:FIRST:LAST"),
        ("sine:1:2", Scheduled[Positive], "is no schedule: a schedule is linear:FIRST:LAST"),
        ("linear:1:x", Scheduled[Positive], "is no schedule: 'x' in it is no number"),
        ("linear:1:nan", Scheduled[Positive], "is no schedule: 'nan' in it is no number"),
        ("linear:1:2:0", Scheduled[Positive], "is no schedule: 0 is no share of the run"),
        ("linear:1:-2", Scheduled[Positive], "is -2 at 1 of the run: it must be above 0"),
        ("linear:1:0:0.5", Scheduled[Positive], "is 0 at 0.5 of the run: it must be above 0"),
        ("cosine:0.5:1.5", Scheduled[Fraction], "is 1.5 at 1 of the run: it must be from 0 to 1"),
        ("piecewise:1@0", Scheduled[Positive], "is no schedule: piecewise needs two points"),
        ("piecewise:1@0.5:1@0.2", Scheduled[Positive], "is no schedule: the shares of the run"),
        ("piecewise:1:0.5", Scheduled[Positive], "is no schedule: piecewise needs two points"),
        ("linear:1:0", Scheduled[Positive], ""),  # at the run's end no step is taken
        ("piecewise:1@0:2@0.5:0@1", Scheduled[Positive] | None, ""),
        (None, Scheduled[Positive] | None, ""),
    ],
)
def test_schedules_as_values(value, type_, says):
    assert problem(value, type_).startswith(says)
    assert bool(problem(value, type_)) == bool(says)


def test_choices_are_those_that_there_are_functions_for():
    assert set(get_args(Falling)) == set(SCHEDULES)
    assert set(get_args(signature("pgrun.nn.MLP").settings["activation"].type)) == set(ACTIVATIONS)
    assert set(get_args(signature("pgrun.algos.offpolicy_pg.OffPolicyPG").settings["weights"].type)) == set(WEIGHTS)
    assert set(get_args(signature("pgrun.envs.make").settings["backend"].type)) == set(BACKENDS)
