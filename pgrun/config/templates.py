"""Parts of a user's own to start from: an algorithm, environment, network, memory or hook, with its config and test."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import keyword
import os
import re
import shlex
import sys
from pathlib import Path

from pgrun.config.groups import members
from pgrun.errors import UserError

FOLDER = Path(__file__).resolve().parents[1] / "templates"  # a folder of files for each kind
KINDS = ("algo", "env", "network", "memory", "hook", "package")
# where a package has what another kind has too
SHARED = {"package": {"my_part/my_part/algo.py": "algo/my_part.py", "my_part/my_part/env.py": "env/my_part.py"}}
GROUPED = {"package": ("algo", "env")}  # groups in which a kind's name is taken; else the kind itself
# what stands in the templates in the place of the name, and of the class's
NAME, CLASS = "my_part", "MyPart"
RUN = {
    "algo": "--config-dir {conf} algo={name} env=cartpole",
    "env": "--config-dir {conf} algo=ppo env={name}",
    "network": "--config-dir {conf} algo=ppo network={name} env=cartpole",
    "memory": "--config-dir {conf} algo=a2c memory={name} env=cartpole",
    "hook": "algo=ppo env=cartpole hooks.{name}._target_={name}.{klass}",
    "package": "algo={name} env={name}",
}


def write(kind: str, name: str, into: Path) -> list[Path]:
    """Write a part's files.

    Args:
        kind: one of KINDS.
        name: the part's.
        into: the folder; it is made where there is none.

    Returns:
        The files.

    Raises:
        UserError: the name can't be had, a file is there already, or one can't be written.
    """
    check_name(kind, name)
    texts = {into / filled(place, name): path for place, path in templates(kind).items()}
    for path in texts:
        if os.path.lexists(path):
            raise UserError(f"{path} is there already, and nothing is overwritten: choose another name, or --into DIR")
    made: list[Path] = []
    try:
        for path, template in texts.items():
            for folder in reversed([folder for folder in path.parents if not folder.exists()]):
                folder.mkdir()
                made.append(folder)
            with open(path, "x", encoding="utf-8") as file:
                made.append(path)
                file.write(filled(template.read_text(encoding="utf-8"), name))
    except OSError as error:
        for path in reversed(made):  # nothing is left half-written
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink()
        raise UserError(f"{error.filename or into} can't be written: {error.strerror or error}") from error
    return list(texts)


def templates(kind: str) -> dict[str, Path]:
    """Find the files of a kind's template, by where each belongs; some are those of another kind."""
    folder = FOLDER / kind
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files |= {place: FOLDER / path for place, path in SHARED.get(kind, {}).items()}
    kept = [place for place in files if "__pycache__" not in place]
    return {place: files[place] for place in sorted(kept, key=lambda p: (p.endswith(".yaml"), "test_" in p, p))}


def filled(text: str, name: str) -> str:
    """Put a part's name into a template."""
    return text.replace(NAME, name).replace(CLASS, class_name(name))


def class_name(name: str) -> str:
    """Write a name as a class's: my_algo as MyAlgo."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def check_name(kind: str, name: str) -> None:
    """Refuse a name that can't be a part's: it becomes a module's, a config's and a class's.

    Raises:
        UserError: it is no such name, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or not class_name(name).isidentifier():
        why = "is a word of Python's" if keyword.iskeyword(name) else "should be of a–z, 0–9 and _, as my_idea"
        raise UserError(f"{name!r} {why}: it becomes the name of a module and of a config")
    if name in ("null", "true", "false", "yes", "no", "on", "off", "none"):
        raise UserError(f"{name} is a value in YAML, so no config can be called so: choose another name")
    for group in GROUPED.get(kind, (kind,)):
        if kind != "hook" and name in members(group):
            raise UserError(f"{group}={name} is there already (pgrun list {group}): choose another name")
    if name in sys.stdlib_module_names:
        raise UserError(f"{name} is a module of Python's own, in whose place {name}.py would be taken: choose another")
    here = [place for place in sys.path if place and Path(place).resolve() != Path.cwd()]
    if name in sys.builtin_module_names or importlib.machinery.PathFinder.find_spec(name, here):
        raise UserError(f"{name} is an installed package, which would be taken for {name}.py: choose another name")


def commands(kind: str, name: str, into: Path) -> dict[str, str]:
    """Write the command lines that run a new part and that test it.

    Args:
        kind: one of KINDS.
        name: the part's.
        into: the folder in which it is.
    """
    conf = shlex.quote(str(into / "conf"))
    run = "pgrun " + RUN[kind].format(conf=conf, name=name, klass=class_name(name))
    test = f"python -m pytest {shlex.quote(str(into / f'test_{name}.py'))}"
    first = {} if importlib.util.find_spec("pytest") else {"once": "pip install pytest"}
    if kind == "package":
        folder = shlex.quote(os.path.join(".", into / name))  # pip takes a bare name for one on PyPI
        return {"install": f"pip install -e {folder}", "run": run, **first, "test": f"python -m pytest {folder}"}
    if kind == "hook" and into.resolve() != Path.cwd():
        run = f"cd {shlex.quote(str(into))} && {run}"
    return {"run": run, **first, "test": test}
