"""The user's own runs with own code go on working without a flag, wherever they lie; somebody else's ask for one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guess import GUESS
from shell import Said, pgrun, pgrun_inside

from pgrun.trust.record import state_folder

CODE = f"""\
from helper import LENGTH
from pgrun.algos.ppo import PPO
{GUESS.replace("self.t == 5", "self.t == LENGTH")}
class Mine(PPO):
    pass


class Double(gym.RewardWrapper):
    def reward(self, reward):
        return 2 * reward


gym.register("Guess-v0", "mine:Guess")
gym.register("Late-v0", "late:Late")
"""
LATE = "from mine import Guess\nclass Late(Guess):\n    pass\n"
SMALL = (
    *("algo=ppo", "env=gym", "total_steps=40", "num_envs=2", "algo.rollout=10", "algo.minibatch=10"),
    *("algo.epochs=1", "network.hidden=[4]", "eval.every=null", "eval.final_episodes=2"),
)
OWN = (*SMALL, "env.id=mine:Guess-v0", "algo._target_=mine.Mine", "env.wrappers=[mine.Double]")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Forget the user's modules afterwards, as a process does that ends."""
    yield
    for name in ("mine", "helper", "late"):
        sys.modules.pop(name, None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the user's modules, one of which imports another."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    here = tmp_path / "here"
    here.mkdir()
    for name, text in {"mine": CODE, "helper": "LENGTH = 5\n", "late": LATE}.items():
        (here / f"{name}.py").write_text(text)
    return here


@pytest.fixture
def trained(folder: Path) -> Path:
    """A run with own code in that folder."""
    said = pgrun_inside(*OWN, "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err
    return folder / "run"


def evaluated(run: Path | str, *words: str, cwd: Path) -> Said:
    return pgrun_inside("eval", str(run), "--episodes", "2", *words, cwd=cwd)


@pytest.mark.slow
def test_a_run_that_was_made_here(trained: Path, folder: Path, tmp_path: Path) -> None:
    assert evaluated("run", cwd=folder).code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trained.rename(elsewhere / "moved")
    assert evaluated("moved", cwd=elsewhere).code == 0  # the code is found where the run was started
    said = pgrun_inside("resume", "moved", "total_steps=80", "eval.final_episodes=3", cwd=elsewhere)
    assert said.code == 0, said.err
    assert evaluated("moved", cwd=elsewhere).code == 0  # with the changes that it was told
    said = pgrun_inside("--config-dir", "moved/.hydra", "hydra.run.dir=again", cwd=elsewhere)
    assert said.code == 0, said.err
    assert json.loads((elsewhere / "again" / "result.json").read_text())["status"] == "finished"
    assert evaluated("again", cwd=elsewhere).code == 0


def test_a_run_that_was_changed(trained: Path, folder: Path) -> None:
    file = trained / ".hydra" / "resumed.yaml"
    file.write_text("- eval.env.wrappers=[late.Late]\n")
    said = evaluated("run", cwd=folder)
    assert said.code == 2
    assert said.line.startswith("pgrun: run was not made here (pgrun has no record of it), and would call ")
    assert "call late.Late (eval.env.wrappers[0])" in said.line
    file.unlink()
    hydra = trained / ".hydra" / "hydra.yaml"
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "mine.py").write_text("raise SystemExit(70)\n")
    hydra.write_text(hydra.read_text().replace(f"cwd: {folder}\n", f"cwd: {theirs}\n"))
    assert evaluated("run", cwd=folder).code == 0  # known by its config: its code is found here, not where that says


def test_a_run_that_somebody_else_made(trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "mine"))
    for words in (("eval", "run"), ("resume", "run", "total_steps=80"), ("--config-dir", "run/.hydra")):
        said = pgrun_inside(*words, cwd=folder)
        assert said.code == 2
        assert f"would call mine.Mine (algo) from {folder / 'mine.py'}" in said.line
        assert said.line.endswith("If you trust who made it: --trust")
    said = evaluated("run", "--trust", cwd=folder)
    assert said.code == 0, said.err
    assert said.line.startswith(f"pgrun: run is trusted to call mine.Mine (algo) from {folder / 'mine.py'}; ")
    assert evaluated("run", cwd=folder).code == 2  # for that one command alone
    assert pgrun_inside("resume", "run", "total_steps=80", "--trust", cwd=folder).code == 0
    assert evaluated("run", cwd=folder).code == 0  # it went on here
    shutil.copytree(folder / "run", folder / "copy")
    assert evaluated("copy", cwd=folder).code == 2  # which is theirs as before
    assert pgrun_inside("--config-dir", "run/.hydra", "hydra.run.dir=own", "total_steps=120", cwd=folder).code == 0
    (folder / "run").rename(folder / "moved")
    assert evaluated("moved", cwd=folder).code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("reproduce", "run", "--into", "new", "--trust"),
        pytest.param(("--config-dir", "run/.hydra", "hydra.run.dir=new", "--trust"), marks=pytest.mark.slow),
    ],
)
def test_trust_is_for_one_command_and_what_it_trains(
    words: tuple[str, ...], trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "mine"))
    said = pgrun_inside(*words, cwd=folder)
    assert said.code == 0, said.err
    assert evaluated("run", cwd=folder).code == 2  # the stranger's
    assert evaluated("new", cwd=folder).code == 0  # made here


def test_the_doctor_needs_trust_for_probes_alone(trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "mine"))
    for name in ("mine", "helper"):
        sys.modules.pop(name, None)
    said = pgrun_inside("doctor", "run", cwd=folder)
    assert (said.code, said.err) == (0, "")
    assert "mine" not in sys.modules
    said = pgrun_inside("doctor", "run", "--probe", cwd=folder)
    assert (said.code, "would call mine.Mine (algo)" in said.line) == (2, True)
    said = pgrun_inside("doctor", "run", "--trust", cwd=folder)
    assert (said.code, said.err) == (0, "")  # there is nothing to trust


@pytest.mark.slow
def test_a_wrapper_of_the_one_who_evaluates(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pgrun_inside(*SMALL, "env.id=CartPole-v1", "hydra.run.dir=run", cwd=folder).code == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "mine"))
    said = evaluated("run", "eval.env.wrappers=[mine.Double]", cwd=folder)
    assert said.code == 0, said.err  # it stands on the command line


@pytest.mark.slow
def test_an_environment_in_a_module_that_own_code_registers(folder: Path) -> None:
    said = pgrun_inside(*SMALL, "env.id=mine:Late-v0", "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err


@pytest.mark.slow
def test_what_lies_about_is_not_imported(folder: Path) -> None:
    canary = folder / "canary"
    for name in ("tensorflow", "numexpr", "yaml", "triton", "usercustomize", "cloudpickle"):
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w').write('x')\n")
    plugins = folder / "hydra_plugins" / "theirs"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text(f"open({str(canary)!r}, 'w').write('x')\n")
    said = pgrun(*SMALL, "env.id=CartPole-v1", "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err
    said = pgrun("eval", ".", "--episodes", "2", cwd=folder / "run")
    assert said.code == 0, said.err
    shutil.copy(folder / "tensorflow.py", folder / "run")
    assert pgrun("eval", ".", "--episodes", "2", cwd=folder / "run").code == 0
    assert not canary.exists()


@pytest.mark.slow
def test_the_record_is_the_user_s_alone(trained: Path, folder: Path) -> None:
    place = state_folder()
    assert place == folder.parent / "state" / "pgrun" / "runs"
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    os.chmod(place, 0o777)  # others can write it: it says nothing
    assert evaluated("run", cwd=folder).code == 2
    os.chmod(place, 0o700)
    for path in place.iterdir():
        path.chmod(0o666)
    assert evaluated("run", cwd=folder).code == 2


@pytest.mark.slow
def test_a_record_that_can_t_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "state").write_text("no folder")
    said = pgrun_inside(*OWN, "hydra.run.dir=run", cwd=folder)
    assert said.code == 0
    assert "can't be written" in said.err
    assert "--trust" in said.err
    assert evaluated("run", cwd=folder).code == 2
    assert evaluated("run", "--trust", cwd=folder).code == 0
    said = pgrun_inside(*SMALL, "env.id=CartPole-v1", "hydra.run.dir=other", cwd=folder)
    assert "--trust" not in said.err  # it will not need it


@pytest.mark.slow
def test_links_of_one_s_own(trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trained / "checkpoints").rename(folder / "large disk")
    (trained / "checkpoints").symlink_to(folder / "large disk")
    said = pgrun_inside("resume", "run", "total_steps=80", cwd=folder)
    assert said.code == 0, said.err
    shutil.copytree(trained, folder / "copy", symlinks=True)
    said = evaluated("copy", cwd=folder)
    assert (said.code, "checkpoints leads out of it" in said.line) == (2, True)
    assert evaluated("copy", "--trust", cwd=folder).code == 0


LAUNCHERS = {"joblib": "joblib", "ray": "ray", "slurm": "submitit"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", *LAUNCHERS])
def test_a_sweep_with_own_code(launcher: str, folder: Path) -> None:
    if launcher != "basic" and importlib.util.find_spec(LAUNCHERS[launcher]) is None:
        pytest.skip(f"+sweep={launcher} needs {LAUNCHERS[launcher]}, which is not installed")
    where: tuple[str, ...] = () if launcher == "basic" else (f"+sweep={launcher}",)
    where += ("hydra.launcher.n_jobs=2",) if where else ("-m",)
    where += ("hydra.launcher.cluster=local",) if launcher == "slurm" else ()
    words = (*OWN, *where, "seed=1,2", "hydra.sweep.dir=sweep")
    said = pgrun(*words, cwd=folder)
    assert said.code == 0, said.err
    jobs = sorted(path.parent for path in (folder / "sweep").glob("*/result.json"))
    assert [json.loads((job / "result.json").read_text())["status"] for job in jobs] == ["finished"] * 2
    assert evaluated(jobs[0], cwd=folder.parent).code == 0
    said = pgrun(*words, cwd=folder)  # the same line goes on with it
    assert (said.code, said.out.count("finished before")) == (0, 2), said.err


@pytest.mark.slow
@pytest.mark.parametrize("words", [("env.backend=async",), ("algo=a3c", "workers=2"), ("parallel=ray", "workers=2")])
def test_processes_find_own_code(words: tuple[str, ...], folder: Path) -> None:
    if "parallel=ray" in words and importlib.util.find_spec("ray") is None:
        pytest.skip("without ray")
    given = [word for word in OWN if not (word.startswith("algo") and "algo=a3c" in words)]
    given += ["algo.rollout=10"] if "algo=a3c" in words else []
    if "parallel=ray" in words:  # for dppo, whose updates have no algo.epochs
        given = [w for w in given if w != "algo=ppo" and "_target_" not in w and not w.startswith("algo.")]
        given += ["algo=dppo", "algo.rollout=16"]
    said = pgrun(*given, *words, "hydra.run.dir=run", cwd=folder)
    assert said.code == 0, said.err
    assert evaluated("run", cwd=folder.parent / "here").code == 0
