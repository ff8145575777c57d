"""`pgrun new` writes parts that run and pass their tests at the first try, and overwrites nothing."""

import os
import subprocess
import sys
from pathlib import Path

import a_package
import pytest
from shell import pgrun_inside

import pgrun as package_of_pgrun
from pgrun.config.templates import FOLDER, KINDS, commands

SOURCES = str(Path(package_of_pgrun.__file__).parents[1])
ALONE = [kind for kind in KINDS if kind != "package"]


def printed(out: str, what: str) -> list[str]:
    """The words of a command line that `pgrun new` printed."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"{what} ")]
    return line.split()[1:]


def python(*words: str, cwd: Path, path: str) -> str:
    """Run Python in a folder, and return its output; it has to end well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    ran = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_kind_has_its_test_and_a_docstring():
    assert sorted(KINDS) == sorted(path.name for path in FOLDER.iterdir())
    for kind in KINDS:
        names = [path.name for path in (FOLDER / kind).rglob("*.*")]
        assert "test_my_part.py" in names, kind


@pytest.mark.parametrize("kind", [kind for kind in ALONE if kind != "hook"])
def test_what_is_written_composes_by_the_line_that_is_printed(kind, tmp_path):
    made = pgrun_inside("new", kind, "my_idea", cwd=tmp_path)
    assert (made.code, made.err) == (0, "")
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"my_idea.py", f"conf/{kind}/my_idea.yaml", "test_my_idea.py"}
    for name in files:
        text = (tmp_path / name).read_text()
        assert name in made.out
        assert "my_part" not in text
        assert "MyPart" not in text
    assert "class MyIdea(" in (tmp_path / "my_idea.py").read_text()
    shown = pgrun_inside(*printed(made.out, "run")[1:], "--cfg", "job", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "my_idea" in shown.out


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "test_mine.py").write_text("mine")
    said = pgrun_inside("new", "algo", "mine", cwd=tmp_path)
    assert (said.code, said.line) == (
        2,
        "pgrun: test_mine.py is there already, and nothing is overwritten: choose another name, or --into DIR",
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["test_mine.py"]
    assert (tmp_path / "test_mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "why"),
    [
        ("algo", "my-idea", "'my-idea' should be of a–z, 0–9 and _, as my_idea"),
        ("algo", "../idea", "should be of a–z"),
        ("env", "2d", "should be of a–z"),
        ("env", "Maze", "should be of a–z"),
        ("env", "", "should be of a–z"),
        ("hook", "class", "'class' is a word of Python's"),
        ("algo", "ppo", "algo=ppo is there already (pgrun list algo)"),
        ("package", "cartpole", "env=cartpole is there already"),
        ("env", "random", "random is a module of Python's own"),
        ("network", "torch", "torch is an installed package"),
        ("memory", "null", "null is a value in YAML"),
    ],
)
def test_a_name_that_can_t_be(kind, name, why, tmp_path):
    said = pgrun_inside("new", kind, name, cwd=tmp_path)
    assert said.code == 2
    assert why in said.line
    assert not list(tmp_path.iterdir())


def test_another_folder(tmp_path):
    (tmp_path / "file").touch()
    said = pgrun_inside("new", "env", "maze", "--into", "file/deep", cwd=tmp_path)
    assert said.code == 2
    assert said.line.startswith("pgrun: file")
    made = pgrun_inside("new", "env", "maze", "--into", "a b/deep", cwd=tmp_path)
    assert made.code == 0, made.err
    assert (tmp_path / "a b" / "deep" / "conf" / "env" / "maze.yaml").is_file()
    assert "pgrun --config-dir 'a b/deep/conf' algo=ppo env=maze" in made.out
    assert "python -m pytest 'a b/deep/test_maze.py'" in made.out
    assert pgrun_inside("new", "optimiser", "mine", cwd=tmp_path).code == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_its_own_test_passes_at_the_first_try(kind, tmp_path):
    made = pgrun_inside("new", kind, "my_idea", cwd=tmp_path)
    out = python(*printed(made.out, "test")[1:], "-q", "-p", "no:cacheprovider", cwd=tmp_path, path=SOURCES)
    assert " passed" in out


@pytest.mark.slow
def test_a_package_is_found_once_it_is_installed(tmp_path):
    made = pgrun_inside("new", "package", "my_idea", cwd=tmp_path)
    assert printed(made.out, "install") == ["pip", "install", "-e", "./my_idea"]
    a_package.install(tmp_path / "my_idea", tmp_path / "site")
    path = os.pathsep.join([SOURCES, str(tmp_path / "site")])
    listed = python("-m", "pgrun", "list", cwd=tmp_path, path=path)
    assert listed.count("(package my_idea)") == 2
    out = python(*printed(made.out, "test")[1:], "-q", "-p", "no:cacheprovider", cwd=tmp_path, path=path)
    assert "2 passed" in out


def test_the_line_that_tests_begins_with_pytest_where_it_is_missing(monkeypatch):
    assert list(commands("algo", "mine", Path())) == ["run", "test"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert commands("algo", "mine", Path())["once"] == "pip install pytest"
