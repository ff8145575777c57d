"""Run a command line in this process."""

from __future__ import annotations

from pathlib import Path

from pgrun.shell.cli import main

SHORT = ["algo=reinforce", "total_steps=64", "num_envs=2", "network.hidden=[8]", "eval.every=null"]


def tree(folder: Path) -> dict[str, int]:
    """When everything in a folder was last written."""
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*")}


def run(*arguments: str) -> int:
    """`pgrun ARGUMENTS` in this process."""
    try:
        return main([*arguments, *SHORT])
    except SystemExit as end:  # of a refusal before Hydra runs the job
        return int(end.code or 0)
