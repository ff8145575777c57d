"""The wheel holds all that a run needs, away from the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with one folder more in its search path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    if path:
        environment["PYTHONPATH"] = path
    command = (sys.executable, *command)
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "-w", str(folder), str(ROOT), cwd=folder)
    (found,) = folder.glob("pgrun-*.whl")
    return found


def test_everything_travels(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"pgrun/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    code = {str(p.relative_to(ROOT)) for top in ("pgrun", "hydra_plugins") for p in (ROOT / top).rglob("*.py")}
    assert len(configs) > 40
    templates = {str(p.relative_to(ROOT)) for p in (ROOT / "pgrun" / "templates").rglob("*.[yt]*ml")}
    assert len(templates) > 6
    assert configs | code | templates | {"pgrun/py.typed"} <= inside
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == {"pgrun", "hydra_plugins"}


@pytest.mark.slow
def test_an_installed_copy_composes_and_trains(wheel, tmp_path):
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(
        "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=elsewhere
    )

    where = "import pgrun, pgrun.config.paths, hydra_plugins.pgrun_plugins as l\n"
    where += "print(pgrun.__file__, pgrun.config.paths.config_dir(), l.__file__, sep='\\n')"
    found = run("-c", where, cwd=elsewhere, path=str(target)).stdout.splitlines()
    assert found[0] == str(target / "pgrun" / "__init__.py")
    assert found[1] == str(target / "pgrun" / "configs")
    assert found[2] == str(target / "hydra_plugins" / "pgrun_plugins.py")

    shown = run("-m", "pgrun", "--cfg", "job", cwd=elsewhere, path=str(target)).stdout
    assert "id: CartPole-v1" in shown
    assert not list(elsewhere.iterdir())

    short = ("total_steps=1000", "eval.every=null", "eval.final_episodes=2", "hydra.run.dir=run")
    run("-m", "pgrun", "algo=ppo", "env=cartpole", *short, cwd=elsewhere, path=str(target))
    result = json.loads((elsewhere / "run" / "result.json").read_text())
    assert (result["status"], result["eval_episodes"]) == ("finished", 2)
    assert result["env_steps"] >= 1000
