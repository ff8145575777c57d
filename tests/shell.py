"""Running the real command in a folder of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def line(self) -> str:
        """Its only line on stderr."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert len(lines) == 1, self.err
        return lines[0]


def pgrun(*arguments: str, cwd: Path, **environment: str) -> Said:
    """`pgrun ARGUMENTS` as a process, with one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pgrun", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=900
    )
    return Said(done.returncode, done.stdout, done.stderr, time.perf_counter() - begin)


def free_port() -> int:
    """A port where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
