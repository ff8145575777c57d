"""The command `pgrun reproduce RUN`: run it again, and say at which evaluation the two part, if they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.after.reproduced import lines_of
from pgrun.run.console import on_stderr, remarks_by, say
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun reproduce RUN [key=value ...]`; return the exit code, 1 where the two runs part."""
    parser = Parser(
        prog="pgrun reproduce",
        description="Run a run again, in a new directory, and say at which evaluation the two part, if they do.",
    )
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="to see when a change first shows")
    parser.add_argument("--until", type=int, metavar="STEP", help="stop at the first evaluation from this step on")
    parser.add_argument("--into", type=Path, metavar="DIR", help="the new run directory (RUN-reproduced)")
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_intermixed_args(argv)
    from pgrun.api.checking import reproduce  # imports torch: not for --help

    with remarks_by(on_stderr):
        found = reproduce(args.run, *args.overrides, until=args.until, into=args.into, trust=args.trust)
    for line in lines_of(args.run, found):
        say(line)
    return 0 if found.identical else 1
