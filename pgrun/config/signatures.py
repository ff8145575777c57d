"""Read the arguments of classes and functions from their source: names, types, ranges and meanings.

The source is parsed, not imported, so that a config can be checked before torch is loaded.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pgrun.config import ranges

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("pgrun", "hydra_plugins")


@dataclass(frozen=True)
class Setting:
    """One argument of a constructor.

    Args:
        name: the argument's.
        type: its annotation; `Part` where that is a class or function, which a mapping with a `_target_` makes.
        meaning: from the docstring's Args; empty if it has none.
        required: whether it has no default.
        default: its default, if that is a plain value.
        owner: the class or function that takes it, as `pgrun.algos.ppo.PPO`.
    """

    name: str
    type: Any
    meaning: str
    required: bool
    default: Any
    owner: str


@dataclass(frozen=True)
class Signature:
    """All arguments of a class or function, including those of its base classes.

    Args:
        owner: its full name.
        settings: by name.
        open: whether it takes any other argument, too.
        summary: the first paragraph of its docstring.
    """

    owner: str
    settings: dict[str, Setting]
    open: bool
    summary: str


class Part(type):
    """The metaclass of stand-ins for classes that are not imported here, and for their attributes."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return part(f"{cls.__name__}.{name}")

    def __getitem__(cls, _: Any) -> Any:
        return cls


def part(name: str, target: str = "") -> Any:
    """Make a stand-in for a class in an annotation.

    Args:
        name: the class's name in the annotation.
        target: its full name, if it is pgrun's.
    """
    return Part(name, (), {"target": target})


@cache
def parsed(module: str) -> ast.Module | None:
    """Parse a module of pgrun; return None for any other."""
    path = source(module)
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def source(module: str) -> Path | None:
    """Return the file of a module of pgrun; None for any other."""
    if module.split(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*module.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


Definition = ast.ClassDef | ast.FunctionDef | ast.Assign


def find(target: str) -> tuple[str, Definition] | None:
    """Find where a name such as `pgrun.nn.MLP` is defined: its module, and the statement there."""
    module, _, name = target.rpartition(".")
    tree = parsed(module) if module else None
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(f"{node.module}.{alias.name}")
    return None


class Names(dict[str, Any]):
    """The names in a module's annotations: types, ranges, and the module's own; any other becomes a `Part`."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module

    def __missing__(self, name: str) -> Any:
        for known in (ranges, typing, builtins):
            if hasattr(known, name):
                return getattr(known, name)
        if name in ("Mapping", "Sequence"):
            return {"Mapping": typing.Mapping, "Sequence": typing.Sequence}[name]
        found = find(f"{self.module}.{name}")
        if found and isinstance(found[1], ast.Assign):
            return evaluated(found[1].value, found[0])
        return part(name, f"{found[0]}.{name}" if found else "")


def evaluated(node: ast.expr, module: str) -> Any:
    """Evaluate an annotation."""
    return eval(compile(ast.Expression(node), module, "eval"), {"__builtins__": {}}, Names(module))


@cache
def signature(target: str) -> Signature | None:
    """Read the arguments of a class or function of pgrun; return None for any other."""
    found = find(target)
    if found is None or isinstance(found[1], ast.Assign):
        return None
    module, node = found[0], found[1]
    owner = f"{module}.{node.name}"
    text = ast.get_docstring(node) or ""
    summary = text.split("\n\n")[0].replace("\n", " ")
    if isinstance(node, ast.FunctionDef):
        return Signature(owner, dict(own(node, module, owner, text)), node.args.kwarg is not None, summary)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    bases = [base for base in (signature(f"{module}.{ast.unparse(base)}") for base in node.bases) if base]
    if init is None and is_dataclass(node):
        of_bases = {name: value for base in bases for name, value in base.settings.items()}
        own_fields = dict(fields(node, module, owner, text))
        return Signature(owner, {**with_meanings(of_bases, text), **own_fields}, False, summary)
    if init is None:
        settings = {name: value for base in reversed(bases) for name, value in base.settings.items()}
        is_open = any(base.open for base in bases) if bases else bool(node.bases)
        return Signature(owner, with_meanings(settings, text), is_open, summary)
    settings = dict(own(init, module, owner, text + "\n\n" + (ast.get_docstring(init) or "")))
    if init.args.kwarg is None or not passes_rest(init):
        return Signature(owner, settings, init.args.kwarg is not None, summary)
    given = passed_on(init)  # by this class itself, so not settings of it
    for base in bases:
        more = {name: value for name, value in base.settings.items() if name not in settings and name not in given}
        settings |= with_meanings(more, text)
    return Signature(owner, settings, any(base.open for base in bases) or not bases, summary)


def with_meanings(settings: dict[str, Setting], text: str) -> dict[str, Setting]:
    """Replace the meanings of settings by those in a subclass's docstring."""
    said = meanings(text)
    return {
        name: Setting(**{**vars(value), "meaning": said.get(name) or value.meaning}) for name, value in settings.items()
    }


def passed_on(init: ast.FunctionDef) -> set[str]:
    """Find the keywords that a constructor itself passes to its base's."""
    calls = [n for n in ast.walk(init) if isinstance(n, ast.Call) and ast.unparse(n.func) == "super().__init__"]
    return {keyword.arg for call in calls for keyword in call.keywords if keyword.arg}


def passes_rest(init: ast.FunctionDef) -> bool:
    """Return whether a constructor passes its `**arguments` to its base's."""
    calls = [n for n in ast.walk(init) if isinstance(n, ast.Call) and ast.unparse(n.func) == "super().__init__"]
    return any(keyword.arg is None for call in calls for keyword in call.keywords)


def is_dataclass(node: ast.ClassDef) -> bool:
    """Return whether a class is decorated as a dataclass."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def fields(node: ast.ClassDef, module: str, owner: str, text: str) -> Iterator[tuple[str, Setting]]:
    """Yield the settings of a dataclass."""
    said = meanings(text)
    for n in node.body:
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not is_class_variable(n):
            name = n.target.id
            default = plain(n.value) if n.value else None
            yield name, Setting(name, evaluated(n.annotation, module), said.get(name, ""), not n.value, default, owner)


def is_class_variable(node: ast.AnnAssign) -> bool:
    """Return whether a dataclass's attribute is no field."""
    return "ClassVar" in ast.unparse(node.annotation)


def own(node: ast.FunctionDef, module: str, owner: str, text: str) -> Iterator[tuple[str, Setting]]:
    """Yield the settings in a function's own list of arguments."""
    said, args = meanings(text), node.args
    listed = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(listed) - len(args.defaults)) + list(args.defaults)
    for arg, default in [*zip(listed, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]:
        if arg.arg == "self":
            continue
        type_ = evaluated(arg.annotation, module) if arg.annotation else Any
        value = plain(default) if default is not None else None
        yield arg.arg, Setting(arg.arg, type_, said.get(arg.arg, ""), default is None, value, owner)


def plain(node: ast.expr) -> Any:
    """Return a default that is written as a literal; None for any other."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def meanings(text: str) -> dict[str, str]:
    """Read the meaning of each name from the Args of a docstring."""
    found: dict[str, str] = {}
    for block in re.findall(r"(?:^|\n)Args:\n((?: +.*\n?|\n)+)", inspect.cleandoc(text) + "\n"):
        names: list[str] = []
        for line in block.splitlines():
            match = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
            if match:
                names = match[1].split(", ")
                found |= dict.fromkeys(names, match[2].strip())
            elif line.strip():
                found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
