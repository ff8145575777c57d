"""The figure of the four goals: what it counts, and that it can be drawn."""

import csv
import math
import sys

import pytest
import soft_q_goals as goals
import torch
from omegaconf import OmegaConf
from pictures import lines, picture, words
from running import compose, new_run

TINY = ("env=multi_goal", "total_steps=80", "num_envs=4", "memory.warmup=20", "memory.batch_size=8", "memory.updates=1")


class Straight:
    """Goes to one goal from each quarter of the plane: the one that the signs of its position point to."""

    def __init__(self, world):
        self.world = world

    def initial_carry(self, num_envs):
        return ()

    def act(self, obs, carry, explore):
        index = (obs[:, 0] > 0).long() + 2 * (obs[:, 1] > 0).long()
        return (
            0.9 * (self.world.goals[index] - obs) / (self.world.goals[index] - obs).norm(dim=-1, keepdim=True),
            (),
            {},
        )


def test_paths_end_where_they_are_said_to():
    from pgrun.config.resolve import resolved
    from pgrun.run.environments import make_env

    env = make_env(resolved(compose("env=multi_goal", f"num_envs={goals.EPISODES}")))
    torch.manual_seed(0)
    paths, ends = goals.episodes(Straight(env.world), env, False)
    assert len(paths) == len(ends) == goals.EPISODES
    for path, end in zip(paths, ends, strict=True):
        near = env.world.distances(path[-1]) < env.world.radius
        assert [name for name, there in zip(goals.GOALS, near.tolist(), strict=True) if there] == (
            [] if end == "none" else [end]
        )
        assert not (env.world.distances(path[:-1]) < env.world.radius).any()
        assert len(path) <= 31


@pytest.mark.slow
def test_the_figure_can_be_drawn(tmp_path, monkeypatch):
    def train(folder, command):
        overrides = (command[1], *TINY, "network=mlp", "network.hidden=[8]", "eval.final_episodes=1")
        new_run(folder, *overrides).execute()
        (folder / ".hydra").mkdir()
        OmegaConf.save(compose(*overrides), folder / ".hydra" / "config.yaml")

        return "trained"

    monkeypatch.setattr(goals, "train", train)
    monkeypatch.setattr(sys, "argv", ["soft_q_goals.py", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)])
    figure = picture(tmp_path / "soft_q_goals.png", goals.main)
    table = list(csv.DictReader((tmp_path / "soft_q_goals.csv").open()))
    assert [row["algo"] for row in table] == [p.algo for p in goals.POLICIES for _ in range(5)]
    for policy, above, below in zip(goals.POLICIES, figure.axes[:3], figure.axes[3:], strict=True):
        shares = {row["goal"]: float(row["share"]) for row in table if row["algo"] == policy.algo}
        assert sum(shares.values()) == pytest.approx(1.0)
        reached = [name for name in goals.GOALS if shares[name]]
        assert above.get_title() == f"{policy.title}: {len(reached)} of the 4 goals"
        assert words(above) == [f"{100 * shares[name]:.0f} %" for name in goals.GOALS]
        paths = lines(above)
        assert len(paths) == goals.SHOWN
        for xs, ys in paths:
            assert math.hypot(xs[0], ys[0]) < 1.0  # from the middle
        ((xs, ys),) = lines(below)  # the actions that the policy takes there
        assert len(xs) == (goals.DRAWS if policy.explore else 1)
        assert max(map(abs, [*xs, *ys])) <= 1.0
