"""`pgrun play` as people use it: a film, a window, and one line for what can't be."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shell import pgrun, pgrun_inside

pytest.importorskip("imageio_ffmpeg")
TRAIN = ("algo=reinforce", "network.hidden=[8]", "eval.every=null", "eval.final_episodes=0", "total_steps=64")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on CartPole, and one whose environment is slow."""
    folder = tmp_path_factory.mktemp("play")
    for name, env in (("run", ["env=cartpole"]), ("count", ["env=gym", "env.id=counting:Counting-v0"])):
        said = pgrun_inside(*TRAIN, "num_envs=2", *env, f"hydra.run.dir={name}", cwd=folder)
        assert said.code == 0, said.err
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["count", "run"])
def test_a_film_of_the_best_episode_of_an_evaluation(work: Path, name: str) -> None:
    said = pgrun_inside(
        "play", name, "--video", "best.gif", "--episodes", "4", "--pick", "best", "--seed", "5", cwd=work
    )
    assert said.code == 0, said.err
    best = float(re.match(r"episode \d of 4 \(best\): return ([\d.]+) in [\d.]+ steps", said.out)[1])  # type: ignore[index]
    worst = pgrun_inside("play", name, "--video", "w.mp4", "--episodes=4", "--pick=worst", "--seed=5", cwd=work).out
    assert best > float(worst.split("return ")[1].split()[0])
    every = pgrun_inside("play", name, "--video", "all.mp4", "--episodes=4", "--seed=5", cwd=work).out
    returns = [float(x) for x in re.findall(r"return ([\d.]+)", every)]
    assert len(returns) == 4
    assert max(returns) == best
    evaluated = json.loads(pgrun_inside("eval", name, "--episodes=4", "--seed=5", "--json", cwd=work).out)
    assert evaluated["eval_return_mean"] == sum(returns) / 4
    for film in ("best.gif", "w.mp4", "all.mp4"):
        assert (work / film).stat().st_size > 300


@pytest.mark.slow
def test_a_window_and_help(work: Path) -> None:
    said = pgrun("play", "run", "--episodes", "2", cwd=work, SDL_VIDEODRIVER="dummy")
    assert said.code == 0, said.err
    assert said.out.count("return") == 2
    assert "--pick" in pgrun("play", "--help", cwd=work).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--video", "film.avi"), ".mp4 or .gif"),
        (("nowhere", "--video", "film.mp4"), "nowhere is no run directory"),
        (("run", "--video", "film.mp4", "--checkpoint", "none.pt"), "there is no checkpoint"),
        (("run", "--video", "film.mp4", "env.id=X"), "env.id can't change"),
        (("run", "--video", "film.mp4", "eval.env.kwargs.colour=1"), "no argument 'colour'"),
        (("count", "--video", "film.mp4", "eval.env.id=counting:Blind-v0"), "its render modes are human"),
        (("run", "--video", "run/result.json/film.mp4"), "is no folder"),
    ],
)
def test_what_cant_be(work: Path, arguments: tuple[str, ...], words: str) -> None:
    said = pgrun_inside("play", *arguments, cwd=work)
    assert said.code == 2
    assert words in said.line
    assert not (work / "film.mp4").exists()


def test_no_display(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    said = pgrun_inside("play", "run", cwd=work)
    assert (said.code, "--video" in said.line) == (2, True)


@pytest.mark.slow
def test_an_interrupt_leaves_no_film(work: Path) -> None:
    command = [sys.executable, "-m", "pgrun", "play", "run", "--video", "cut.mp4", "--episodes", "100000"]
    with subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("episode 1 of 100000")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip().splitlines()[-1]) == (130, "interrupted")
    assert [path.name for path in work.iterdir() if "cut" in path.name] == []
