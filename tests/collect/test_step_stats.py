"""The figures of a run's steps: what they are by hand, over a checkpoint, and at what price."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from pgrun.collect.step_stats import KEPT, StepStats
from pgrun.data.types import Transition

BOX = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)


def rollout(t: int, b: int, seed: int, *, valid: bool = True) -> Transition:
    """A rollout [T, B] of random numbers with Box actions [2] and observations [3]."""
    g = torch.Generator().manual_seed(seed)
    there = torch.ones(t, b, dtype=torch.bool) if valid else torch.rand(t, b, generator=g) < 0.7
    obs = torch.randn(t, b, 3, generator=g) * torch.tensor([1.0, 50.0, 0.1])
    return Transition(
        obs=obs,
        action=2.0 * torch.randn(t, b, 2, generator=g),
        reward=torch.randn(t, b, generator=g),
        discount=torch.ones(t, b),
        next_obs=obs,
        last=torch.zeros(t, b, dtype=torch.bool),
        valid=there,
        extras={},
    )


@pytest.mark.parametrize("valid", [True, False])
def test_figures_are_those_of_the_rows_that_count(valid: bool) -> None:
    stats, parts = StepStats(BOX), [rollout(7, 3, seed, valid=valid) for seed in range(4)]
    for part in parts:
        stats.add(part)
    rows = [part.valid for part in parts]
    reward = torch.cat([part.reward[here] for part, here in zip(parts, rows, strict=True)]).double()
    action = torch.cat([part.action[here] for part, here in zip(parts, rows, strict=True)])
    obs = torch.cat([part.obs[here] for part, here in zip(parts, rows, strict=True)]).double()
    figures = stats.take()
    assert figures["reward/mean"] == pytest.approx(float(reward.mean()))
    assert figures["reward/std"] == pytest.approx(float(reward.std(correction=0)))
    assert figures["reward/largest"] == pytest.approx(float(reward.abs().max()))
    assert figures["action/at_bounds"] == pytest.approx(float((action.abs() >= 0.99).double().mean()))
    assert figures["action/uniform_entropy"] == pytest.approx(2 * math.log(2.0))
    assert figures["obs/largest_rms"] == pytest.approx(float(obs.square().mean(0).sqrt()[1]))
    assert stats.take() == {}


def test_ends_of_episodes() -> None:
    stats = StepStats()
    stats.add_ends([5, 9, 9, 7], np.array([0.0, 0.0, 0.0, 1.0]))
    assert stats.take() == {
        "episode/terminated": 0.75,
        "episode/longest_terminated": 9,
        "episode/terminated_at_longest": 2 / 3,
        "episode/shortest_truncated": 7,
        "episode/longest_truncated": 7,
    }


def test_discrete_actions() -> None:
    stats, part = StepStats(gym.spaces.Discrete(3)), rollout(2, 2, 0)
    stats.add(part._replace(action=torch.tensor([[0, 0], [0, 2]])))
    figures = stats.take()
    assert figures["action/most_taken"] == 0.75
    assert figures["action/uniform_entropy"] == pytest.approx(math.log(3.0))


def test_a_snapshot_goes_on_with_the_same_bits() -> None:
    whole, first, second = StepStats(BOX), StepStats(BOX), StepStats(BOX)
    for seed in range(5):
        whole.add(rollout(4, 2, seed, valid=False))
        (first if seed < 3 else second).add(rollout(4, 2, seed, valid=False))
        if seed == 2:
            first.add_ends([3], np.array([0.0]))
            whole.add_ends([3], np.array([0.0]))
            second.restore(first.snapshot())
    assert second.take() == whole.take()


def test_what_is_never_taken_does_not_grow_for_ever() -> None:
    stats, part = StepStats(BOX), rollout(1_000, 16, 0)
    for _ in range(20):
        stats.add(part)
    assert stats.rows <= KEPT + part.valid.numel()
