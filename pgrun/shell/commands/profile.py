"""The command `pgrun profile [key=value ...]`: where the time of a run goes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from pgrun.api.profiling import check_writable, profile
from pgrun.config.command_line import is_sweep
from pgrun.errors import UserError
from pgrun.run.console import on_stderr, remark, remarks_by
from pgrun.shell.arguments import Parser
from pgrun.shell.commands.eval import positive

SECONDS = 10.0


def main(argv: Sequence[str]) -> int:
    """Run `pgrun profile [key=value ...]`; return the exit code."""
    parser = Parser(
        prog="pgrun profile",
        description="Run a short stretch of a run, which leaves no run directory, and say where its time goes.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as those of a run: algo=ppo env=cartpole …")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive, help="environment steps to measure, after the warm-up")
    length.add_argument("--seconds", type=duration, default=SECONDS, help=f"seconds to measure ({SECONDS:g})")
    parser.add_argument("--ops", action="store_true", help="also name the operations of torch that take longest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own configs, and code beside it")
    if is_sweep(argv):
        raise UserError("pgrun profile looks at one run: leave out what makes it a sweep (-m, +sweep=…)")
    args = parser.parse_intermixed_args(argv)
    if args.json:
        check_writable(args.json)
    folder = ["--config-dir", str(args.config_dir)] if args.config_dir else []
    with remarks_by(on_stderr):
        found = profile([*folder, *args.overrides], steps=args.steps, seconds=args.seconds, ops=args.ops)
    from pgrun.run.profiling.show import page
    from pgrun.run.result_file import write_json

    if args.json:
        write_json(args.json, found)
        remark(f"all figures are in {args.json}")
    print(page(found), end="")
    return 0


def duration(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return value
