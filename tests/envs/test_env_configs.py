"""Every named environment composes, instantiates, resets and steps; Atari learns from pixels."""

import subprocess
import sys

import pytest
import torch
from running import compose, new_run, parts

from pgrun.collect.random_actions import random_actions
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.data.types import width
from pgrun.run import checkpoint
from pgrun.run.environments import make_env

FILES = {path.stem: path.read_text() for path in (config_dir() / "env").glob("*.yaml")}
AGENTS = sorted(name for name in FILES if "  - pettingzoo" in FILES[name])
NAMES = sorted(set(FILES) - set(AGENTS) - {"gym", "pettingzoo"})  # these two need an id


def test_there_are_environments():
    assert {"cartpole", "pendulum", "halfcheetah", "lunar_lander", "atari"} <= set(NAMES)
    assert {"simple_spread", "simple_tag", "simple_speaker_listener"} <= set(AGENTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_resets_and_steps(name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make_env(resolved(compose(f"env={name}", "num_envs=2")))
    obs, draw = env.reset(0), random_actions(env.action_space)
    assert obs.shape == (2, *env.obs_space.shape)
    for _ in range(5):
        step = env.step(draw(2))
        assert step.obs.shape == obs.shape
        assert step.obs.dtype == obs.dtype
        assert step.reward.shape == step.discount.shape == step.last.shape == step.valid.shape == (2,)
        assert torch.isfinite(step.reward).all()
    again = make_env(resolved(compose(f"env={name}", "num_envs=2")))
    assert torch.equal(again.reset(0), obs)  # the seed decides
    env.close(), again.close()
    assert "WARN" not in capfd.readouterr().err
    assert not list(tmp_path.iterdir())  # MuJoCo would leave MUJOCO_LOG.TXT


@pytest.mark.parametrize("name", AGENTS)
def test_every_environment_of_several_agents_resets_and_steps(name):
    env = make_env(resolved(compose(f"env={name}", "num_envs=2", "agents=joint")))
    first = env.reset(0)
    step = env.step(torch.zeros(2, sum(width(space) for space in env.action_space.values())))
    for agent, space in env.obs_space.items():
        assert first[agent].shape == step.obs[agent].shape == (2, *space.shape)
    assert step.reward.shape == step.discount.shape == (2, len(env.obs_space))
    assert step.last.shape == step.valid.shape == (2,)
    assert torch.isfinite(step.reward).all()
    again = make_env(resolved(compose(f"env={name}", "num_envs=2", "agents=joint"))).reset(0)
    assert all(torch.equal(first[agent], again[agent]) for agent in first)  # the seed decides


def test_mujocos_warnings_go_to_the_log(caplog):
    code = (
        "import logging; logging.basicConfig(level=logging.WARNING)\n"
        "from pgrun.envs.make import log_mujoco_warnings as f; import mujoco; f(); f()\n"
        "tell = mujoco.get_mju_user_warning()\n"
        "[tell(t) for t in ('huge value in QACC', 'huge value in QACC', 'attribute x is deprecated')]"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("QACC") == 1
    assert "deprecated" not in ran.stderr


@pytest.mark.slow
def test_atari_images_and_training(tmp_path, caplog):
    overrides = (
        *("env=atari", "network=cnn", "network.hidden=[32]", "num_envs=2", "total_steps=128", "algo.rollout=32"),
        *(
            "algo.minibatch=32",
            "algo.epochs=1",
            "eval.every=null",
            "eval.final_episodes=1",
            "env.max_episode_steps=160",
        ),
        "device=cpu",
    )
    made = parts(*overrides)
    assert made.collector.env.obs_space.shape == (4, 84, 84)
    rollout = made.collector.collect(made.algorithm)
    assert rollout.obs.dtype == torch.uint8
    assert torch.equal(rollout.obs[1:, :, :3], rollout.obs[:-1, :, 1:])  # each frame moves down the stack
    second = made.collector.collect(made.algorithm)
    assert second.last.any(0).all()  # 160 frames are at most 40 steps
    assert not rollout.last[:31].any()  # and at least 32 after up to 30 idle ones
    made.collector.env.close()
    run = new_run(tmp_path / "a", *overrides, "checkpoint.every=64")
    result = run.execute()
    assert (result["status"], result["env_steps"]) == ("finished", 128)
    state = checkpoint.load(run.checkpoints / "step_64.pt")
    with caplog.at_level("INFO", logger="pgrun"):
        again = new_run(tmp_path / "b", *overrides, resume=state)
        assert again.execute()["env_steps"] == 128
    assert any("ALE" in record.getMessage() and "fresh episodes" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("backend", ["native", "sync", "async", "envpool"])
def test_a_run_on_every_backend(backend, tmp_path):
    run = new_run(
        tmp_path, f"env.backend={backend}", "num_envs=2", "total_steps=64", "algo.rollout=16", "eval.final_episodes=3"
    )
    result = run.execute()
    assert (result["status"], result["eval_episodes"]) == ("finished", 3)
