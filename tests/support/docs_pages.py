"""Reading the README and the pages of docs/: code blocks, command lines, files of examples, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("pgrun", "torchrun", "python", "pytest")


@dataclass(frozen=True)
class Block:
    """A block of code: its language ("" of an indented one), and its lines."""

    language: str
    lines: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Find the blocks of code of a page: fenced ones, and those that are indented by four spaces."""
    language: str | None = None
    lines: list[str] = []
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("```"):
            if language is not None:
                yield Block(language, tuple(lines))
            language, lines = (line[3:].strip(), []) if language is None else (None, [])
        elif language is not None:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        elif lines:
            yield Block("", tuple(lines))
            lines = []


def commands(page: Path) -> list[str]:
    """List the command lines in a page's indented blocks: each begins with one of PROGRAMS, without its comment."""
    found = []
    for block in blocks(page):
        for line in block.lines if not block.language else ():
            for part in re.split(r" && |\s{4,}", line):
                words = words_of(part)
                if words and words[0] in PROGRAMS:
                    found.append(shlex.join(words))
    return found


def words_of(line: str) -> list[str]:
    """Split a command line as a shell does; the program is named without its folder."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a piece of prose
        return []
    return [words[0].rpartition("/")[2], *words[1:]] if words else []


def inline_commands(page: Path) -> list[str]:
    """List the command lines that stand in a page's sentences and tables, in backticks, with at least one key."""
    found = re.findall(r"`((?:pgrun|torchrun) [^`]*)`", page.read_text(encoding="utf-8"))
    return [line for line in found if "=" in line and "…" not in line]


def files(page: Path) -> dict[str, str]:
    """Find a page's examples as a reader pastes them: blocks in whose first two lines a comment names the file."""
    found = {}
    for block in blocks(page):
        named = (re.fullmatch(r"# ([\w/.]+\.(?:py|yaml))", line) for line in block.lines[:2] if block.language)
        if name := next(filter(None, named), None):
            found[name[1]] = "\n".join(block.lines) + "\n"
    return found


def write_files(page: Path, folder: Path) -> None:
    """Write a page's examples into a folder."""
    for name, content in files(page).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def links(page: Path) -> list[str]:
    """List the targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """List the names by which a page's headings are linked to."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
