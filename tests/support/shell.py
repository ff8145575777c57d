"""Running the real command in a folder of its own."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pgrun.shell.cli import main


@dataclass
class Said:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """Its only line on stderr."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        return lines[0]


def pgrun(*arguments: str, cwd: Path, **environment: str) -> Said:
    """`pgrun ARGUMENTS` as a process, with one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "pgrun", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=900
    )
    return Said(done.returncode, done.stdout, done.stderr)


def pgrun_inside(*arguments: str, cwd: Path) -> Said:
    """`pgrun ARGUMENTS` in this process, seconds sooner than as one of its own; it leaves nothing in this one.

    Modules of the folder are forgotten afterwards, so that the next command reads them anew, as a process does.
    """
    out, err = io.StringIO(), io.StringIO()
    importlib.invalidate_caches()
    with (
        contextlib.chdir(cwd),
        mock.patch.multiple(sys, path=list(sys.path), argv=["pgrun"]),
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main(arguments)
        except SystemExit as stop:  # what a Hydra callback refuses
            code = int(stop.code or 0)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(f"{cwd}{os.sep}"):
            del sys.modules[name]
    return Said(code, out.getvalue(), err.getvalue())


def forbid(folder: Path, *packages: str) -> dict[str, str]:
    """Fill a folder with packages that end the command that imports them; return the environment that finds them."""
    folder.mkdir()
    for package in packages:
        (folder / f"{package}.py").write_text(f"import os; os.write(2, b'{package} was imported'); os._exit(70)\n")
    return {"PYTHONPATH": str(folder)}


def free_port() -> int:
    """A port where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
