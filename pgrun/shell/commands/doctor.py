"""The command `pgrun doctor RUN`: why a run doesn't learn, and what to change."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pgrun.run.console import on_stderr, remarks_by
from pgrun.shell.arguments import Parser
from pgrun.shell.terminal import stdout_alone


def main(argv: Sequence[str]) -> int:
    """Run `pgrun doctor RUN`; return the exit code."""
    parser = Parser(prog="pgrun doctor", description="Say why a run doesn't learn, and what to change.")
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--probe", action="store_true", help="also train its recipe where the answer is known")
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_args(argv)
    with stdout_alone() if args.json else nullcontext():
        from pgrun.api.doctor import doctor  # imports NumPy and TensorBoard: not for --help

        with remarks_by(on_stderr):
            diagnosis = doctor(args.run, probe=args.probe, config_dir=args.config_dir, trust=args.trust)
    if args.json:
        print(json.dumps(diagnosis.record()), flush=True)
    else:
        from pgrun.after.doctor.show import page

        width = min(shutil.get_terminal_size((100, 24)).columns, 120)
        print(page(diagnosis, width, colour=sys.stdout.isatty()), end="")
    return 0
