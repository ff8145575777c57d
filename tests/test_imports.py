"""Imports point one way; nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pgrun

ROOT = Path(pgrun.__file__).resolve().parent
FILES = sorted(ROOT.rglob("*.py"))
# these may know of Hydra
CONFIGURED = {
    "app.py",
    "build.py",
    "check.py",
    "cli.py",
    "commands.py",
    "eval_env.py",
    "explain.py",
    "hydra_start.py",
    "opening.py",
    "origin.py",
    "quoting.py",
    "resolvers.py",
    "run.py",
    "run_directory.py",
    "shown_config.py",
    "sweep.py",
    "sweep_table.py",
    "tell.py",
    "translate.py",
    "config/files.py",
    "config/values.py",
    "config/walk.py",
    "tuning.py",
    "wrapper_settings.py",
}
LOWER = ("core", "nn", "envs", "algos")  # with the single files below: what a run is made of
SINGLE = {
    *(
        "types.py",
        "errors.py",
        "optim.py",
        "gradient_step.py",
        "memory.py",
        "replay.py",
        "ring.py",
        "room.py",
        "collect.py",
        "train.py",
    ),
    *("evaluate.py", "episodes.py", "table.py", "episode_file.py", "demonstrations.py"),
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def imports(path):
    """Every module that a file imports, anywhere in it, by its absolute name."""
    found = set()
    package = ["pgrun", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


def within(module, *packages):
    """Whether a module is one of these or lies in one."""
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def offenders(files, *packages):
    return {name_of(f): sorted(m for m in imports(f) if within(m, *packages)) for f in files}


def assert_none(files, *packages):
    files = list(files)
    assert files
    assert {name: found for name, found in offenders(files, *packages).items() if found} == {}


def in_folder(*names):
    return [f for f in FILES if name_of(f).split("/")[0] in names]


def lower():
    return in_folder(*LOWER) + [f for f in FILES if name_of(f) in SINGLE]


def test_the_walk_sees_what_is_there():
    assert within("pgrun.core.returns", "pgrun.core")
    assert not within("pgrun.corex", "pgrun.core")
    assert "torch.optim" not in imports(ROOT / "errors.py")
    assert "torch" in imports(ROOT / "train.py")
    assert "pgrun.core.returns" in imports(ROOT / "nn" / "normalize.py")
    assert any(within(m, "torch.utils.tensorboard", "tensorboard") for m in imports(ROOT / "logger.py"))
    assert any(within(m, "hydra") for m in imports(ROOT / "app.py"))  # found inside functions, too
    assert {name_of(f) for f in FILES} >= SINGLE | CONFIGURED


def test_core_is_torch_and_mathematics():
    for path in in_folder("core"):
        others = {
            m
            for m in imports(path)
            if m.split(".")[0] not in sys.stdlib_module_names
            and not within(m, "torch", "pgrun.core", "pgrun.config.ranges")
        }
        assert others <= {"pgrun", "pgrun.config"}, name_of(path)


def test_what_a_run_is_made_of_knows_no_config_and_no_logger():
    assert_none(lower(), "hydra", "omegaconf", "tensorboard", "torch.utils.tensorboard", "tensorboardX")


def test_only_the_logger_writes_tensorboard():
    assert_none(
        (f for f in FILES if name_of(f) != "logger.py"), "tensorboard", "torch.utils.tensorboard", "tensorboardX"
    )


def test_only_the_shells_side_knows_hydra():
    assert_none((f for f in FILES if name_of(f) not in CONFIGURED), "hydra", "omegaconf")


def test_what_a_run_is_made_of_does_not_reach_up():
    assert_none(
        lower(), *(f"pgrun.{Path(name).stem}" for name in CONFIGURED), "pgrun.loop.hooks", "pgrun.run.tensorboard"
    )


def test_algorithms_see_no_environments_and_no_loop():
    above = ("envs", "hooks", "collect", "memory", "train", "evaluate", "checkpoint")
    assert_none(in_folder("algos"), *(f"pgrun.{name}" for name in above))


def test_networks_see_no_algorithms():
    above = ("algos", "envs", "hooks", "collect", "memory", "train", "evaluate", "checkpoint", "optim", "gradient_step")
    assert_none(in_folder("nn"), *(f"pgrun.{name}" for name in above))


def test_environments_see_no_algorithms_and_no_networks():
    above = (
        "algos",
        "nn",
        "core",
        "hooks",
        "collect",
        "memory",
        "train",
        "evaluate",
        "checkpoint",
        "optim",
        "gradient_step",
    )
    assert_none(in_folder("envs"), *(f"pgrun.{name}" for name in above))


@pytest.mark.parametrize("module", ["pgrun", "pgrun.shell.cli"])
def test_the_shells_entry_loads_nothing_heavy(module):
    heavy = ("torch", "hydra", "omegaconf", "gymnasium", "numpy")
    code = f"import sys, {module}; print(*(m for m in {heavy} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_helper_of_the_tests_has_one_name():
    """A module that is imported as `odd` and as `envs.odd` is two: what one registers, the other doesn't know."""
    tests = Path(__file__).parent
    folders = {"tests", *(path.name for path in tests.iterdir() if path.is_dir())}
    for file in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not folders & {name.split(".")[0] for name in names}, f"{file.name}: import it by its last name"
