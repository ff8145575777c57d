"""The fingerprints, which prove that a change of the code changed no number, leave out no algorithm."""

from fingerprints import CASES
from recipes import ALGORITHMS


def test_every_algorithm_has_a_fingerprint():
    assert [algo for algo in ALGORITHMS if algo not in CASES] == []
