"""The command `pgrun list [GROUP]`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgrun.config.groups import ADDED, GROUPS, members
from pgrun.config.packages import faults
from pgrun.errors import UserError
from pgrun.run.console import remark
from pgrun.shell.arguments import Parser


def main(argv: Sequence[str]) -> int:
    """Run `pgrun list [GROUP]`; return the exit code."""
    parser = Parser(prog="pgrun list", description="What there is to choose from.")
    parser.add_argument(
        "group", nargs="?", choices=[*GROUPS, *GROUPS.values()], metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of your own configs, listed too")
    args = parser.parse_args(argv)
    wanted = {group: plural for plural, group in GROUPS.items()}.get(args.group, args.group)
    folders = [args.config_dir] if args.config_dir else []
    if folders and not folders[0].is_dir():
        raise UserError(f"--config-dir {folders[0]} is no folder")
    for fault in faults():
        remark(f"pgrun: {fault}")
    for plural, group in GROUPS.items():
        if wanted in (None, plural):
            print(f"{'+' * (group in ADDED)}{group}=")
            for name, line in members(group, *folders).items():
                print(f"  {name:26} {line}")
    return 0
