"""The command `pgrun report [DIR...]`: a page on runs, with learning curves, scores and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pgrun.after.extras import need
from pgrun.after.records import read_runs, without_reproductions
from pgrun.errors import UserError
from pgrun.run.console import remark, say, shown
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun report [DIR...]`; return the exit code."""
    parser = Parser(
        prog="pgrun report",
        description="Write a page on runs, grouped by everything but the seed; pictures and tables lie beside it.",
    )
    parser.add_argument("dirs", nargs="*", metavar="DIR", help="runs, sweeps or folders above (runs and multirun)")
    parser.add_argument("-o", "--out", type=Path, default=Path("report"), help="the folder to write into (report)")
    parser.add_argument(
        "--threshold",
        action="append",
        default=[],
        metavar="ENV=RETURN",
        help="by an environment's id the return to reach (what it has registered); without ENV= for a single one",
    )
    parser.add_argument(
        "--scores",
        action="append",
        default=[],
        metavar="ENV=LOW:HIGH",
        help="by an environment's id the scores that count as 0 and 1, for aggregates over environments; repeat it",
    )
    parser.add_argument("--no-clips", action="store_true", help="don't film the best, the median and the worst run")
    args = parser.parse_intermixed_args(argv)
    bounds = dict(map(bound, args.scores))
    need("pgrun report", "report", "matplotlib", "jinja2", "scipy")
    if args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is a file: name a folder")
    records = read_runs(*args.dirs)
    known = sorted({record.env_id for record in records})
    thresholds = dict(threshold(text, known) for text in args.threshold)
    for option, env_id in (*(("scores", each) for each in bounds), *(("threshold", each) for each in thresholds)):
        if env_id not in known:
            raise UserError(f"--{option} {env_id}: no run is in that environment; there are {', '.join(known)}")
    from pgrun.after.report.page import write_report  # imports matplotlib

    files = write_report(records, args.out, thresholds=thresholds, bounds=bounds, clips=not args.no_clips)
    counted, note = without_reproductions(records)
    if note:
        remark(f"pgrun: {note}")
    say(f"{len(counted)} run{'s' * (len(counted) != 1)}: {shown(files[0].absolute())}")
    say(f"beside it      {', '.join(path.name for path in files[1:])}")
    return 0


def threshold(text: str, known: Sequence[str]) -> tuple[str, float]:
    """Read ENV=RETURN, or RETURN alone where there is a single environment.

    Raises:
        UserError: it is written otherwise, or there are several environments.
    """
    env_id, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--threshold {text} is no number: write ENV=RETURN, as in --threshold {known[0]}=400")
    if not env_id and len(known) > 1:
        raise UserError(
            f"--threshold {text}: there are runs in {', '.join(known)}; say for which it is, as in {known[0]}={number}"
        )
    return env_id or known[0], value


def bound(text: str) -> tuple[str, tuple[float, float]]:
    """Read ENV=LOW:HIGH.

    Raises:
        UserError: it is written otherwise.
    """
    env_id, _, numbers = text.rpartition("=")
    low, _, high = numbers.partition(":")
    try:
        found = float(low), float(high)
    except ValueError:
        found = (0.0, 0.0)
    if not env_id or not all(map(math.isfinite, found)) or found[0] >= found[1]:
        raise UserError(f"--scores {text}: write ENV=LOW:HIGH, as in --scores CartPole-v1=20:500")
    return env_id, found
