"""The command `pgrun resume RUN`: go on from a run's last checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.run.console import on_stderr, pasted, remark, remarks_by, say, shown, summary
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun resume RUN [key=value ...]`; return the exit code."""
    parser = Parser(
        prog="pgrun resume",
        description="Go on from a run's last checkpoint; exactly, unless a value is changed.",
    )
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. total_steps=1000000, eval.every=5000")
    parser.add_argument("--checkpoint", default="latest", help="latest or a file (latest)")
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_args(argv)
    from pgrun.api.training import resume  # imports torch: not for --help

    with remarks_by(on_stderr):
        run = resume(args.run, *args.overrides, checkpoint=args.checkpoint, trust=args.trust)
    if run.over:
        say(f"{shown(run.folder)} is finished: {run.over}")
        return 0
    if run.status == "interrupted":
        remark(f"interrupted; go on with: pgrun resume {pasted(run.folder)}")
        return 130
    summary(run.folder, run.result)
    return 0
