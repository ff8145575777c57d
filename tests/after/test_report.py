"""The report: its numbers, its files, and what it says of runs that should not be averaged silently."""

from __future__ import annotations

import csv
import re
import shutil
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from run_folders import run_folder
from shell import Said, pgrun_inside

from pgrun.after.groups import grouped, score
from pgrun.after.records import read_runs
from pgrun.errors import NotTrusted

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
from pgrun.after.report import clips
from pgrun.after.report.clips import choose

LONG = {"network.hidden": str([256, 256, 256, 256, 256, 256, 256, 256, 256, 256])}


class Targets(HTMLParser):
    """Everything that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        assert tag != "script"


def report(folder: Path, *words: str) -> Said:
    done = pgrun_inside("report", "runs", "-o", "out", *words, cwd=folder)
    assert done.code == 0, done.err
    return done


def page(folder: Path) -> str:
    return re.sub(r"data:image/png;base64,[\w+/=]+", "data:", (folder / "out" / "report.html").read_text())


@pytest.mark.slow
def test_a_report_on_groups_in_two_environments(tmp_path: Path) -> None:
    for seed in range(3):
        for gamma in (0.9, 0.99):
            for env, env_id, sign in (("cartpole", "CartPole-v1", 1), ("acrobot", "Acrobot-v1", -1)):
                name, overrides = f"{env}_{gamma}_{seed}", (f"algo.gamma={gamma}",)
                config = {"algo.gamma": gamma}
                how: dict[str, Any] = {
                    "env": env,
                    "env_id": env_id,
                    "seed": seed,
                    "config": config,
                    "overrides": overrides,
                }
                run_folder(tmp_path / "runs" / name, score=sign * (100 * gamma + seed), **how)
    report(tmp_path)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"report.html", "groups.csv", "runs.csv", "curves.csv", "report.md", "report.tex"} <= names
    assert {"CartPole-v1_curves.png", "Acrobot-v1_profile.png", "overall_aggregates.png"} <= names
    lines = list(csv.DictReader((tmp_path / "out" / "groups.csv").open()))
    first = next(line for line in lines if line["environment"] == "CartPole-v1")
    assert first["group"] == "ppo algo.gamma=0.99"
    assert (float(first["iqm"]), float(first["worst"]), float(first["best"])) == (100.0, 99.0, 101.0)
    assert float(first["iqm_low"]) >= 99.0
    assert first["threshold"] == "475.0"
    html = page(tmp_path)
    assert "All environments" in html
    assert "optimality gap" not in html
    targets = Targets()
    targets.feed((tmp_path / "out" / "report.html").read_text())
    assert {target for target in targets.found if not target.startswith(("data:", "#"))} == set()
    assert "http:" not in html
    assert "https:" not in html
    assert r"ppo algo.gamma=0.99 & 3 & 100.0 [99.0, 101.0]" in (tmp_path / "out" / "report.tex").read_text()
    bounds = ("--scores", "CartPole-v1=0:500", "--scores", "Acrobot-v1=-500:0")
    report(tmp_path, *bounds)
    assert "optimality gap" in page(tmp_path)


def test_what_is_not_averaged_is_said(tmp_path: Path) -> None:
    run_folder(tmp_path / "runs" / "a", seed=0, score=50.0, config=LONG)
    run_folder(tmp_path / "runs" / "b", seed=1, score=None, status="diverged", steps=2500, config=LONG)
    run_folder(tmp_path / "runs" / "c", seed=2, status="", config=LONG)
    run_folder(tmp_path / "runs" / "<d>", seed=0, score=60.0)
    report(tmp_path, "--threshold", "55")
    html = page(tmp_path)
    assert "seed 1 diverged at step 2,500, not in the averages (b)" in html
    assert "seed 2 killed, not in the averages (c)" in html
    assert "a single seed, so there is no band and no interval" in html
    assert "1 of 3" in html
    assert "<d>" not in html
    assert "never" in html


def test_each_environment_has_its_own_threshold(tmp_path: Path) -> None:
    for name, env_id in (("a", "CartPole-v1"), ("b", "Acrobot-v1")):
        run_folder(tmp_path / "runs" / name, env=name, env_id=env_id)
    report(tmp_path, "--no-clips", "--threshold", "CartPole-v1=50", "--threshold", "Acrobot-v1=-90")
    lines = csv.DictReader((tmp_path / "out" / "groups.csv").open())
    assert {line["environment"]: line["threshold"] for line in lines} == {"CartPole-v1": "50.0", "Acrobot-v1": "-90.0"}


def test_a_reproduction_is_no_second_seed(tmp_path: Path) -> None:
    for name, seed, again in (("a", 0, ""), ("b", 1, ""), ("c", 1, ""), ("a-reproduced", 0, "a")):
        run_folder(tmp_path / "runs" / name, seed=seed, reproduces=again, status="finished", score=50.0 + seed)
    done = report(tmp_path, "--no-clips")
    assert "3 runs" in done.out
    assert "left out as reproductions, which are no further seeds: a-reproduced" in done.err
    assert "no further seeds: a-reproduced" in page(tmp_path)
    assert "| ppo | 2 (3 runs) |" in (tmp_path / "out" / "report.md").read_text()
    line = next(csv.DictReader((tmp_path / "out" / "groups.csv").open()))
    assert (line["seeds"], line["runs"]) == ("2", "3")


def test_the_runs_of_clips_are_the_extremes_and_the_middle(tmp_path: Path) -> None:
    for number, each in enumerate((3.0, 9.0, None, 1.0, 7.0, 5.0)):
        run_folder(tmp_path / str(number), score=each, seed=number % 3, config={"algo.gamma": number // 3})
    chosen = choose(grouped(read_runs(tmp_path)))
    assert {name: score(run) for name, (_, run) in chosen.items()} == {"best": 9.0, "median": 5.0, "worst": 1.0}
    assert all(run in group.records for group, run in chosen.values())
    assert list(chosen) == ["best", "median", "worst"]
    two = choose(grouped(read_runs(tmp_path / "0", tmp_path / "1")))
    assert {name: score(run) for name, (_, run) in two.items()} == {"best": 9.0, "worst": 3.0}
    assert list(choose(grouped(read_runs(tmp_path / "0")))) == ["best"]
    assert choose(grouped(read_runs(tmp_path / "2"))) == {}


def test_a_clip_that_can_t_be_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        run_folder(tmp_path / f"{number}", score=float(number), seed=number)

    def filmed(folder: Path) -> tuple[float, int, bytes]:
        if folder.name == "2":
            raise NotTrusted("2 was not made here")
        return 1.0, 0, b""

    monkeypatch.setattr(clips, "filmed", filmed)
    monkeypatch.chdir(tmp_path)
    found, missing = clips.clips_of(grouped(read_runs(tmp_path)))
    assert [clip.name for clip in found] == ["median", "worst"]
    assert missing == ["no clip of 2: it wasn't made here; pgrun play 2 --trust --video best.mp4 films it"]


@pytest.mark.slow
def test_clips_of_trained_runs(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio")
    words = ("algo=a2c", "num_envs=2", "total_steps=64", "network.hidden=[8]", "eval.final_episodes=2")
    for seed in ("1", "2"):
        for env in ("cartpole", "bimodal_bandit"):
            assert pgrun_inside(*words, f"env={env}", f"seed={seed}", cwd=tmp_path).code == 0
    report(tmp_path)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    films = {"CartPole-v1_best.mp4", "CartPole-v1_worst.mp4"}
    assert {name for name in names if name.endswith(".mp4")} == films
    html = (tmp_path / "out" / "report.html").read_text()
    assert html.count("<video") == 2
    assert "env=bimodal_bandit can&#39;t be drawn" in html
    for name in films:
        shown = sum(1 for _ in imageio.get_reader(tmp_path / "out" / name))
        said = re.search(
            rf"<b>{name[12:-4]}</b> run: a2c, seed \d, score [\d.]+<br>\s*an episode, return ([\d.]+)", html
        )
        assert said
        assert float(said[1]) == shown - 1  # a picture before the first step, and one point a step
    report(tmp_path, "--no-clips")
    assert "<video" not in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_holds_one_report_and_nobody_else_s_file_is_touched(tmp_path: Path) -> None:
    for name, env_id in (("a", "CartPole-v1"), ("b", "Acrobot-v1")):
        run_folder(tmp_path / "runs" / name, env=name, env_id=env_id)
    report(tmp_path, "--no-clips")
    out = tmp_path / "out"
    (out / "mine.png").touch()
    assert (out / "Acrobot-v1_curves.png").exists()
    shutil.rmtree(tmp_path / "runs" / "b")
    report(tmp_path, "--no-clips")
    assert {path.name for path in out.glob("*.png")} == {"CartPole-v1_curves.png", "mine.png"}
    (out / "runs.csv").write_text("mine")
    done = pgrun_inside("report", "runs", "-o", "out", "--no-clips", cwd=tmp_path)
    assert done.code == 2
    assert done.line.startswith("pgrun: out/runs.csv would be overwritten, and no report wrote it as it is")
    assert (out / "runs.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["nowhere"], "nowhere doesn't exist"),
        ([], "no runs in"),
        (["runs", "--scores", "CartPole-v1=5"], "write ENV=LOW:HIGH"),
        (["runs", "--scores", "CartPole-v1=5:1"], "write ENV=LOW:HIGH"),
        (["runs", "--scores", "Ant-v5=0:1"], "no run is in that environment; there are Acrobot-v1, CartPole-v1"),
        (
            ["runs", "--threshold", "high"],
            "--threshold high is no number: write ENV=RETURN",
        ),
        (["runs", "--threshold", "400"], "there are runs in Acrobot-v1, CartPole-v1; say for which it is"),
        (["runs", "--threshold", "Ant-v5=1"], "--threshold Ant-v5: no run is in that environment"),
        (["runs", "-o", "file"], "file is a file"),
    ],
)
def test_wrong_input_is_one_line(tmp_path: Path, words: list[str], why: str) -> None:
    (tmp_path / "file").touch()
    if "runs" in words:
        run_folder(tmp_path / "runs" / "a")
        run_folder(tmp_path / "runs" / "b", env="acrobot", env_id="Acrobot-v1")
    done = pgrun_inside("report", *words, cwd=tmp_path)
    assert done.code == 2
    assert why in done.line
    assert not (tmp_path / "report").exists()


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgrun.after.extras.find_spec", lambda name: None if name == "jinja2" else object())
    done = pgrun_inside("report", cwd=tmp_path)
    assert (done.code, done.line) == (2, "pgrun: pgrun report needs jinja2: pip install 'pgrun[report]'")


@pytest.mark.slow
def test_a_hundred_runs_take_seconds(tmp_path: Path) -> None:
    for number in range(100):
        rate = 1e-3 * (1 + number % 20)
        config = {"optimizer.lr": rate}
        run_folder(tmp_path / "runs" / str(number), seed=number // 20, score=rate * 1e4 + number, config=config)
    begin = time.process_time()
    report(tmp_path)
    assert time.process_time() - begin < 20
