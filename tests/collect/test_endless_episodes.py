"""Whole episodes of an environment without an end are cut, and the run goes on."""

from __future__ import annotations

import breaking  # noqa: F401 (registers the environments)
from eval_cases import Still

from pgrun.collect.episodes import Episodes
from pgrun.envs import make


def corridor(kind: str, num_envs: int, episodes: int) -> Episodes:
    env = make(
        id="Corridor-v0",
        num_envs=num_envs,
        backend="sync",
        autoreset="same_step",
        max_episode_steps=None,
        extra=None,
        kwargs={"kind": kind},
        wrappers=(),
        seed=0,
    )
    return Episodes(env=env, episodes=episodes, device="cpu", seed=0, max_steps=9)


def test_an_episode_without_an_end_is_cut_as_by_a_time_limit(caplog):
    collector = corridor("endless", 2, 2)
    for _ in range(2):
        rollout = collector.collect(Still())
        assert rollout.reward.shape == (9, 2)
        assert rollout.last.sum(0).tolist() == [1, 1]
        assert rollout.last[-1].all()
        assert (rollout.discount == 1).all()
        assert rollout.valid.all()
    assert len([r for r in caplog.records if "collector.max_steps=9" in r.getMessage()]) == 1
    assert collector.stats.take() == [(9.0, 9)] * 4


def test_every_environment_has_its_share_of_cut_episodes():
    collector = corridor("sometimes", 3, 12)
    rollout = collector.collect(Still())
    ends = rollout.last & rollout.valid
    assert ends.sum(0).tolist() == [4, 4, 4]
    lengths = [length for _, length in collector.stats.take()]
    assert sorted(set(lengths)) == [3, 9]
    assert sum(lengths) == int(rollout.valid.sum())
