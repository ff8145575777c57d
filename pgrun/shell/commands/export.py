"""The command `pgrun export RUN FILE`: a run's policy as one graph, and a card beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.after.exported_file import card_of, check_path
from pgrun.run.console import on_stderr, remarks_by, say, shown
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun export RUN FILE`; return the exit code."""
    parser = Parser(
        prog="pgrun export",
        description="Write a run's policy as one graph, from the environment's observations to its actions, and a "
        "card (FILE.onnx.json) beside it, which says how to call it.",
    )
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("file", type=Path, help="FILE.onnx, or FILE.pt2 for torch.export")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a file (latest)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions, from noise that is an input")
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_args(argv)
    check_path(args.file, force=args.force)
    from pgrun.api.exporting import export  # imports torch: not for --help

    how = {name: getattr(args, name) for name in ("checkpoint", "stochastic", "force", "config_dir", "trust")}
    with remarks_by(on_stderr):
        card = export(args.run, args.file, **how)
    for part in ("inputs", "outputs"):
        ports = (f"{port['name']} {port['type']}{[*port['shape']]}".replace("'", "") for port in card[part])
        say(f"{part:8} {', '.join(ports)}")
    say(f"{shown(args.file)}, and {shown(card_of(args.file))} says how to call it")
    return 0
