"""Frames of a run's policy: they show the episodes of its evaluation, and each picture is of its own step."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from shell import pgrun_inside

import pgrun
from pgrun.after.evaluation import evaluate_checkpoint
from pgrun.after.playing import Frame, play_checkpoint
from pgrun.config.paths import config_dir
from pgrun.errors import EnvFailed, UserError

COUNTING = ("env=gym", "env.id=counting:Counting-v0")
SHORT = ("algo=reinforce", "network.hidden=[8]", "eval.every=null", "eval.final_episodes=0", "threads=1")


def train(folder: Path, *overrides: str) -> Path:
    """A run of some steps."""
    said = pgrun_inside(*SHORT, "total_steps=64", "num_envs=2", *overrides, "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err
    return folder / "run"


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("counting"), *COUNTING)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("cartpole"), "env=cartpole")


def yaml_of(env: str) -> Any:
    """The config of a shipped environment."""
    return OmegaConf.to_container(OmegaConf.load(config_dir() / "env" / f"{env}.yaml"))


def episodes_of(frames: Any) -> list[list[Frame]]:
    """The frames by episode."""
    parts: dict[int, list[Frame]] = {}
    for frame in frames:
        parts.setdefault(frame.episode, []).append(frame)
    return [parts[key] for key in sorted(parts)]


def evaluated(folder: Path, file: Path, **how: Any) -> list[float]:
    """The returns of an evaluation's episodes."""
    how = {"seed": None, "stochastic": False, **how}
    evaluate_checkpoint(folder, "latest", record=file, **how)
    data = np.load(file)
    return np.add.reduceat(data["rewards"].astype(float), np.flatnonzero(data["episode_starts"])).tolist()


@pytest.mark.parametrize(
    "how",
    [pytest.param({"episodes": 5}, marks=pytest.mark.slow), {"episodes": 3, "seed": 7, "stochastic": True}],
)
def test_the_episodes_are_those_of_an_evaluation(cartpole: Path, tmp_path: Path, how: dict[str, Any]) -> None:
    wide = {**how, "overrides": ["eval.num_envs=2"]}  # more episodes than copies
    played = episodes_of(play_checkpoint(cartpole, **wide))
    assert len(played) == how["episodes"]
    for episode in played:
        assert [frame.step for frame in episode] == list(range(len(episode)))
        assert [frame.ended for frame in episode] == [False] * (len(episode) - 1) + [True]
        assert all(frame.total == frame.step for frame in episode)
        assert episode[0].image.shape == (400, 600, 3)
        assert (episode[0].fps, episode[0].episodes) == (50.0, how["episodes"])
    returns = evaluated(cartpole, tmp_path / "e.npz", **wide)
    assert sorted(episode[-1].total for episode in played) == sorted(returns)


@pytest.mark.parametrize("autoreset", ["same_step", pytest.param("next_step", marks=pytest.mark.slow)])
def test_each_picture_is_of_its_own_step(counting: Path, tmp_path: Path, autoreset: str) -> None:
    how: dict[str, Any] = {"episodes": 7, "overrides": [f"eval.env.autoreset={autoreset}"]}
    played = episodes_of(play_checkpoint(counting, **how))
    for episode in played:
        assert 4 <= len(episode) <= 7
        for frame in episode:
            assert (frame.image == frame.step).all()
            assert frame.total == frame.step * (frame.step + 1) / 2
            assert frame.fps == 25.0
    assert sorted(e[-1].total for e in played) == sorted(evaluated(counting, tmp_path / "e.npz", **how))


def test_a_cut_episode(counting: Path) -> None:
    played = episodes_of(play_checkpoint(counting, episodes=5, overrides=["eval.max_steps=3"]))
    assert [[int(f.image.max()) for f in episode] for episode in played][:2] == [[0, 1, 2, 3]] * 2
    assert all(len(episode) == 4 and episode[-1].ended for episode in played)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        pytest.param(["eval.env.autoreset=next_step"], marks=pytest.mark.slow),
        pytest.param(["eval.num_envs=1"], marks=pytest.mark.slow),
    ],
)
def test_best_median_and_worst(counting: Path, overrides: list[str]) -> None:
    how: dict[str, Any] = {"episodes": 9, "overrides": overrides}
    every = [tuple(f.total for f in e) for e in episodes_of(play_checkpoint(counting, **how))]
    returns = sorted(e[-1] for e in every)
    assert len(set(returns)) > 2
    for pick, wanted in (("best", returns[-1]), ("median", returns[4]), ("worst", returns[0])):
        (chosen,) = episodes_of(play_checkpoint(counting, pick=pick, **how))  # type: ignore[arg-type]
        assert chosen[-1].total == wanted
        assert tuple(f.total for f in chosen) == every[chosen[0].episode - 1]  # its number is its own, too
        assert [int(f.image.max()) for f in chosen] == [f.step for f in chosen]


@pytest.mark.slow
def test_the_callers_random_numbers_and_gradients_are_its_own(cartpole: Path) -> None:
    how: dict[str, Any] = {"episodes": 1, "stochastic": True, "seed": 3}
    alone = [frame.total for frame in play_checkpoint(cartpole, **how)]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = [(float(torch.rand(())), np.random.rand(), random.random()) for _ in alone]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    drawn, totals = [], []
    for frame in play_checkpoint(cartpole, **how):
        assert torch.is_grad_enabled()
        drawn.append((float(torch.rand(())), np.random.rand(), random.random()))
        totals.append(frame.total)
    assert totals == alone
    assert drawn == expected


@pytest.mark.slow
def test_a_world_on_tensors(tmp_path: Path) -> None:
    config = {**yaml_of("sparse_reach"), "world": {"_target_": "counting.CountingWorld"}}
    (tmp_path / "conf" / "env").mkdir(parents=True)
    (tmp_path / "conf" / "env" / "count.yaml").write_text(json.dumps(config))
    run = train(tmp_path, "--config-dir", "conf", "env=count")
    played = episodes_of(play_checkpoint(run, episodes=3))
    assert [[int(f.image.max()) for f in episode] for episode in played] == [[0, 1, 2, 3, 4]] * 3
    assert played[0][0].fps == 12.0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["eval.env.id=counting:Blind-v0"], ("its render modes are human", "rgb_array")),
        (["eval.env.id=counting:Old-v0"], ("its constructor has to take render_mode", "Old")),
        (["eval.env.kwargs.picture=none"], ("returned None", "[H, W, 3]")),
        (["eval.env.backend=async"], ("eval.env.backend=sync",)),
        (["env.kwargs.picture=none"], ("did you mean eval.env.kwargs",)),
    ],
)
def test_what_cant_be_drawn(counting: Path, overrides: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refused:
        list(play_checkpoint(counting, overrides=overrides))
    for word in words:
        assert word in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_render_that_fails(counting: Path) -> None:
    with pytest.raises(EnvFailed, match=r"failed in render \(RuntimeError: no paint\); the traceback is in"):
        list(play_checkpoint(counting, overrides=["eval.env.kwargs.picture=raises"]))
    assert "no paint" in (counting / "pgrun.log").read_text()


@pytest.mark.slow
def test_grey_pictures(counting: Path) -> None:
    frame = next(play_checkpoint(counting, overrides=["eval.env.kwargs.picture=grey"]))
    assert frame.image.shape == (6, 9, 3)


def test_an_episode_that_cant_be_played_again_is_not_passed_off_as_the_best(counting: Path) -> None:
    with pytest.raises(UserError, match=r"its reset\(seed=…\) has to decide"):
        list(play_checkpoint(counting, episodes=3, pick="best", overrides=["eval.env.kwargs.forgets=true"]))


def test_a_pick_that_is_none(counting: Path) -> None:
    with pytest.raises(UserError, match="choose one of best, median, worst"):
        next(play_checkpoint(counting, pick="first"))  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["joint", "rows"])
def test_several_agents(tmp_path: Path, form: str) -> None:
    pytest.importorskip("mpe2")
    joint = ["algo=maddpg", "memory.capacity=1000"], "env=simple_tag"
    algo, env = joint if form == "joint" else ([], "env=simple_spread")
    run = train(tmp_path, *algo, env)
    overrides = ["eval.num_envs=1"]
    played = episodes_of(play_checkpoint(run, episodes=3, overrides=overrides))
    assert [len(episode) for episode in played] == [26] * 3
    assert all(frame.image.shape == (700, 700, 3) for frame in played[0])
    result = evaluate_checkpoint(run, "latest", episodes=3, seed=None, stochastic=False, overrides=overrides)
    assert np.mean([e[-1].total for e in played]) == pytest.approx(result["eval_return_mean"], rel=1e-9)


@pytest.mark.slow
def test_mujoco_draws_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.setitem(os.environ, "MUJOCO_GL", "")  # put back afterwards
    run = train(tmp_path, "env=halfcheetah")
    try:
        frames = list(play_checkpoint(run, overrides=["eval.max_steps=5"]))
    except UserError as refused:
        assert str(refused).startswith("MuJoCo can't draw: neither EGL nor OSMesa works here; install one")  # noqa: PT017
    else:
        assert [frame.step for frame in frames] == [0, 1, 2, 3, 4, 5]
        assert len({frame.image.tobytes() for frame in frames}) == 6


@pytest.mark.slow
def test_from_python(cartpole: Path) -> None:
    before = torch.get_rng_state()
    frames = list(pgrun.play(cartpole, {"eval.max_steps": 5}, episodes=2, seed=3))
    assert torch.equal(before, torch.get_rng_state())
    assert [frame.ended for frame in frames if frame.ended] == [True, True]
    assert all(frame.image.ndim == 3 for frame in frames)
    with pytest.raises(pgrun.UserError, match="episodes=0 should be a whole number"):
        pgrun.play(cartpole, episodes=0)
