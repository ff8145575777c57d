"""The house stands: imports point down from room to room, nothing goes round in a circle, no file is too long."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pgrun

ROOT = Path(pgrun.__file__).resolve().parent
FILES = sorted(path for path in ROOT.rglob("*.py") if not path.is_relative_to(ROOT / "templates"))

# The rooms from the ground up: each may import those before it, and none that comes after.
FLOORS = (
    *(
        "errors",
        "compat",
        "config",
        "trust",
        "core",
        "data",
        "system",
        "nn",
        "envs",
        "optim",
        "collect",
        "memory",
        "algos",
    ),
    *("loop", "hooks", "run", "parallel", "sweep", "after", "api", "shell"),
)
# What a room may not import although it stands higher: neighbours that have nothing to do with each other.
APART = {
    "core": {"compat"},
    "envs": {"nn"},
    "optim": {"envs"},
    "memory": {"nn", "optim"},
    "algos": {"envs", "collect", "memory"},
}
# Packages that belong to certain rooms alone.
OWNERS = {
    "hydra": {"config", "compat", "run", "sweep", "api", "shell"},
    "omegaconf": {"config", "compat", "trust", "run", "sweep", "after", "api", "shell"},
    "tensorboard": {"run"},
    "torch.utils.tensorboard": {"run"},
    "ray": {"parallel", "sweep", "compat"},
    "optuna": {"sweep"},
    "submitit": {"sweep"},
    "joblib": {"compat", "sweep"},
    "wandb": {"hooks"},
    "mlflow": {"hooks"},
    "gymnasium": {"config", "data", "nn", "envs", "algos", "collect", "memory", "loop", "run", "parallel", "after"},
}
LONGEST = 300  # lines of a file
LONGEST_PAPER = 150  # of an algorithm's


def room_of(module: str) -> str:
    """Name the room that a module of pgrun's is in; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def module_of(path: Path) -> str:
    """Name a file's module."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """List every module that a file imports, anywhere in it, by its absolute name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            assert node.module
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in names}
    return frozenset(found)


@cache
def modules() -> dict[str, Path]:
    """Every module of pgrun's, by its name."""
    return {module_of(path): path for path in FILES}


def within(module: str, package: str) -> bool:
    """Whether a module is a package or lies in it."""
    return module == package or module.startswith(f"{package}.")


def arrows() -> list[tuple[str, str]]:
    """Every import from one module of pgrun's to another."""
    return [(name, other) for name, path in modules().items() for other in imports(path) if other in modules()]


def test_the_walk_sees_what_is_there() -> None:
    assert {room_of(name) for name in modules()} - {"", "__main__"} == set(FLOORS)
    assert "torch" in imports(ROOT / "loop" / "train.py")
    assert ("pgrun.nn.normalize", "pgrun.core.returns") in arrows()
    assert any(within(m, "torch.utils.tensorboard") for m in imports(ROOT / "run" / "tensorboard.py"))
    assert any(within(m, "pgrun.run.run") for m in imports(ROOT / "api" / "app.py"))  # within functions, too


def test_the_front_page_has_this_order() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert ("errors", *re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == FLOORS


def test_no_arrow_runs_back_up() -> None:
    floor = {room: number for number, room in enumerate(FLOORS)}
    wrong = [
        f"{name} -> {other}"
        for name, other in arrows()
        if room_of(name) in floor and room_of(other) in floor and floor[room_of(name)] < floor[room_of(other)]
    ]
    assert wrong == []


def test_rooms_that_have_nothing_to_do_with_each_other() -> None:
    wrong = [f"{name} -> {other}" for name, other in arrows() if room_of(other) in APART.get(room_of(name), ())]
    assert wrong == []


def test_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, other in arrows():
        if name != other and name != "pgrun":
            graph.setdefault(name, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("package", OWNERS)
def test_a_package_belongs_to_its_rooms(package: str) -> None:
    users = {room_of(name) for name, path in modules().items() if any(within(m, package) for m in imports(path))}
    assert users <= OWNERS[package]


def test_core_is_torch_and_mathematics() -> None:
    others = {m for name, path in modules().items() if room_of(name) == "core" for m in imports(path)}
    assert {
        m
        for m in others
        if m.split(".")[0] not in sys.stdlib_module_names
        and not within(m, "torch")
        and not within(m, "pgrun.core")
        and m not in ("pgrun.config.ranges", "pgrun.config.schedule_text")
    } == set()


def test_settings_are_checked_without_torch() -> None:
    users = {name for name, path in modules().items() if any(within(m, "torch") for m in imports(path))}
    assert {name for name in users if room_of(name) == "config"} == set()


def test_every_room_says_what_lives_there() -> None:
    for path in FILES:
        if path.name == "__init__.py" and path.parent != ROOT:
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_file_is_too_long() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lines.items() if n > LONGEST} == {}
    papers = {name: n for name, n in lines.items() if name.startswith("algos/") and "/parts/" not in name}
    assert {name: n for name, n in papers.items() if n > LONGEST_PAPER} == {}


def test_no_module_changes_another_one_s_globals() -> None:
    """Names that a module keeps for itself have an underscore, and nobody else reads or writes them."""
    wrong = []
    for name, path in modules().items():
        tree = ast.parse(path.read_text())
        taken = {
            (alias.asname or alias.name): f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        private = (full for full in taken.values() if within(full, "pgrun") and "._" in full.replace(".__", ""))
        wrong += [f"{name} takes {full}" for full in private]
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if (
                    isinstance(target, ast.Attribute)
                    and isinstance(target.value, ast.Name)
                    and taken.get(target.value.id) in modules()
                ):
                    wrong.append(f"{name} changes {taken[target.value.id]}.{target.attr}")
    assert wrong == []


@pytest.mark.parametrize("module", ["pgrun", "pgrun.shell.cli"])
def test_the_shells_entry_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "hydra", "omegaconf", "gymnasium", "numpy")
    code = f"import sys, {module}; print(*(m for m in {heavy} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_no_test_imports_another() -> None:
    """Helpers that several tests use are in tests/support, where each module has one name."""
    tests = Path(__file__).parent
    folders = {"tests", "support", *(path.name for path in tests.iterdir() if path.is_dir())} - {"scripts", "shell"}
    for file in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            first = {name.split(".")[0] for name in names}
            assert not first & folders, f"{file.name}: import helpers by their own name"
            assert not [name for name in first if name.startswith("test_")], f"{file.name} imports a test"
