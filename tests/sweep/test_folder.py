"""Sweeps: a folder that follows from the command line, jobs that fail alone, a line that goes on after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from running import compose, new_run
from shell import pgrun, pgrun_inside
from sweeping import (
    LAUNCHERS,
    LONG,
    MORTAL,
    SHORT,
    assert_none_left,
    figures,
    interrupt,
    results,
    start,
    wait_for,
)

from pgrun.errors import UserError
from pgrun.sweep import folder as sweep
from pgrun.sweep import table as sweep_table
from pgrun.sweep.session import SweepSession
from pgrun.system.lock import Lock, held

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (["-m", "a=1,2", "seed=0,1"], ["--multirun", "seed=0,1", "a=1, 2"], True),
        (["-m", "a=1,2"], ["-m", "a=1,2", "hydra/launcher=ray", "hydra.launcher.n_jobs=3"], True),
        (["-m", "a=1,2"], ["+sweep=joblib", "a=1,2"], True),
        (["+sweep=ppo"], ["+sweep=[ray,ppo]", "hydra.sweeper.n_trials=99", "hydra.sweeper.n_jobs=2"], True),
        (["-m", "a=1,2"], ["-m", "a=2,1"], False),
        (["-m", "a=1,2"], ["-m", "a=1,2", "--config-dir", "mine"], False),
        (["-m", "a=1,2", "--config-dir", "mine"], ["-m", "--config-dir", "mine", "a=1,2"], True),
        (["+sweep=ppo"], ["+sweep=sac"], False),
        (["+sweep=ppo"], ["+sweep=ppo", "hydra/sweeper/sampler=random"], False),
        (["+sweep=ppo"], ["+sweep=ppo", "hydra.sweeper.seed=1"], False),
        (["-m", "a=1,2"], ["-m", "", "a=1,2", ""], True),
        (["-m", "~key", "a=1,2"], ["~key", "a=1,2", "--multirun"], True),
        (["-m", "~key", "a=1,2"], ["-m", "a=1,2"], False),
    ],
)
def test_the_name_follows_from_what_is_swept(one: list[str], other: list[str], same: bool) -> None:
    assert (sweep.sweep_name(one) == sweep.sweep_name(other)) is same


def test_names_are_readable_and_fit_a_file_system() -> None:
    name = sweep.sweep_name(["-m", "seed=range(3)", "algo=ppo,a2c", "optimizer.lr=tag(log,interval(1e-4,1e-2))"])
    assert name.startswith("algo=ppo,a2c_optimizer.lr=tag-log,interval-1e-4,1e-2_seed=range-3")
    assert len(sweep.sweep_name(["-m", *(f"key{i}=1,2" for i in range(99))])) < 100
    assert sweep.job_name(3, ["seed=1", "algo/advantage=gae", "env=cartpole"], {"env"}) == (
        "3_algo.advantage=gae,seed=1"
    )
    assert sweep.job_name(0, ["a=1"], {"a"}) == "0"
    assert sweep.job_name(0, ["lr=0.00012345678901"], set()) == "0_lr=0.0001235"
    long = [sweep.job_name(0, ["x=" + "y" * 300 + end], set()) for end in "ab"]
    assert long[0] != long[1]
    assert max(map(len, long)) < 130


def test_another_order_is_brought_into_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = ["-m", "b=1,2", "a=1,2"]
    assert sweep.in_first_order(["b=1,2", "-m", "a=1,2"]) == first
    SweepSession(Path("multirun") / sweep.sweep_name(first)).begin(first).lock.free()
    assert sweep.in_first_order(["a=1,2", "-m", "hydra/launcher=ray", "b=1,2"]) == [*first, "hydra/launcher=ray"]
    elsewhere = ["hydra.sweep.dir=here", "-m"]
    SweepSession(Path("here")).begin([*elsewhere, "a=1,2"]).lock.free()
    with pytest.raises(UserError, match="here holds another sweep"):
        sweep.in_first_order([*elsewhere, "a=1,2,3"])


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = f"""
import os, sys, time
from pathlib import Path
from pgrun.system.lock import Lock
lock = Lock(Path({str(path)!r}))
assert lock.take()
child = os.fork()  # outlives it, and must not keep the lock
if child:
    print(lock.token, child, flush=True)
time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    token, child = holder.stdout.readline().split()
    try:
        mine = Lock(path)
        assert not mine.take()
        assert str(holder.pid) in mine.holder()
        assert held(path, token)
        with pytest.raises(UserError, match=f"process {holder.pid} on .* is at this very sweep"):
            SweepSession(tmp_path).begin(["-m"])
        assert not held(path, "another")
        holder.kill()
        holder.wait()
        assert not held(path, token)
        assert mine.take()
        mine.free()
        assert not held(tmp_path / "nowhere", token)
    finally:
        subprocess.run(["kill", "-9", child], check=True)


def test_what_a_folder_holds(tmp_path: Path) -> None:
    config = compose("algo=reinforce", *SHORT)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(config))

    def meaning(**result: object) -> str:
        (tmp_path / "result.json").write_text(json.dumps(result))
        return sweep.goes_on(tmp_path, config)

    assert sweep.goes_on(tmp_path / "new", config) == ""
    assert sweep.found(tmp_path)["status"] == "new"
    assert meaning(status="finished") == "finished before"
    assert meaning(status="pruned") == "pruned before"
    assert meaning(status="failed") == "failed before: tried again, from the start"
    assert meaning(status="diverged") == "diverged before: tried again, from the start"
    (tmp_path / "result.json").unlink()
    run = new_run(tmp_path, "algo=reinforce", *SHORT)
    run.write()
    assert sweep.found(tmp_path)["status"] == "interrupted"
    assert sweep.goes_on(tmp_path, config) == "interrupted before: goes on from its checkpoint"
    assert meaning(status="failed") == "failed before: tried again, from its checkpoint"
    assert meaning(status="diverged") == "diverged before: tried again, from the start"
    other = compose("algo=reinforce", *SHORT, "algo.gamma=0.5")
    (tmp_path / "result.json").write_text('{"status": "finished"}')
    with pytest.raises(UserError, match=r"algo.gamma=0.99 then, 0.5 now"):
        sweep.goes_on(tmp_path, other)
    (tmp_path / ".hydra" / "config.yaml").write_text("")  # killed while it was written: the checkpoint has it too
    assert sweep.goes_on(tmp_path, config) == "finished before"
    with pytest.raises(UserError, match=r"algo.gamma=0.99 then, 0.5 now"):
        sweep.goes_on(tmp_path, other)


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = {0: ("finished", 1.0), 2: ("finished", 5.0), 10: ("failed", None), 1: ("pruned", None)}
    for number, (status, value) in done.items():
        (tmp_path / f"{number}_x").mkdir()
        text = json.dumps({"status": status, "eval_return_mean": value})
        (tmp_path / f"{number}_x" / "result.json").write_text(text)
    (tmp_path / "old").mkdir()  # another run, which happens to be in the folder
    (tmp_path / "old" / "result.json").write_text('{"status": "finished", "eval_return_mean": 99.0}')
    sweep.enlist(tmp_path, [f"{number}_x" for number in done])
    assert sweep_table.table(tmp_path, {"0_x"}, set()) == 1
    lines = capsys.readouterr().out.split("\n")
    assert [line.split()[0] for line in lines[2:6]] == ["0_x", "1_x", "2_x", "10_x"]
    assert lines[2].split() == ["0_x", "finished", "before", "1.0"]
    assert lines[6] == "best: 2_x with 5.0"
    (tmp_path / "10_x" / "result.json").write_text('{"status": "finished", "eval_return_mean": 2.0}')
    assert sweep_table.table(tmp_path, set(), set()) == 0

    capsys.readouterr()
    sweep_table.table(tmp_path, set(), set(), minimize=True)
    assert "best: 0_x with 1.0" in capsys.readouterr().out


def test_the_table_of_folders_by_other_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("s2", "s10", "of/another"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "result.json").write_text('{"status": "finished"}')
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    sweep.enlist(tmp_path, ["s2", "s10", "of/another", "begun", "never made"])
    assert sweep_table.table(tmp_path, {"of/another"}, set()) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[:-1] for line in lines] == [
        ["begun", "new"],
        ["of/another", "finished", "before"],
        ["s2", "finished"],
        ["s10", "finished"],
    ]
    assert sweep_table.table(tmp_path, set(), {"begun"}) == 0
    assert "begun" not in capsys.readouterr().out


def test_a_list_of_jobs_that_a_kill_tore(tmp_path: Path) -> None:
    assert sweep.jobs_of(tmp_path) is None
    (tmp_path / sweep.JOBS).write_text('"0_a=1"\n"1_a')
    sweep.enlist(tmp_path, ["0_a=1", "1_a=2"])
    assert sweep.jobs_of(tmp_path) == {"0_a=1", "1_a=2"}
    assert (tmp_path / sweep.JOBS).read_text().count("0_a=1") == 1


@pytest.mark.slow
def test_other_runs_in_a_sweep_s_folder_are_none_of_its_jobs(tmp_path: Path) -> None:
    short = ["algo=reinforce", "total_steps=64", "num_envs=2", "eval.every=null", "eval.final_episodes=1"]
    new_run(tmp_path / "runs" / "old", *short).execute()
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    said = pgrun_inside("-m", *short, "seed=0", "hydra.sweep.dir=runs", "hydra.sweep.subdir=old", cwd=tmp_path)
    assert (said.code, "runs/old holds a run that is no job of this sweep" in said.line) == (2, True)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"old"}
    said = pgrun_inside("-m", *short, "seed=0,1", "hydra.sweep.dir=runs", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "old" not in said.out
    assert said.out.count("finished") == 2
    again = {path: path.lstat().st_mtime_ns for path in before if path.name != "runs" and path != tmp_path}
    assert again == {path: before[path] for path in again}


def test_two_sweeps_started_together_in_one_folder(tmp_path: Path) -> None:
    first = SweepSession(tmp_path / "a").begin(["-m", "seed=0,1"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    code = "from pathlib import Path; from pgrun.sweep.session import SweepSession\n"
    code += "SweepSession(Path('a')).begin(['-m', 'seed=0,1'])"
    other = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "is at this very sweep" in other.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    first.free()


def test_job_folders_too_long_for_the_disk(tmp_path: Path) -> None:
    config = compose(*SHORT)
    with pytest.raises(UserError, match=r"can't be made: File name too long; choose another hydra\.sweep\.subdir"):
        sweep.goes_on(tmp_path / ("a" * 300), config)
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir=.* can't be made: File name too long"):
        SweepSession(tmp_path / "new" / ("a" * 300)).begin(["-m"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("subdir", "says"), [("s${seed}", "is one folder for several jobs"), (".", "is the sweep's own folder")]
)
def test_jobs_that_would_share_a_folder(subdir: str, says: str, tmp_path: Path) -> None:
    said = pgrun_inside("-m", "seed=1", "algo=ppo,a2c", f"hydra.sweep.subdir='{subdir}'", cwd=tmp_path)
    assert said.code == 2
    assert said.line.startswith(f"pgrun: hydra.sweep.subdir={subdir} {says}")
    assert list(tmp_path.iterdir()) == []


def test_a_glob_is_swept(tmp_path: Path) -> None:
    said = pgrun_inside("-m", "algo=glob(reinf*)", *SHORT, cwd=tmp_path)
    assert said.code == 0, said.err
    assert list(results(tmp_path)) == ["0_algo=reinforce"]


@SLOW
def test_the_same_line_again(tmp_path: Path) -> None:
    line = ["algo=ppo,a2c", "seed=range(2)", *SHORT]
    said = pgrun("-m", *line, cwd=tmp_path)
    assert said.code == 0, said.err
    first = results(tmp_path)
    assert list(first) == ["0_algo=ppo,seed=0", "1_algo=ppo,seed=1", "2_algo=a2c,seed=0", "3_algo=a2c,seed=1"]
    assert [(r["algo"], r["seed"], r["status"]) for r in first.values()] == [
        (algo, seed, "finished") for algo in ("ppo", "a2c") for seed in (0, 1)
    ]
    assert "best:" in said.out
    (folder,) = tmp_path.glob("multirun/*")
    (folder / "2_algo=a2c,seed=0" / "result.json").unlink()  # as if killed just before its end
    said = pgrun("-m", *reversed(line), cwd=tmp_path)
    assert said.code == 0, said.err
    assert "1 of 4 jobs to do" in said.err
    assert "2_algo=a2c,seed=0 (interrupted before: goes on from its checkpoint)" in said.out
    assert said.out.count("finished before") == 3
    again = results(tmp_path)
    figures_now = {name: (r["env_steps"], r["eval_return_mean"]) for name, r in again.items()}
    assert figures_now == {name: (r["env_steps"], r["eval_return_mean"]) for name, r in first.items()}
    config = folder / "0_algo=ppo,seed=0" / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("total_steps: 1500", "total_steps: 1600"))
    refused = pgrun("-m", *line, cwd=tmp_path)
    assert refused.code == 2
    assert "total_steps=1600 then, 1500 now" in refused.line


@pytest.mark.parametrize(
    "launcher", ["basic", *(pytest.param(name, marks=SLOW) for name in LAUNCHERS if name != "basic")]
)
def test_jobs_fail_alone(launcher: str, tmp_path: Path) -> None:
    (tmp_path / "mortal.py").write_text(MORTAL)
    ends = "live,exit,raise,diverge" + (",kill" if launcher != "basic" else "") + ",last"
    jobs = f"+env.kwargs.end={ends}"
    command = pgrun_inside if launcher == "basic" else pgrun  # the others have processes of their own
    said = command(*LAUNCHERS[launcher], "env=gym", "env.id=mortal:Mortal-v0", jobs, *SHORT, cwd=tmp_path)
    assert said.code == 1, said.err
    found = {name.split("end=")[1]: r for name, r in results(tmp_path).items()}
    status = {end: r["status"] for end, r in found.items()}
    assert status["live"] == status["last"] == "finished"
    assert status["exit"] == status["raise"] == "failed"
    assert status["diverge"] == "diverged"
    assert "SystemExit: 7" in said.err
    assert "RuntimeError: out of luck" in said.err
    assert "the run diverged: the observation" in said.err
    assert "Traceback" not in said.err  # that is in the job's pgrun.log
    assert "out of luck" in found["raise"]["error"]
    if launcher != "basic":
        assert status["kill"] == "failed"
        assert "the job's process died" in said.err
    if launcher == "joblib":
        said = pgrun("-m", "env=gym", "env.id=mortal:Mortal-v0", jobs, *SHORT, cwd=tmp_path)
        assert "4 of 6 jobs to do" in said.err
        assert "(failed before: tried again" in said.err
        assert "(diverged before: tried again, from the start)" in said.err


@pytest.mark.slow
def test_killed_and_started_again_equals_undisturbed(tmp_path: Path) -> None:
    line = [*LAUNCHERS["joblib"], *LONG, "seed=range(12)", "eval.final_episodes=5"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    assert pgrun(*line, cwd=undisturbed).code == 0
    assert len(figures(undisturbed)) == 12
    process = start(*line, cwd=killed)
    halfway = "multirun/*/*/checkpoints/latest.pt"
    wait_for(lambda: 4 <= len(results(killed)) < len(list(killed.glob(halfway))))
    interrupt(process, signal.SIGKILL, group=False)
    assert_none_left(killed)
    before = results(killed)  # what ended in its last moment
    assert 4 <= len(before) < 12
    said = pgrun(*line, cwd=killed)
    assert said.code == 0, said.err
    assert said.out.count("finished before") == sum(r["status"] == "finished" for r in before.values())
    assert "goes on from its checkpoint" in said.out
    assert figures(killed) == figures(undisturbed)
    for name, result in before.items():
        if result["status"] == "finished":
            assert results(killed)[name] == result  # not run twice
    assert len(list(killed.glob("multirun/*/[0-9]*"))) == 12


@SLOW
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("how", ["ctrl_c", "kill_parent"])
def test_nothing_outlives_a_sweep(launcher: str, how: str, tmp_path: Path) -> None:
    endless = ["algo=reinforce", "total_steps=10_000_000", "checkpoint.every=1000", "eval.every=null"]
    process = start(*LAUNCHERS[launcher], "seed=range(4)", *endless, cwd=tmp_path)
    at_once = 1 if launcher == "basic" else 2
    wait_for(lambda: len(list(tmp_path.glob("multirun/*/*/checkpoints/latest.pt"))) >= at_once)
    if how == "ctrl_c":
        assert interrupt(process) == 130
        assert "the same line goes on with it" in (tmp_path / "err").read_text()
        # each job that ran was given the time to end in order
        assert [result["status"] for result in results(tmp_path).values()] == ["interrupted"] * at_once
    else:
        interrupt(process, signal.SIGKILL, group=False)
    assert_none_left(tmp_path)
    assert len(list(tmp_path.glob("multirun/*/[0-9]*"))) <= at_once
