"""The command `pgrun new KIND NAME`: a part of one's own to start from, with its config and its test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.config.templates import KINDS, commands, write
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun new KIND NAME`; return the exit code."""
    parser = Parser(
        prog="pgrun new", description="Write a part of your own to start from, with its config and its test."
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="of a–z, 0–9 and _, as my_idea")
    parser.add_argument("--into", type=Path, default=Path(), metavar="DIR", help="the folder (this one)")
    args = parser.parse_args(argv)
    files = write(args.kind, args.name, args.into)
    print("wrote    " + "\n         ".join(map(str, files)))
    for what, line in commands(args.kind, args.name, args.into).items():
        print(f"{what:8} {line}")
    return 0
