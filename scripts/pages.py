"""Write the generated parts of the docs: what stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.

    python scripts/pages.py                # all that take no time
    python scripts/pages.py combinations   # one by its name; this one builds each combination: a minute or two

Run it after a change of a config file, of a setting's type or meaning, or of a CSV in scripts/results; a test compares.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import combinations
import config_page
import doctor_page
import learning
import long_runs
import mujoco_table
import options
import solved
import versus
import worst_seeds

DOCS = Path(__file__).resolve().parent.parent / "docs"


@dataclass(frozen=True)
class Part:
    """A generated part of a page.

    Args:
        page: the page's file, in docs/.
        write: makes its Markdown.
        quick: whether that takes less than a second.
    """

    page: str
    write: Callable[[], str]
    quick: bool = True


PARTS = {
    "learning": Part("results.md", learning.table),
    "worst": Part("results.md", worst_seeds.table),
    "mujoco": Part("results.md", mujoco_table.table),
    "versus": Part("results.md", versus.table),
    "solved": Part("speed.md", solved.table),
    "long": Part("speed.md", long_runs.table),
    "combinations": Part("estimators.md", combinations.page, quick=False),
    "options": Part("algorithms.md", options.page, quick=False),
    "doctor-rules": Part("doctor.md", doctor_page.rules),
    "doctor-trials": Part("doctor.md", doctor_page.trials),
    "groups": Part("configs.md", config_page.groups),
    "root": Part("configs.md", config_page.root),
    "keys": Part("configs.md", config_page.keys),
}


def marks(name: str) -> tuple[str, str]:
    """Give the lines that a part stands between."""
    return f"<!-- generated: {name} -->\n\n", f"\n\n<!-- end: {name} -->"


def read(name: str) -> str:
    """Read a part as it stands in its page."""
    before, after = marks(name)
    found = re.search(f"{re.escape(before)}(.*?){re.escape(after)}", text(PARTS[name].page), re.DOTALL)
    if not found:
        raise LookupError(f"docs/{PARTS[name].page} has no part {name}")
    return found[1]


def write(name: str) -> bool:
    """Put a part into its page anew; tell whether that changed it."""
    old, new = read(name), PARTS[name].write()
    before, after = marks(name)
    page = PARTS[name].page
    content = text(page).replace(f"{before}{old}{after}", f"{before}{new}{after}")
    (DOCS / page).write_text(content, encoding="utf-8")
    return old != new


def text(page: str) -> str:
    """Read a page."""
    return (DOCS / page).read_text(encoding="utf-8")


def main() -> None:
    """Write the parts that are named, or all that are quick."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"which ({', '.join(PARTS)}); all but the slow ones")
    names = parser.parse_args().parts or [name for name, part in PARTS.items() if part.quick]
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]}; choose from {', '.join(PARTS)}")
    for name in names:
        print(f"docs/{PARTS[name].page}: {name} {'written' if write(name) else 'is as it was'}")


if __name__ == "__main__":
    main()
