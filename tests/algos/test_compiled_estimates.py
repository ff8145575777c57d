"""Advantages and targets that are computed by compiled code."""

import logging

import pytest
import torch
from running import parts
from torch.testing import assert_close

from pgrun.errors import CantRecord
from pgrun.optim.perhaps import PerhapsRecorded

SMALL = ("env=cartpole", "num_envs=3", "algo.rollout=8", "network.hidden=[8]", "device=cpu")


def estimated(*overrides, n=2):
    made = parts(*SMALL, *overrides)
    found = []
    for _ in range(n):
        rollout = made.collector.collect(made.algorithm)
        found.append(made.algorithm.estimate(rollout))
    return made, found


@pytest.mark.parametrize(
    "more",
    [
        ("algo=ppo",),
        ("algo=ppo", "algo.normalize_reward=true", "network.normalize_obs=true"),
        ("algo=trpo", "algo/advantage=nstep"),
        ("algo=ppo", "algo/advantage=vtrace"),
    ],
    ids=lambda x: " ".join(x),
)
def test_compiled_estimates_are_the_eager_ones(interpreted, more):
    _, one = estimated(*more)
    made, two = estimated(*more, "compile=true")
    assert len(interpreted) == 2  # of acting, and of estimates
    assert made.algorithm.compile_seconds > 0.0
    for a, b in zip(one, two, strict=True):
        assert a.extras.keys() == b.extras.keys()
        for key, x in a.extras.items():
            assert_close(b.extras[key], x, rtol=1e-5, atol=1e-6, msg=key)
        assert_close(b.reward, a.reward)
        assert b.next_obs is b.obs


def test_what_cant_be_recorded_is_computed_as_it_is(monkeypatch, caplog):
    _, want = estimated("algo=ppo")
    monkeypatch.setattr(PerhapsRecorded, "plan", refuse)
    with caplog.at_level(logging.INFO, "pgrun"):
        _, found = estimated("algo=ppo", "compile=true")
    for a, b in zip(want, found, strict=True):
        assert torch.equal(a.extras["psi"], b.extras["psi"])
    assert [line for line in caplog.messages if "isn't compiled" in line] == [
        "compile=true: estimates isn't compiled: a test"
    ]


def refuse(self, args, leaves):
    raise CantRecord("a test")


def test_episodes_of_all_lengths_are_not_compiled():
    assert parts("algo=reinforce", "env=cartpole", "compile=true", "device=cpu").algorithm.compiled_estimates is None
