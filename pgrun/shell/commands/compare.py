"""The command `pgrun compare A B`: how two runs, or two folders of runs, differ, and their results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pgrun.after.extras import need
from pgrun.after.listing import filtered
from pgrun.after.records import Record, read_runs, without_reproductions
from pgrun.errors import UserError
from pgrun.run.console import remark, say
from pgrun.shell.arguments import Parser

if TYPE_CHECKING:
    from pgrun.after.comparison import Comparison, Outcome
    from pgrun.after.statistics import Estimate


def main(argv: Sequence[str]) -> int:
    """Run `pgrun compare A B`; return the exit code."""
    parser = Parser(
        prog="pgrun compare",
        usage="pgrun compare A B [--json]\n       pgrun compare [DIR ...] --a EXPR --b EXPR [--json]",
        description="Say how two runs, or two sets of runs, differ: B against A. Links in folders are not followed.",
    )
    parser.add_argument(
        "places",
        nargs="*",
        metavar="A B",
        help="runs, or folders of runs, as a sweep is, several of a side as DIR,DIR; with --a and --b where to look",
    )
    parser.add_argument(
        "--a", metavar="EXPR", help="the runs of A: those for which this holds, as with pgrun runs --filter"
    )
    parser.add_argument("--b", metavar="EXPR", help="the runs of B, as 'algo=a2c env=cartpole'")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_intermixed_args(argv)
    if (args.a is None) != (args.b is None):
        parser.error(f"--{'a' if args.a is None else 'b'} is missing: --a EXPR and --b EXPR go together")
    if args.a is None and len(args.places) < 2:
        parser.error(f"the following arguments are required: {'A, B' if not args.places else 'B'}")
    if args.a is None and len(args.places) > 2:
        parser.error("give A and B, each as DIR or DIR,DIR, or choose them by --a EXPR and --b EXPR")
    need("pgrun compare", "report", "scipy")
    names = args.places if args.a is None else [args.a, args.b]
    if args.a is None:
        sides = [originals(read_runs(*folders(place))) for place in names]
    else:
        records = originals(read_runs(*args.places))
        sides = [chosen(records, option, text) for option, text in zip(("--a", "--b"), names, strict=True)]
    if {record.folder for record in sides[0]} & {record.folder for record in sides[1]}:
        same = "are the same run" if len(sides[0]) == len(sides[1]) == 1 else "have runs in common"
        raise UserError(f"{names[0]} and {names[1]} {same}: name two that have none in common")
    from pgrun.after.comparison import compare, side_name  # imports scipy

    found = compare(*sides)
    if args.json:
        plain = {chapter: [each.plain for each in differences] for chapter, differences in found.differences.items()}
        say(json.dumps({**asdict(found), "differences": plain}))
        return 0
    say(f"A  {side_name(names[0], sides[0])}\nB  {side_name(names[1], sides[1])}")
    tell(found)
    return 0


def folders(place: str) -> list[str]:
    """Read a side's folders, with commas between several; a comma in the name of a single one is its own."""
    return [place] if Path(place).exists() else place.split(",")


def chosen(records: list[Record], option: str, text: str) -> list[Record]:
    """Choose the runs of a side.

    Raises:
        UserError: the condition can't be read, or holds for none.
    """
    kept = filtered(records, [text], option)
    if not kept:
        raise UserError(f"{option} {text}: this holds for none of {len(records)} runs; pgrun runs lists them")
    return kept


def originals(records: list[Record]) -> list[Record]:
    """Leave out reproductions, and say so."""
    kept, note = without_reproductions(records)
    if note:
        remark(f"pgrun: {note}")
    return kept


def tell(found: Comparison) -> None:
    """Print a comparison."""
    from pgrun.after.comparison import UNSET

    for chapter, differences in found.differences.items():
        both = [each for each in differences if UNSET not in (each.first, each.second)]
        width = min(40, max((len(each.name) for each in both), default=0))
        first = min(40, max((len(each.first) for each in both), default=0))
        say(f"\n{chapter}")
        for each in both:
            say(f"  {each.name:{width}}  {each.first:{first}}  ->  {each.second}")
        for name, lone in (
            ("A", [f"{each.name}={each.first}" for each in differences if each.second == UNSET]),
            ("B", [f"{each.name}={each.second}" for each in differences if each.first == UNSET]),
        ):
            if lone:
                say(f"  only in {name}: {', '.join(lone)}")
    if found.unknown:
        say(f"\nnot recorded: {', '.join(found.unknown)}")
    if found.same:
        say(f"\nthe same: {', '.join(found.same)}")
    for outcome in found.outcomes:
        say(f"\nresults in {outcome.env}")
        tell_outcome(outcome)
    for line in found.apart:
        say(f"\nnot compared: {line}")


def tell_outcome(outcome: Outcome) -> None:
    """Print the results in one environment."""
    for name, (iqm, runs) in (("A", outcome.first), ("B", outcome.second)):
        kind = f"IQM of {runs} runs" if runs > 1 else "one run"
        say(f"  {name:16} {figures(iqm)}  ({kind})")
    kind = f"95 % over {outcome.over}" if outcome.over else "no interval: a side has a single run"
    say(f"  {'B − A':16} {figures(outcome.difference)}  ({kind})")
    if outcome.over != "evaluation episodes":
        say(f"  {'P(B better)':16} {figures(outcome.improvement, 2)}")
    else:
        say("  one run each: this says nothing about other seeds")
    for line in outcome.left_out:
        say(f"  {line}")


def figures(estimate: Estimate, digits: int = 1) -> str:
    """Write an estimate with its interval, if it has one."""
    value, low, high = estimate
    return f"{value:.{digits}f}" + ("" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]")
