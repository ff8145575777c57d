"""The comparison with another program over seeds."""

import csv
import json
import sys

import gymnasium as gym
import numpy as np
import pytest
import versus
from omegaconf import OmegaConf
from running import new_run

from pgrun.config.resolve import resolved

FAKE = """
import json, sys
algo, env, _, seed = sys.argv[1:]
open("calls", "a").write(seed)
print("some progress")
print(json.dumps({"eval_return_mean": [10.0, 20.0, 30.0, 40.0][int(seed)], "steps_per_second": 100, "env_steps": 50}))
"""


def test_seeds_are_run_once_and_summarised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "ours.csv").write_text("row,iqm,worst\nppo-cartpole,500.0,499.0\n")
    monkeypatch.setattr(versus, "RESULTS", tmp_path / "versus.csv")
    monkeypatch.setattr(versus, "LEARNING", tmp_path / "ours.csv")
    command = [
        "versus.py",
        "--runs",
        "out",
        "--name",
        "fake",
        "--seeds",
        "4",
        f"{sys.executable} fake.py",
        "ppo/cartpole",
    ]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        assert versus.main() == 0
    assert (tmp_path / "calls").read_text() == "0123"
    (line,) = csv.DictReader((tmp_path / "versus.csv").open())
    assert (line["iqm"], line["worst"], line["pgrun"], line["pgrun_worst"]) == ("25.0", "10.0", "500.0", "499.0")
    assert float(line["low"]) < 25 < float(line["high"])
    with (tmp_path / "versus.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, versus.FIELDS)
        writer.writeheader()
        writer.writerow({**line, "pgrun_same": "24.0"})  # of another day's --ours
    assert versus.main() == 0
    (line,) = csv.DictReader((tmp_path / "versus.csv").open())
    assert line["pgrun_same"] == "24.0"
    command[command.index("4")] = "3"  # seeds: no longer what those figures are of
    assert versus.main() == 0
    (line,) = csv.DictReader((tmp_path / "versus.csv").open())
    assert (line["seeds"], line["pgrun_same"]) == ("3", "")


def saved(folder, algo, env, *overrides):
    """A short run, as a run directory holds it."""
    run = new_run(folder, f"algo={algo}", f"env={env}", *overrides)
    run.execute()
    (folder / ".hydra").mkdir()
    OmegaConf.save(resolved(run.config), folder / ".hydra" / "config.yaml")
    (folder / ".hydra" / "hydra.yaml").write_text(json.dumps({"runtime": {"choices": {"algo": algo, "env": env}}}))
    return run


def test_a_world_of_tensors_has_no_episodes_of_gymnasiums(tmp_path):
    saved(tmp_path, "dpg", "lqr", "network.hidden=[8]", "total_steps=20", "eval.final_episodes=1")
    with pytest.raises(SystemExit, match="--ours needs an environment of Gymnasium's"):
        versus.on_episodes(tmp_path, 77, episodes=1)


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_on_the_episodes_of_a_gymnasium_environment_with_this_seed(env, tmp_path):
    algo = "ddpg" if env == "pendulum" else "dqn"
    small = ("network.hidden=[8]", "memory.capacity=100", "total_steps=20", "eval.final_episodes=1")
    run = saved(tmp_path, algo, env, *small)
    means = []
    world = gym.make(run.config.env.id)
    for episode in range(3):
        obs, _ = world.reset(seed=77) if episode == 0 else world.reset()
        total, over = 0.0, False
        while not over:
            action, *_ = run.parts.algorithm.act(versus.torch.as_tensor(obs)[None], None, explore=False)
            action = action[0].detach().numpy() * 2.0 if env == "pendulum" else int(action[0])  # torque within ±2
            obs, reward, terminated, truncated, _ = world.step(action)
            total, over = total + float(reward), terminated or truncated
        means.append(total)
    assert versus.on_episodes(tmp_path, 77, episodes=3) == pytest.approx(np.mean(means), rel=1e-4)
    if env == "pendulum":  # whose returns are not whole numbers
        assert versus.on_episodes(tmp_path, 78, episodes=3) != pytest.approx(np.mean(means), rel=1e-4)
