"""TensorBoard: a run's row in the HParams tab, its text, and curves of what schedules say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from running import compose, new_run, parts
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from torch.utils.tensorboard import SummaryWriter

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.run.opening import curves, hyperparameters
from pgrun.run.tensorboard import TensorBoard, forget

SHORT = ("num_envs=2", "eval.every=null", "eval.final_episodes=1", "log.every=1", "network.hidden=[8]")


def events(folder: Path) -> EventAccumulator:
    """Read a folder as TensorBoard does."""
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    board.Reload()
    return board


def curve(folder: Path, tag: str) -> list[float]:
    """The values of a curve."""
    return [event.value for event in events(folder).Scalars(tag)]


def row(folder: Path) -> dict[str, Any]:
    """A run's row in the HParams tab."""
    content = events(folder).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def board(folder: Path) -> TensorBoard:
    """A writer into a folder."""
    return TensorBoard(folder, 1, 0, EpisodeStats(1))


def test_a_run_has_one_row_however_many_sessions_it_has(tmp_path: Path) -> None:
    for total, value in ((64, 1.0), (400, 2.0)):
        writer = board(tmp_path)
        writer.describe({"command": "x"}, {"algo": "ppo", "total_steps": total}, total, evaluated=True)
        writer.close({"eval_return_mean": value}, total)
    assert row(tmp_path) == {"algo": "ppo", "total_steps": 400}
    assert curve(tmp_path, "eval_return_mean") == [2.0]
    content = events(tmp_path).PluginTagToContent("hparams")["_hparams_/experiment"]
    tags = [each.name.tag for each in metadata.parse_experiment_plugin_data(content).metric_infos]
    assert "eval_return_mean" in tags
    assert not any(tag.startswith("final/") for tag in tags)


def test_a_killed_run_has_a_row(tmp_path: Path) -> None:
    board(tmp_path).describe({}, {"algo": "ppo"}, 0, evaluated=True)
    assert row(tmp_path) == {"algo": "ppo"}


def test_only_the_row_is_dropped_of_an_earlier_session(tmp_path: Path) -> None:
    writer = board(tmp_path)
    writer.describe({"command": "x"}, {"algo": "ppo"}, 0, evaluated=True)
    for step in range(50):
        writer.scalar("train/return", step, step)
    writer.close({"eval_return_mean": 1.0}, 49)
    (path,) = tmp_path.glob("events.*")
    path.write_bytes(path.read_bytes()[:-3])  # torn by a kill
    forget(tmp_path, None)
    assert curve(tmp_path, "train/return") == list(range(50))
    assert events(tmp_path).Tags()["tensors"] == ["command/text_summary"]
    assert "hparams" not in events(tmp_path)._plugin_to_tag_to_content
    before = path.stat().st_mtime_ns
    forget(tmp_path, None)
    assert path.stat().st_mtime_ns == before


def test_files_without_rows_stay_as_they_are(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("a", 1.0, 0)
    (path,) = tmp_path.glob("events.*")
    before = path.read_bytes()
    forget(tmp_path, None)
    assert path.read_bytes() == before


def test_a_row_shows_what_the_command_line_gave() -> None:
    config = compose("algo=a2c", "optimizer.lr=0.5", "network=mlp", "network.hidden=[8]", "eval.every=null")
    task = ["algo=a2c", "optimizer.lr=0.5", "network=mlp", "network.hidden=[8]", "eval.every=null", "+sweep=ppo"]
    node = OmegaConf.create({"overrides": {"task": task}, "runtime": {"choices": {"algo": "a2c", "network": "mlp"}}})
    assert hyperparameters(config, {"algo": "a2c", "env": "cartpole"}, node) == {
        **{"algo": "a2c", "env": "cartpole", "seed": 0, "optimizer.lr": 0.5, "network": "mlp"},
        **{"network.hidden": "[8]", "eval.every": "null"},
    }


@pytest.mark.parametrize(
    ("line", "tags"),
    [
        ("algo=ppo env=cartpole", {"lr", "clip_range"}),
        ("algo=grpo env=cartpole", {"lr", "clip_range"}),
        ("algo=trpo env=cartpole", {"lr_value", "delta"}),
        ("algo=vpg env=cartpole", {"lr_policy", "lr_value"}),
        ("algo=dqn env=cartpole", {"lr_critic", "epsilon", "fill"}),
        ("algo=dqn env=cartpole algo/exploration=boltzmann", {"lr_critic", "temperature", "fill"}),
        ("algo=dqn env=cartpole memory=prioritized", {"lr_critic", "epsilon", "fill", "beta"}),
        ("algo=td3 env=pendulum", {"lr_actor", "lr_critic", "sigma", "fill"}),
        ("algo=ddpg env=pendulum algo/exploration=ou", {"lr_actor", "lr_critic", "sigma", "fill"}),
        ("algo=ddpg env=pendulum algo/exploration=none", {"lr_actor", "lr_critic", "fill"}),
        ("algo=sac env=pendulum", {"lr_actor", "lr_critic", "lr_temperature", "fill"}),
        ("algo=acer env=cartpole", {"lr", "fill"}),
        ("algo=gps env=sparse_reach", {"lr", "lr_fit", "fill"}),
        ("algo=acktr env=cartpole", {"lr"}),
        pytest.param(
            "algo=a2c env=cartpole optimizer._target_=torch.optim.NAdam ~optimizer.schedule",
            {"lr"},
            marks=pytest.mark.slow,  # torch.optim imports the compiler
        ),
    ],
)
def test_schedules_and_memories_have_curves(line: str, tags: set[str]) -> None:
    words = line.split()
    if "torch" in line:
        words += [f"~optimizer.{key}" for key in ("alpha", "eps", "initial_square")]
    found = curves(parts(*words, "tuned=none"))
    assert {tag.partition("/")[2] for tag in found} == tags
    assert all(tag.startswith(("schedule/", "memory/")) for tag in found)
    assert all(isinstance(value, float) for value in found.values())


def test_curves_follow_the_schedules(tmp_path: Path) -> None:
    line = ("algo=ppo", "env=cartpole", "algo.rollout=32", "algo.minibatch=64", "total_steps=256", "tuned=none")
    new_run(tmp_path, *line, *SHORT, "optimizer.schedule=linear", "algo.clip_schedule=linear").execute()
    rates = curve(tmp_path, "schedule/lr")
    assert rates[0] == pytest.approx(3e-4)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4
    assert curve(tmp_path, "schedule/clip_range") == pytest.approx([x / 3e-4 * 0.2 for x in rates])


def test_curves_of_exploration_and_of_a_replay_that_fills(tmp_path: Path) -> None:
    line = ("algo=dqn", "env=cartpole", "memory.capacity=200", "memory.warmup=64", "total_steps=400", "tuned=none")
    new_run(tmp_path, *line, *SHORT, "algo.exploration.fraction=0.5", "log.every=100").execute()
    explored, full = curve(tmp_path, "schedule/epsilon"), curve(tmp_path, "memory/fill")
    assert explored == sorted(explored, reverse=True)
    assert explored[-1] == pytest.approx(0.05)
    assert full == pytest.approx([0.5, 1.0, 1.0, 1.0], abs=0.06)
