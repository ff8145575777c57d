"""Files that are made once: found again, checked, bounded, and safe from others."""

import os
import subprocess
import sys

import pytest

from pgrun.errors import UserError
from pgrun.system.artifacts import Artifacts, cache_folder


def writer(made, text="content"):
    def make(path):
        made.append(path)
        path.write_text(text)

    return make


def test_a_file_is_made_once(tmp_path):
    made = []
    first = Artifacts(tmp_path / "a", ".so").get("key", writer(made))
    assert Artifacts(tmp_path / "a", ".so").get("key", writer(made)) == first
    assert (len(made), first.read_text()) == (1, "content")
    assert os.listdir(tmp_path / "a") == [first.name]


def test_a_broken_file_is_made_anew(tmp_path):
    made, folder = [], Artifacts(tmp_path / "a", ".so")
    path = folder.get("key", writer(made))
    path.write_text("cut")
    assert folder.get("key", writer(made)).read_text() == "content"
    assert len(made) == 2


def test_what_fails_while_it_is_made_leaves_nothing(tmp_path):
    folder = Artifacts(tmp_path / "a", ".so")
    with pytest.raises(KeyError):
        folder.get("key", lambda path: {}[path.write_text("half")])
    assert os.listdir(tmp_path / "a") == []


def test_a_folder_that_others_may_write_is_refused(tmp_path):
    there = tmp_path / "a"
    there.mkdir()
    there.chmod(0o777)
    with pytest.raises(UserError, match=r"is not yours alone: .* Use chmod 700"):
        Artifacts(there, ".so")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be made"):
        Artifacts(tmp_path / "file" / "a", ".so")


def test_the_oldest_go_when_all_are_too_large(tmp_path):
    folder, made = Artifacts(tmp_path / "a", ".so", largest=25), []
    for i, key in enumerate(("one", "two", "three")):
        os.utime(folder.get(key, writer(made, "0123456789")), (i, i))
    assert [path.name.partition("-")[0] for path in folder.files()] == ["two", "three"]
    assert folder.size() == 20
    (tmp_path / "a" / "making-left").mkdir()
    folder.clear()
    assert os.listdir(tmp_path / "a") == []


def test_the_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("PGRUN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "pgrun"
    monkeypatch.setenv("PGRUN_CACHE", "here")
    assert cache_folder().name == "here"


def test_of_two_processes_one_makes_it(tmp_path):
    program = f"""
import time
from pathlib import Path
from pgrun.system.artifacts import Artifacts
def make(path):
    print("made", flush=True)
    time.sleep(0.5)
    path.write_text("x")
print(Artifacts(Path({str(tmp_path / "a")!r}), ".so").get("key", make).name)
"""
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0].split() for process in both]
    assert sum(words.count("made") for words in said) == 1
    assert said[0][-1] == said[1][-1]
