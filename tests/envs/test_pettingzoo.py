"""Several agents at once: against the environments' own stepping; who leaves early; snapshots; refusals."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from agents import Ladder
from mpe2 import simple_speaker_listener_v4, simple_tag_v3
from running import compose, new_run, parts, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pgrun.collect.random_actions import random_actions
from pgrun.config.resolve import resolved
from pgrun.config.values import validate
from pgrun.envs import make_parallel
from pgrun.envs.pettingzoo import Joint, Rows
from pgrun.errors import UserError
from pgrun.loop.evaluate import evaluate
from pgrun.run.environments import make_env

KWARGS: dict[str, Any] = {"num_envs": 2, "agent_index": False, "max_episode_steps": None, "kwargs": {}, "seed": 0}


def made(id="agents:Ladder", agents="joint", **kwargs):
    return make_parallel(id=id, agents=agents, **{**KWARGS, **kwargs})


def hot(*choices, n=3):
    return torch.cat([torch.eye(n)[c] for c in choices])


@pytest.mark.parametrize("module", [simple_tag_v3, simple_speaker_listener_v4])
def test_it_steps_as_the_environment_does(module):
    env = made(module.__name__, num_envs=3, kwargs={"max_cycles": 7})
    obs, draw = env.reset(5), random_actions(env.action_space)
    others = [module.parallel_env(max_cycles=7) for _ in range(3)]
    shown = [other.reset(seed=seed)[0] for other, seed in zip(others, env.seeds, strict=True)]
    assert len(set(env.seeds)) == 3
    sizes = [int(space.n) for space in env.action_space.values()]
    for t in range(20):
        for i in range(3):
            for agent in env.agents:
                assert np.array_equal(obs[agent][i].numpy(), shown[i][agent])
        action = draw(3)
        step = env.step(action)
        for i, other in enumerate(others):
            choices = [part.argmax().item() for part in action[i].split(sizes)]
            seen, reward, terminated, truncated, _ = other.step(dict(zip(env.agents, choices, strict=True)))
            assert not any(terminated.values())
            for n, agent in enumerate(env.agents):
                assert np.array_equal(step.next_obs[agent][i].numpy(), seen[agent])
                assert step.reward[i, n] == np.float32(reward[agent])
                assert step.streams[f"return_{agent}"][i] == step.reward[i, n]
            assert bool(step.last[i]) == all(truncated.values()) == (t % 7 == 6)
            shown[i] = other.reset(seed=env.seeds[i])[0] if not other.agents else seen
        torch.testing.assert_close(step.streams["return"], step.reward.mean(-1))
        assert torch.equal(step.discount, torch.ones(3, len(sizes)))  # a time limit is no end of the world
        assert bool(step.valid.all())
        obs = step.obs


def test_who_dies_early_sees_and_gets_nothing_more():
    env = made()
    env.reset(0)
    action = torch.stack([hot(1, 2), hot(2, 0)])
    steps = [env.step(action) for _ in range(5)]
    assert [s.last.tolist() for s in steps] == [[False] * 2] * 3 + [[True] * 2, [False] * 2]
    assert [s.discount[0].tolist() for s in steps] == [[1, 1], [0, 1], [0, 1], [0, 0], [1, 1]]
    assert [s.reward[0].tolist() for s in steps[1:4]] == [[1, 4], [0, 4], [0, 4]]
    assert [s.reward[1].tolist() for s in steps[1:4]] == [[2, 0], [0, 0], [0, 0]]
    assert [s.next_obs["two"][0].tolist() for s in steps] == [[1, 1], [1, 2], [1, 3], [0, 0], [1, 1]]
    assert [s.next_obs["one"][0].tolist() for s in steps[:4]] == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert [s.obs["two"][0].tolist() for s in steps] == [[1, 1], [1, 2], [1, 3], [1, 0], [1, 1]]
    assert all(s.obs is s.next_obs for s in (*steps[:3], steps[4]))


def test_a_time_limit_of_one_agent_bootstraps():
    env = made(kwargs={"truncates": True})
    env.reset(0)
    steps = [env.step(hot(1, 1).expand(2, -1)) for _ in range(4)]
    assert [s.discount[0].tolist() for s in steps] == [[1, 1], [1, 1], [0, 1], [0, 1]]
    assert steps[1].next_obs["one"][0].tolist() == [0, 2]  # the true successor
    assert steps[1].obs["one"][0].tolist() == [0, 0]
    assert steps[3].next_obs["two"][0].tolist() == [1, 4]
    assert steps[3].last.tolist() == [True, True]


def test_rows_of_agents():
    env = made(agents="rows")
    assert (env.num_envs, env.obs_space.shape, env.action_space) == (4, (2,), gym.spaces.Discrete(3))
    obs = env.reset(0)
    assert obs.tolist() == [[0, 0], [1, 0]] * 2
    action = torch.tensor([1, 2, 2, 0])
    steps = [env.step(action) for _ in range(5)]
    assert [s.valid.tolist() for s in steps] == [[True] * 4] * 2 + [[False, True] * 2] * 2 + [[True] * 4]
    assert [s.last.tolist() for s in steps[:4]] == [[False] * 4, [True, False] * 2, [False] * 4, [False, True] * 2]
    assert [s.discount.tolist() for s in steps[:2]] == [[1] * 4, [0, 1, 0, 1]]
    assert steps[3].discount[1] == 0
    assert [s.reward.tolist() for s in steps[1:3]] == [[1, 4, 2, 0], [0, 4, 0, 0]]
    assert steps[1].next_obs[0].tolist() == [0, 2]
    assert steps[3].next_obs[1].tolist() == [1, 4]
    assert steps[3].obs.tolist() == [[0, 0], [1, 0]] * 2


def test_rows_of_agents_that_know_their_number():
    env = made(agents="rows", agent_index=True)
    assert env.obs_space.shape == (4,)
    assert env.reset(0).tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]] * 2
    assert env.step(torch.zeros(4, dtype=torch.long)).next_obs.tolist() == [[0, 1, 1, 0], [1, 1, 0, 1]] * 2


def test_actions_of_every_kind_arrive():
    env = made("agents:Mixed", num_envs=1)
    assert list(env.action_space) == ["one", "three", "two"]  # as Dict spaces have them
    assert isinstance(env.action_space["two"], gym.spaces.Box)
    env.reset(0)
    env.step(torch.cat([hot(1), hot(1, n=2), hot(3, n=4), torch.tensor([0.0, 1.0])]).unsqueeze(0))
    (took,) = env.copies[0].took
    assert took["one"] == 3  # it starts at 2
    assert took["three"].tolist() == [1, 3]
    assert took["two"].tolist() == [0.5, 5.0]
    drawn = random_actions(env.action_space)(500)
    assert drawn.shape == (500, 3 + 6 + 2)
    assert torch.equal(drawn[:, :3].sum(-1), torch.ones(500))
    assert float(drawn[:, 9:].abs().max()) <= 1


def test_the_limit_is_the_environments_own_or_cuts_it():
    assert made("mpe2.simple_v3", max_episode_steps=40).copies[0].unwrapped.max_cycles == 40
    env = made(max_episode_steps=3)  # Ladder knows no max_cycles
    env.reset(0)
    steps = [env.step(hot(0, 0).expand(2, -1)) for _ in range(3)]
    assert [bool(s.last.all()) for s in steps] == [False, False, True]
    assert steps[2].discount[0].tolist() == [0, 1]
    assert steps[2].next_obs["two"][0].tolist() == [1, 3]


@pytest.mark.parametrize(("id", "agents"), [("mpe2.simple_tag_v3", "joint"), ("agents:Ladder", "rows")])
def test_a_snapshot_goes_on_as_it_would_have(id, agents):
    env, other = (made(id, agents=agents, seed=seed) for seed in (0, 1))
    env.reset(3)
    other.reset(4)
    draw = random_actions(env.action_space)
    actions = [draw(env.num_envs) for _ in range(70)]
    for action in actions[:33]:
        env.step(action)
    state = env.snapshot()
    want = [env.step(action) for action in actions[33:]]
    assert any(bool(s.last.any()) for s in want)
    other.restore(state)
    got = [other.step(action) for action in actions[33:]]
    for a, b in zip(want, got, strict=True):
        assert same(a._asdict(), b._asdict())


def test_seeds_decide_episodes():
    def rewards(seed):
        env = made()
        env.reset(seed)
        return torch.stack([env.step(hot(0, 0).expand(2, -1)).reward for _ in range(9)])

    first = rewards(1)
    assert torch.equal(first, rewards(1))
    assert not torch.equal(first, rewards(2))
    assert len(set(first[[0, 4, 8]].flatten().tolist())) == 6  # luck by copy and episode, the same for both agents


# ---- in whole runs


def test_evaluation_is_of_the_mean_over_agents_and_of_each():
    run = parts("algo=maddpg", "env=pettingzoo", "env.id=agents:Ladder")

    def likeliest(obs, carry, explore):
        return hot(1, 2).expand(len(obs["one"]), -1), carry, {}

    run.algorithm.act = likeliest
    result = evaluate(run.algorithm, run.make_eval_env(4), 4, seed=0)
    one, two = result.streams["return_one"], result.streams["return_two"]
    assert set(result.streams) == {"return_one", "return_two"}
    np.testing.assert_allclose(np.array(two) - np.array(one), 4 * 4 - 2, atol=1e-5)  # both have the same luck
    np.testing.assert_allclose(result.returns, (np.array(one) + two) / 2, atol=1e-6)
    assert result.lengths == [4] * 4
    assert len(set(one)) == 4


def test_the_collector_counts_steps_of_all_agents_as_one():
    run = parts("algo=maddpg", "env=pettingzoo", "env.id=agents:Ladder", "num_envs=2", "algo.rollout=9")
    rollout = run.collector.collect(run.algorithm)
    assert rollout.reward.shape == rollout.discount.shape == (9, 2, 2)
    assert int(rollout.valid.sum()) == 18
    episodes = run.collector.stats.take()
    assert [length for _, length in episodes] == [4] * 4
    each = run.collector.stats.take_streams()
    np.testing.assert_allclose(
        [r for r, _ in episodes], np.mean([each["return_one"], each["return_two"]], 0), rtol=1e-6
    )


def test_each_agent_has_its_curves_and_figures(tmp_path):
    overrides = ("algo=maddpg", "env=pettingzoo", "env.id=agents:Ladder", "num_envs=2", "algo.rollout=4")
    result = new_run(tmp_path, *overrides, "total_steps=80", "log.every=16", "eval.every=40").execute()
    assert {"eval_return_one_mean", "eval_return_two_mean"} <= result.keys()
    both = (result["eval_return_one_mean"] + result["eval_return_two_mean"]) / 2
    assert result["eval_return_mean"] == pytest.approx(both, abs=1e-5)
    board = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    board.Reload()
    for kind in ("train", "eval"):
        mean, one, two = (
            [event.value for event in board.Scalars(f"{kind}/{name}")]
            for name in ("return", "return_one", "return_two")
        )
        assert len(mean) >= 2
        np.testing.assert_allclose(mean, (np.array(one) + two) / 2, atol=1e-5)


@pytest.mark.slow
def test_the_commands(tmp_path):
    def shell(*args):
        command = [sys.executable, "-m", "pgrun", *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ("total_steps=400", "memory.warmup=100", "memory.batch_size=16", "eval.final_episodes=2")
    shell("algo=maddpg", "env=simple_tag", *small, "hydra.run.dir=run")
    assert "return_adversary_2" in shell("eval", "run", "--episodes", "2")
    shell("resume", "run", "total_steps=800")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["env_steps"] == 800


# ---- what can't be had


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"id": "mpe2.simple_sprea_v3"}, "env.id=mpe2.simple_sprea_v3: there is no module .*such as"),
        ({"id": "nowhere_to_be_found"}, "there is no module nowhere_to_be_found; name a module with a parallel_env"),
        ({"id": "math"}, "math has no parallel_env; name a module"),
        ({"id": "agents:Escalator"}, "agents has no Escalator"),
        ({"kwargs": {"wings": 2}}, "env.kwargs: agents:Ladder takes no such argument .*wings"),
        ({"id": "agents:Nobody"}, "possible_agents"),
        ({"id": "agents:Pictures"}, "sees a Dict: use agents=rows"),
        ({"id": "agents:Pictures", "agents": "rows", "agent_index": True}, "env.agent_index=true appends to vec"),
        (
            {"id": "mpe2.simple_speaker_listener_v4", "agents": "rows"},
            "observations of .* differ: listener_0 has Box.11,., speaker_0 has Box.3,.; use algo=maddpg or iddpg",
        ),
        ({"id": "agents:Mixed", "agents": "rows"}, "actions of .* differ: one has Discrete"),
        ({"agents": "both"}, "agents=both is not known; choose joint or rows"),
    ],
)
def test_refusals(given, words):
    with pytest.raises(UserError, match=words) as error:
        made(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("package", ["mpe2", "pettingzoo"])
def test_a_missing_package_is_named(package, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"needs a package that is not installed: pip install 'pgrun\[pettingzoo\]'"):
        made("mpe2.simple_v3" if package == "mpe2" else "pettingzoo.butterfly.pistonball_v6")


def test_a_dict_can_be_a_row():
    env = made("agents:Pictures", agents="rows")
    assert env.reset(0)["x"].tolist() == [[0, 0], [1, 0]] * 2


def test_the_form_is_checked():
    config = compose("algo=maddpg", "env=simple_spread", "agents=row")
    with pytest.raises(UserError, match="agents=row is not known; choose one of rows, joint"):
        validate(config)


MPE = ("simple", "simple_spread", "simple_tag", "simple_speaker_listener", "simple_adversary", "simple_reference")
MORE = ("simple_push", "simple_world_comm", "simple_crypto")


@pytest.mark.parametrize("name", [*MPE, *MORE])
def test_every_configured_one_steps(name):
    env = make_env(resolved(compose("algo=maddpg", f"env={name}", "num_envs=1")))
    env.reset(0)
    draw = random_actions(env.action_space)
    lasts = [bool(env.step(draw(1)).last) for _ in range(25)]
    assert lasts == [False] * 24 + [True]
    env.close()


@pytest.mark.parametrize("kind", [Joint, functools.partial(Rows, agent_index=False)], ids=["joint", "rows"])
def test_an_argument_that_no_constructor_takes(kind: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"Parallel\.__init__\(\) got an unexpected keyword argument 'limits'"):
        kind(Ladder, name="ladder", num_envs=1, limit=None, seed=0, limits=3)
