"""Installed packages bring configs of their own: they are found by name, and a broken one breaks nothing else."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import a_package
import pytest
from shell import pgrun, pgrun_inside

import pgrun as package_of_pgrun

SOURCES = Path(package_of_pgrun.__file__).parents[1]
SHORT = ("total_steps=200", "eval.every=null", "eval.final_episodes=2")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed a package."""
    folder = tmp_path_factory.mktemp("package")
    a_package.install(a_package.build(folder / "sources"), folder / "site")
    return folder / "site"


@pytest.fixture
def installed(site: Path) -> Iterator[Path]:
    """The same, where Python looks for packages; its modules are forgotten afterwards."""
    with mock.patch.object(sys, "path", [*sys.path, str(site)]):
        yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "bold_algos"]:
        del sys.modules[name]


def fake(site: Path, name: str, value: str, *files: str) -> Path:
    """Put a package's metadata and config files into a folder, as pip would; return the folder."""
    (site / f"{name}-1.0.dist-info").mkdir(parents=True)
    (site / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (site / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[pgrun.configs]\nx = {value}\n")
    (site / name).mkdir()
    for file in files:
        path = site / name / "configs" / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# @package _global_\n# Theirs\nalgo: {_target_: theirs.Algo}\nnum_envs: 77\n")
    return site


def test_an_installed_package_is_listed_and_composed(installed, tmp_path):
    listed = pgrun_inside("list", cwd=tmp_path)
    assert (listed.code, listed.err) == (0, "")
    assert sum(line.endswith(" (package bold-algos)") for line in listed.out.splitlines()) == 6  # tuned is no group
    assert "  bold                       Actor-critic, but bold (package bold-algos)\n" in listed.out
    shown = pgrun_inside("algo=bold", "env=bold_guess", "optimizer=bold_adam", "--cfg", "job", cwd=tmp_path)
    assert shown.code == 0, shown.err
    for line in ("_target_: bold_algos.algo.Bold", "id: bold_algos.env:BoldGuess-v0", "gamma: 0.5", "lr: 0.03"):
        assert f"  {line}\n" in shown.out  # the last two as its tuned file and a section of it say
    assert pgrun_inside("--help", cwd=tmp_path).out.count("bold_mlp") == 1


def test_its_keys_are_explained_and_suggested(installed, tmp_path):
    page = pgrun_inside("explain", "boldness", "algo=bold", cwd=tmp_path)
    assert page.out.startswith("algo.boldness\n  weight of the critic, boldly\n")
    assert "used by algo=bold\n" in page.out
    assert "with algo=bold: 0.5" in page.out
    wrong = pgrun_inside("algo=bold", "algo.boldnes=1", cwd=tmp_path)
    assert (wrong.code, wrong.line) == (2, "pgrun: there is no key algo.boldnes; did you mean algo.boldness?")
    wrong = pgrun_inside("algo=blod", cwd=tmp_path)
    assert "; did you mean bold? algo is one of " in wrong.line


def test_nothing_of_a_package_is_imported_to_list_it(site, tmp_path):
    said = pgrun("list", "algos", cwd=tmp_path, PYTHONPATH=os.pathsep.join([str(SOURCES), str(site)]))
    assert "(package bold-algos)" in said.out
    code = "import sys; from pgrun.config.groups import members; members('algo'); print('bold_algos' in sys.modules)"
    code += "; print('importlib.metadata' in sys.modules)"
    for path, expected in ([SOURCES, site], "False\nTrue\n"), ([SOURCES], "False\nFalse\n"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
        out = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        ).stdout
        assert out == expected


@pytest.mark.parametrize(
    ("value", "files", "why"),
    [
        ("nowhere_at_all.configs", (), "names a package nowhere_at_all that is not there"),
        ("torn_algos.confs", ("algo/x",), "names no folder in "),
        ("torn_algos", (), "in which there are no .yaml files"),
        ("torn algos", (), "should name a package with YAML files, as my_package.configs"),
        ("json.configs", (), "names no folder in "),
    ],
)
def test_a_broken_package_is_one_line_and_breaks_nothing_else(tmp_path, value, files, why):
    fake(tmp_path / "site", "torn_algos", value, *files)
    with mock.patch.object(sys, "path", [*sys.path, str(tmp_path / "site")]):
        listed = pgrun_inside("list", "algos", cwd=tmp_path)
        assert listed.code == 0
        assert listed.line.startswith("pgrun: the package torn_algos is broken: its entry point pgrun.configs, x = ")
        assert why in listed.line
        assert "  ppo " in listed.out
        needed = pgrun_inside("algo=theirs", cwd=tmp_path)
        assert needed.code == 2
        assert "algo=theirs is not known" in needed.line
        assert "the package torn_algos is broken" in needed.line
        assert pgrun_inside("--cfg", "job", cwd=tmp_path).code == 0


def test_a_shipped_name_is_not_shadowed(tmp_path):
    fake(tmp_path / "site", "b_algos", "b_algos.configs", "algo/ppo", "tuned/ppo_cartpole", "algo/own")
    fake(tmp_path / "site", "c_algos", "c_algos.configs", "algo/own")
    with mock.patch.object(sys, "path", [*sys.path, str(tmp_path / "site")]):
        shown = pgrun_inside("algo=ppo", "--cfg", "job", cwd=tmp_path)
        assert "_target_: pgrun.algos.ppo.PPO\n" in shown.out
        assert "num_envs: 32\n" in shown.out  # as pgrun's tuned file says
        listed = pgrun_inside("list", "algos", cwd=tmp_path)
        lines = listed.err.splitlines()
        assert len(lines) == 3
        assert "the package b_algos has a config algo/ppo, which pgrun has, too: that of pgrun counts" in lines[0]
        assert "config tuned/ppo_cartpole" in lines[1]
        assert "the package c_algos has a config algo/own, which the package b_algos has, too: that of" in lines[2]
        assert "  own                        Theirs (package b_algos)\n" in listed.out
        theirs = ("--config-dir", str(tmp_path / "site" / "b_algos" / "configs"))  # as with any folder of the user's
        shown = pgrun_inside(*theirs, "algo=ppo", "--cfg", "job", cwd=tmp_path)
        assert "_target_: theirs.Algo\n" in shown.out
        assert "num_envs: 77\n" in shown.out


def test_the_working_directory_has_nothing_installed(tmp_path):
    fake(tmp_path, "d_algos", "d_algos.configs", "algo/stranger")
    with mock.patch.object(sys, "path", [*sys.path, str(tmp_path)]):
        assert "stranger" not in pgrun_inside("list", "algos", cwd=tmp_path).out
        (tmp_path / "elsewhere").mkdir()
        assert "stranger" in pgrun_inside("list", "algos", cwd=tmp_path / "elsewhere").out


@pytest.mark.slow
def test_it_trains_evaluates_resumes_and_sweeps_by_name(site, tmp_path):
    path = {"PYTHONPATH": os.pathsep.join([str(SOURCES), str(site)])}
    chosen = ("algo=bold", "env=bold_guess", "network=bold_mlp", "optimizer=bold_adam", "memory=bold_latest")
    ran = pgrun(*chosen, *SHORT, "hydra.run.dir=run", cwd=tmp_path, **path)
    assert ran.code == 0, ran.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["algo"], result["env"], result["status"]) == ("bold", "bold_guess", "finished")
    assert result["command"] == "pgrun " + " ".join([*chosen, *SHORT, "hydra.run.dir=run"])  # and no --config-dir
    assert result["tuned"] == ["num_envs", "algo.gamma", "optimizer.lr"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    evaluated = pgrun("eval", str(tmp_path / "run"), "--json", "--episodes", "3", cwd=elsewhere, **path)
    assert json.loads(evaluated.out)["eval_length_mean"] == 5.0
    resumed = pgrun("resume", str(tmp_path / "run"), "total_steps=300", cwd=elsewhere, **path)
    assert resumed.code == 0, resumed.err
    swept = pgrun("+sweep=[bold,joblib]", "env=bold_guess", *SHORT, "hydra.sweep.dir=sweep", cwd=tmp_path, **path)
    assert swept.code == 0, swept.err
    assert len(list((tmp_path / "sweep").glob("*/result.json"))) == 2
    line = {"COMP_LINE": "pgrun env=bold", "COMP_POINT": "14"}
    assert pgrun("-sc", "query=bash", cwd=tmp_path, **path, **line).out == "env=bold_guess\n"
    gone = pgrun("resume", "run", "total_steps=400", cwd=tmp_path, PYTHONPATH=str(SOURCES))
    assert gone.code == 2
    assert "bold_algos" in gone.line


@pytest.mark.slow
def test_a_module_that_raises_is_one_line(tmp_path):
    configs = {"algo/boom": a_package.ALGO_YAML.replace("bold_algos.algo", "boom_algos.boom")}
    sources = a_package.build(tmp_path / "sources", "boom-algos", "boom_algos.configs", configs)
    (sources / "boom_algos" / "boom.py").write_text("raise RuntimeError('boom')\n")
    a_package.install(sources, tmp_path / "site")
    path = {"PYTHONPATH": os.pathsep.join([str(SOURCES), str(tmp_path / "site")])}
    ran = pgrun("algo=boom", "hydra.run.dir=run", cwd=tmp_path, **path)
    assert (ran.code, ran.line) == (2, "pgrun: algo._target_=boom_algos.boom.Bold can't be had (RuntimeError: boom)")
    assert not (tmp_path / "run").exists()
    assert pgrun("list", cwd=tmp_path, **path).err == ""
