"""Groups of runs: by everything but the seed, named by what differs."""

from __future__ import annotations

from pathlib import Path

from run_folders import run_folder

from pgrun.after.groups import Group, grouped
from pgrun.after.records import read_runs


def groups_of(folder: Path) -> list[Group]:
    return grouped(read_runs(folder))


def test_seeds_are_one_group_and_only_differing_keys_are_named(tmp_path: Path) -> None:
    for seed in range(3):
        for gamma in (0.9, 0.99):
            config = {"algo.gamma": gamma, "checkpoint.keep": seed, "memory.gamma": gamma}
            overrides = (f"algo.gamma={gamma}",)
            run_folder(tmp_path / f"{gamma}_{seed}", seed=seed, config=config, overrides=overrides, score=gamma)
    assert [(group.method, len(group.records)) for group in groups_of(tmp_path)] == [
        ("ppo algo.gamma=0.99", 3),
        ("ppo algo.gamma=0.9", 3),
    ]


def test_a_group_member_stands_for_its_keys(tmp_path: Path) -> None:
    for name in ("gae", "nstep"):
        config = {"algo.advantage._target_": name, "algo.advantage.n": 3}
        run_folder(tmp_path / name, config=config, choices={"algo/advantage": name})
    assert {group.method for group in groups_of(tmp_path)} == {"ppo algo/advantage=gae", "ppo algo/advantage=nstep"}


def test_algorithms_and_environments_are_not_told_apart_by_their_keys(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", config={"algo.gamma": 0.1})
    run_folder(tmp_path / "b", algo="a2c", config={"algo.gamma": 0.2})
    run_folder(tmp_path / "c", env="acrobot", env_id="Acrobot-v1", config={"algo.gamma": 0.3})
    run_folder(tmp_path / "d", env="cartpole200", config={"algo.gamma": 0.4})
    found = {(group.env, group.method) for group in groups_of(tmp_path)}
    assert found == {
        ("CartPole-v1 (cartpole)", "ppo"),
        ("CartPole-v1 (cartpole)", "a2c"),
        ("Acrobot-v1", "ppo"),
        ("CartPole-v1 (cartpole200)", "ppo"),
    }


def test_only_finished_runs_count_and_diverged_ones_never(tmp_path: Path) -> None:
    run_folder(tmp_path / "0", seed=0, score=10.0)
    run_folder(tmp_path / "1", seed=1, score=1000.0, status="diverged")
    run_folder(tmp_path / "2", seed=2, score=1000.0, status="interrupted")
    (group,) = groups_of(tmp_path)
    assert group.scores == [10.0]
    assert [run.seed for run in group.left_out] == [1, 2]
    (tmp_path / "0" / "result.json").unlink()
    (group,) = groups_of(tmp_path)
    assert group.scores == [1000.0]
    assert [run.seed for run in group.counted] == [2]


def test_another_task_is_named_whatever_the_algorithm(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", config={"env.wrappers": "[]", "env.stack": 1, "env.num_envs": 8})
    run_folder(tmp_path / "b", algo="a2c", config={"env.wrappers": "[mine.Halve]", "env.stack": 1, "env.num_envs": 4})
    assert {group.method for group in groups_of(tmp_path)} == {"ppo", "a2c env.wrappers=[mine.Halve]"}
