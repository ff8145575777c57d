"""The README says what there is: each folder, each algorithm, the commands that CI runs."""

import ast
import re
import shlex

import yaml
from docs_pages import ROOT, words_of

import pgrun
from pgrun.config.paths import config_dir

README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text().replace('"$bin/', "").replace('"', "")
PACKAGE = ROOT / "pgrun"
FOLDERS = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
ALGORITHMS = {path.stem for path in (config_dir() / "algo").glob("*.yaml")}


def folder_of(module):
    """The folder of pgrun that a module lies in; "" of what lies in none."""
    parts = module.split(".")
    return parts[1] if parts[0] == "pgrun" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def imported(path):
    """The folders that a file imports from, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (folder_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield folder_of(node.module)
            yield from (folder_of(f"{node.module}.{alias.name}") for alias in node.names)


def test_each_folder_has_a_line():
    there = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert set(FOLDERS) == there
    assert len(FOLDERS) == len(there)


def test_each_folder_imports_from_those_above_it_alone():
    for i, folder in enumerate(FOLDERS):
        for path in (PACKAGE / folder).rglob("*.py"):
            below = set(imported(path)) - set(FOLDERS[: i + 1]) - {""}
            assert not below, f"{path.relative_to(ROOT)} imports from {', '.join(below)}"


def test_each_algorithm_is_named():
    section = README.partition("\n## Algorithms\n")[2].partition("\n## ")[0]
    rows = " ".join(line for line in section.splitlines() if line.startswith("| "))
    assert set(re.findall(r"`(\w+)`", rows)) == ALGORITHMS
    table = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")
    first_cells = " ".join(re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_cells)) == ALGORITHMS


def test_ci_installs_and_tests_by_the_commands_of_the_front_page():
    (line,) = [line for line in README.splitlines() if line.endswith("pytest -n 2")]
    for part in line.split(" && ")[1:]:
        command = shlex.join(words_of(part.strip())).replace("pip install", "pip install -q").replace("'", "")
        assert command in CI.replace("'", ""), command


def test_hooks_are_the_linters_that_ci_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].replace(" --force-exclude", "") for hook in hooks]
    linters = [line.removesuffix(" .") for line in CI.splitlines() if line.startswith(("ruff", "mypy"))]
    assert entries == linters


def test_the_version_has_its_changes():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", changes, re.MULTILINE)[0] == pgrun.__version__


def test_it_is_read_in_two_minutes():
    assert len(README.splitlines()) < 175
