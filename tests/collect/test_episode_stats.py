"""Returns and lengths of episodes, counted at once, later, or in great number."""

import numpy as np
import pytest
import torch
from running import same

from pgrun.collect import episode_stats
from pgrun.collect.acting import finish
from pgrun.collect.episode_stats import EpisodeStats, per_episode
from pgrun.data.types import Transition


def rollout(seed, t=20, b=6):
    """A rollout [T, B] in which a quarter of the steps end an episode."""
    g = torch.Generator().manual_seed(seed)
    last, one = torch.rand(t, b, generator=g) < 0.25, torch.ones(t, b)
    obs = torch.randn(t, b, 2, generator=g)
    reward = torch.randn(t, b, generator=g)
    return Transition(obs, last.long(), reward, (~last).float(), obs, last, one.bool(), {})


def counted(later):
    stats = EpisodeStats(6)
    for seed in range(5):
        part = rollout(seed)
        finish(part, stats, {"return_true": 2.0 * part.reward}, part.last, later=later)
        assert bool(stats.waiting) == later
    return stats


def test_what_waits_is_counted_when_it_is_read():
    assert same(counted(True).snapshot(), counted(False).snapshot())
    for read in (lambda s: list(s.recent), lambda s: s.count, lambda s: s.take(), lambda s: s.take_streams()):
        late, soon = counted(True), counted(False)
        assert read(late) == read(soon)
        assert not late.waiting
    assert counted(True).steps.take() == counted(False).steps.take()


def test_not_too_much_waits(monkeypatch):
    monkeypatch.setattr(episode_stats, "WAITING", 250)
    stats = EpisodeStats(6)
    for seed in range(5):
        stats.defer(rollout(seed), rollout(seed).last, {})
    assert len(stats.waiting) == 2  # of 120 steps each
    assert stats.count == counted(False).count


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_many_episodes_at_once_are_those_one_by_one(monkeypatch, dtype):
    rng = np.random.default_rng(1)
    x, opened = rng.integers(0, 9, (50, 8)).astype(dtype), rng.integers(0, 9, 8).astype(dtype)
    ends = (rng.random((50, 8)) < 0.4).nonzero()
    assert len(ends[0]) > episode_stats.MANY
    sums, left = per_episode(opened, x, ends)
    monkeypatch.setattr(episode_stats, "MANY", 10**9)
    want, rest = per_episode(opened, x, ends)
    assert sums == want
    assert {type(n) for n in sums} == {type(n) for n in want}
    assert left.dtype == rest.dtype
    assert left.tolist() == rest.tolist()
