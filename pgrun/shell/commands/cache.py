"""The command `pgrun cache`: where compiled code is kept, how much of it, and how to clear it."""

from __future__ import annotations

from collections.abc import Sequence

from pgrun.shell.arguments import Parser
from pgrun.system.artifacts import LARGEST, Artifacts, libraries_folder


def main(argv: Sequence[str]) -> int:
    """Run `pgrun cache [--clear]`; return the exit code."""
    parser = Parser(prog="pgrun cache", description="Show the code that runs with compile=true have compiled and kept.")
    parser.add_argument("--clear", action="store_true", help="delete it; later runs compile anew")
    args = parser.parse_args(argv)
    kept = Artifacts(libraries_folder(), ".so")
    count, size = len(kept.files()), kept.size()
    if args.clear:
        kept.clear()
    state = "deleted" if args.clear else "kept   "
    print(f"{state}  {count} compiled functions, {size / 1e6:.1f} MB of at most {LARGEST / 1e6:,.0f}")
    print(f"folder   {kept.folder}")
    return 0
