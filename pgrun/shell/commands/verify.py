"""The command `pgrun verify RUN`: are a run's files as it wrote them?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.run.console import fail, say, shown
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun verify RUN`; return the exit code, 1 where a file is not as it was written."""
    parser = Parser(
        prog="pgrun verify",
        description="Check that a run's config, provenance, results and checkpoints are as it wrote them.",
    )
    parser.add_argument("run", type=Path, help="the run directory")
    args = parser.parse_args(argv)
    from pgrun.api.checking import verify  # imports torch: not for --help

    found = verify(args.run)
    for problem in found.problems:
        fail(f"{shown(args.run)}: {problem}")
    if found.problems:
        return 1
    say(f"{shown(args.run)}: {found.files} files are as the run wrote them")
    return 0
