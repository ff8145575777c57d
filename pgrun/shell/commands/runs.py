"""The command `pgrun runs [DIR...]`: a table of runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence

from pgrun.after.listing import as_json, filtered, ordered, table
from pgrun.after.records import read_runs
from pgrun.run.console import remark, say
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun runs [DIR...]`; return the exit code."""
    parser = Parser(prog="pgrun runs", description="List runs, the latest last.")
    parser.add_argument("dirs", nargs="*", metavar="DIR", help="runs, sweeps or folders above (runs and multirun)")
    parser.add_argument("--sort", default=None, metavar="KEY", help="a column, or a key as algo.gamma (age)")
    parser.add_argument("--reverse", "-r", action="store_true", help="the greatest first")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="EXPR",
        help="only runs for which all of this holds, as 'algo=ppo return>400 status!=failed'; repeat it, if you like",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON, a list")
    args = parser.parse_intermixed_args(argv)
    records = read_runs(*args.dirs)
    kept = filtered(records, args.filter)
    if args.sort is not None:
        kept = ordered(kept or records, args.sort, descending=args.reverse) if kept else []
    elif args.reverse:
        kept.reverse()
    if args.json:
        say(json.dumps([as_json(record) for record in kept]))
        return 0
    if not kept:
        remark(f"none of {len(records)} runs: {' '.join(args.filter)} holds for none")
        return 0
    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    for line in table(kept, shutil.get_terminal_size().columns if wide else 10_000, args.sort):
        say(line)
    return 0
