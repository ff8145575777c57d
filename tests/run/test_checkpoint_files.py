"""The checkpoints of a run's folder: its own and others', crashes and a disk's errors at every call."""

import errno
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from faults import Disk
from recipes import sampled
from running import new_run, same

from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.checkpoint_files import LIST, Written, current

SMALL = ("network.hidden=[8]", "num_envs=2", "eval.final_episodes=1", "eval.every=null", "algo.rollout=16")


class Crash(BaseException):
    """The process dies here."""


def written(folder: Path, keep: int = 2) -> Written:
    """A session of a run in this folder, begun."""
    session = Written(folder, keep=keep, resumed=False)
    session.begin()
    return session


def write(session: Written, n: int, value: object = None) -> Path:
    return session.write(f"step_{n}", "latest.pt", checkpoint.dump({"n": n if value is None else value}))


def write_best(session: Written, n: int) -> Path:
    return session.write(f"best_{n}", "best.pt", checkpoint.dump({"n": n}))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LIST}


def with_sums(*files: str) -> set[str]:
    return {*files, *(f"{name}.sha256" for name in files)}


def latest(folder: Path) -> object:
    return checkpoint.load(current(folder))["n"]


def check_sums(folder: Path) -> None:
    """Every file that is not a link has the sum beside it that is its own."""
    for path in folder.glob("*.pt"):
        if not path.is_symlink():
            want = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            assert Path(f"{path}.sha256").read_text() == want, path.name


def test_a_file_its_sum_and_its_link(tmp_path):
    content = {"a": torch.arange(3), "b": [1, 2.5, "x", None, True]}
    path = written(tmp_path / "new").write("step_1", "latest.pt", checkpoint.dump(content))
    assert names(path.parent) == {*with_sums("step_1.pt"), "latest.pt"}
    got = checkpoint.load(path.parent / "latest.pt")
    assert got.pop("format") == checkpoint.FORMAT
    assert same(got, content)
    checked = subprocess.run(["sha256sum", "-c", "step_1.pt.sha256"], cwd=path.parent, capture_output=True)
    assert checked.returncode == 0


def test_it_keeps_the_newest_and_the_best(tmp_path):
    session = written(tmp_path)
    for n in (900, 1000, 1100, 20000):
        write(session, n)
        write_best(session, n)
    assert names(tmp_path) == {*with_sums("step_1100.pt", "step_20000.pt", "best_20000.pt"), "latest.pt", "best.pt"}
    assert (latest(tmp_path), checkpoint.load(tmp_path / "best.pt")["n"]) == (20000, 20000)


def test_it_keeps_what_was_written_last_after_going_back(tmp_path):
    for n in (100, 200, 300):
        write(written(tmp_path, keep=9), n)
    session = written(tmp_path)
    for n in (150, 250):  # resumed from step 100
        write(session, n)
        assert latest(tmp_path) == n
    assert {*with_sums("step_150.pt", "step_250.pt"), "latest.pt"} == names(tmp_path)


def test_a_step_that_was_written_before_a_kill_is_written_anew(tmp_path):
    write(written(tmp_path), 100)
    write(written(tmp_path), 200, "before")
    (tmp_path / "latest.pt").unlink()
    (tmp_path / "latest.pt").symlink_to("step_100.pt")  # killed before the link was moved
    write(written(tmp_path), 200, "after")
    assert names(tmp_path) == {*with_sums("step_100.pt", "step_200.pt"), "latest.pt"}
    assert latest(tmp_path) == "after"
    write(written(tmp_path), 200, "again")  # what is current is never overwritten; the new one gets its name after it
    assert names(tmp_path) == {*with_sums("step_100.pt", "step_200.pt"), "latest.pt"}
    assert latest(tmp_path) == "again"


def test_latest_without_its_link(tmp_path):
    assert not current(tmp_path).exists()
    session = written(tmp_path)
    for n in (900, 1000):
        write(session, n)
        write_best(session, n)
    assert current(tmp_path) == tmp_path / "latest.pt"
    (tmp_path / "latest.pt").unlink()  # a crash between the file and the link, or a copy that dropped it
    (tmp_path / "best.pt").unlink()
    (tmp_path / "step_5000.pt").write_text("somebody else's")
    assert latest(tmp_path) == 1000
    assert checkpoint.load(checkpoint.best(tmp_path))["n"] == 1000
    (tmp_path / LIST).unlink()  # files that were copied without it
    (tmp_path / "step_5000.pt").unlink()
    assert latest(tmp_path) == 1000


# ---- what is not of this run


def test_checkpoints_that_the_run_did_not_write_stay(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    theirs = [f"step_{n}.pt" for n in (32, 64, 100, 500)] + [".draft.tmp", ".step_32.pt.tmp", "step_96.pt.sha256"]
    theirs += ["best_3.pt", "notes.txt"]
    for name in theirs:
        (folder / name).write_text(f"mine: {name}")
    run = new_run(tmp_path, "total_steps=160", "checkpoint.every=32", "checkpoint.keep=1", *SMALL)
    assert run.execute()["status"] == "finished"
    for name in theirs:
        assert (folder / name).read_text() == f"mine: {name}"
    n = run.clock.steps
    assert names(folder) - set(theirs) == {*with_sums(f"step_{n}.pt", f"best_{n}.pt"), "latest.pt", "best.pt"}


def test_another_file_under_a_listed_name_stays(tmp_path):
    first = written(tmp_path, keep=1)
    path = write(first, 1)
    path.write_text("mine")
    for session in (first, written(tmp_path, keep=1)):
        write(session, 2)
        write(session, 3)
        assert path.read_text() == "mine"
    assert latest(tmp_path) == 3


def test_a_step_under_a_foreign_name_gets_another(tmp_path, caplog):
    (tmp_path / "step_5.pt").write_text("mine")
    path = write(written(tmp_path), 5)
    assert path.name == "step_5_2.pt"
    assert "step_5.pt is not of this run" in caplog.text
    assert ((tmp_path / "step_5.pt").read_text(), latest(tmp_path)) == ("mine", 5)


@pytest.mark.parametrize("name", ["latest.pt", "best.pt", "best.pt.sha256"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_foreign_latest_or_best_is_refused_before_training(name, kind, tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (tmp_path / "theirs.pt").write_text("mine")
    if kind == "file":
        (folder / name).write_text("mine")
    else:
        (folder / name).symlink_to("../theirs.pt")
    with pytest.raises(UserError, match="is not of this run") as caught:
        new_run(tmp_path, *SMALL)
    assert "\n" not in str(caught.value)
    assert (folder / name).read_text() == "mine"
    assert names(folder) == {name}


def test_a_copy_that_followed_links_is_this_runs(tmp_path):
    write(written(tmp_path / "a"), 1)
    write_best(written(tmp_path / "a"), 1)
    subprocess.run(["cp", "-rL", "a", "b"], cwd=tmp_path, check=True)
    folder = tmp_path / "b"
    assert not (folder / "latest.pt").is_symlink()
    session = written(folder)
    for n in (2, 3, 4):
        write(session, n)
    write_best(session, 4)
    assert latest(folder) == 4
    assert {"step_3.pt", "step_4.pt"} == {path.name for path in folder.glob("step_*.pt")}
    check_sums(folder)


def test_discarding_leaves_what_is_not_the_runs(tmp_path):
    (tmp_path / "step_7.pt").write_text("mine")
    session = written(tmp_path)
    write(session, 1)
    write_best(session, 1)
    Written(tmp_path, keep=1, resumed=True).discard()
    assert names(tmp_path) == {"step_7.pt"}


# ---- a disk without symbolic links


@pytest.mark.parametrize(("code", "hard"), [(errno.EPERM, True), (errno.ENOTSUP, False), (None, False)])
def test_a_disk_without_symbolic_links(code, hard, tmp_path, monkeypatch):
    def refuse(*args: object) -> None:
        raise NotImplementedError if code is None else OSError(code, "no links")

    monkeypatch.setattr(os, "symlink", refuse)
    if not hard:
        monkeypatch.setattr(os, "link", refuse)
    overrides = ("total_steps=128", "checkpoint.every=32", "checkpoint.keep=2", *SMALL, "eval.every=32")
    run = new_run(tmp_path / "a", *overrides, "eval.episodes=2")
    assert run.execute()["status"] == "finished"
    content = torch.load(run.checkpoints / "latest.pt", weights_only=True)
    assert content["clock"]["steps"] == run.clock.steps
    assert checkpoint.load(checkpoint.best(run.checkpoints))["clock"]["steps"] <= run.clock.steps
    check_sums(run.checkpoints)
    more = new_run(tmp_path / "a", *overrides, "total_steps=256", resume=content)
    assert more.execute()["status"] == "finished"
    assert checkpoint.load(run.checkpoints / "latest.pt")["clock"]["steps"] == more.clock.steps
    assert len(list(run.checkpoints.glob("step_*.pt"))) == 2
    check_sums(run.checkpoints)


# ---- crashes and errors at every call


def fail_with(fault: BaseException):
    def fail() -> None:
        raise fault

    return fail


def two_more(session: Written) -> None:
    """Write a step and a best, and prune, as a run does between two of its checkpoints' moments."""
    write(session, 3)
    write_best(session, 3)


def folder_with_two(folder: Path) -> None:
    session = written(folder)
    for n in (1, 2):
        write(session, n)
        write_best(session, n)


def no_links(*args: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


FAULTS = {  # does it last, has the disk symbolic links
    "EIO": (False, True),
    "EROFS": (True, True),
    "ENOSPC": (True, False),
    "EDQUOT": (False, False),
    "crash": (True, True),
    "crash without links": (True, False),
}


@pytest.mark.parametrize("name", sampled(list(FAULTS), ("EROFS", "ENOSPC", "crash")))
def test_a_fault_at_any_call_of_a_checkpoint(name, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # slow, and no power is lost here
    lasting, links = FAULTS[name]
    if not links:
        monkeypatch.setattr(os, "symlink", no_links)
    code = getattr(errno, name, 0)
    fault = OSError(code, os.strerror(code)) if code else Crash()
    folder_with_two(tmp_path / "two")
    shutil.copytree(tmp_path / "two", tmp_path / "count", symlinks=True)
    with Disk(fail_with(fault), at=None) as disk:
        two_more(Written(tmp_path / "count", keep=2, resumed=True))
    calls, went_on = disk.calls, []
    for at in range(len(calls)):
        folder = shutil.copytree(tmp_path / "two", tmp_path / f"{at}", symlinks=True)
        session = Written(folder, keep=2, resumed=True)
        with Disk(fail_with(fault), at=at, lasting=lasting):
            try:
                two_more(session)
                went_on.append(calls[at])
                said = ""
            except (UserError, Crash) as error:
                said = str(error)
        assert "\n" not in said
        assert not code or calls[at] in went_on or os.strerror(code) in said
        check_sums(folder)
        assert latest(folder) in (2, 3)
        assert checkpoint.load(checkpoint.best(folder))["n"] in (2, 3)
        session = written(folder)  # the next session goes on, and leaves nothing behind
        for n in (3, 4):
            write(session, n)
            write_best(session, n)
        check_sums(folder)
        assert (latest(folder), checkpoint.load(checkpoint.best(folder))["n"]) == (4, 4)
        there = {file for file in names(folder) if not file.startswith(("latest.pt", "best.pt"))}
        assert len(there) == 6, (calls[at], sorted(there))  # two steps, a best and their sums; nothing half written
        shutil.rmtree(folder)
    assert set(calls) >= {"open", "write", "flush", "fsync", "replace", "unlink", "close"}
    assert ("link" in calls) is not links
    if code:
        assert "unlink" in went_on  # what can't be deleted ends no run
        assert not {"open", "write", "flush", "fsync", "replace", "symlink"} & set(went_on)


def test_what_cannot_be_deleted_is_told_once(tmp_path, monkeypatch, caplog):
    session = written(tmp_path, keep=1)
    write(session, 1)

    unlink = Path.unlink

    def refuse(path: Path, **options: object) -> None:
        if path.name == "step_1.pt":
            raise OSError(errno.EIO, "Input/output error")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    for n in (2, 3, 4):
        write(session, n)
    assert caplog.text.count("Input/output error") == 1
    monkeypatch.undo()
    write(session, 5)
    assert names(tmp_path) == {*with_sums("step_5.pt"), "latest.pt"}


@pytest.mark.parametrize("what", ["the folder", "the curves", "an old result"])
def test_a_run_whose_disk_fails_ends_in_one_line(what, tmp_path, monkeypatch, caplog):
    run = new_run(tmp_path, "total_steps=64", "log.every=16", *SMALL)
    disk = OSError(errno.EROFS, "Read-only file system")

    def refuse(*args: object, **options: object) -> None:
        raise disk

    if what == "the folder":
        monkeypatch.setattr(Path, "mkdir", refuse)
    elif what == "the curves":
        monkeypatch.setattr(run.board.writer, "flush", refuse)
    else:
        monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match="Read-only file system") as caught:
        run.execute()
    assert "\n" not in str(caught.value)
    assert not caplog.records
    assert '"failed"' in (tmp_path / "result.json").read_text()
