"""The age of this process."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def process_age() -> float:
    """Return for how many seconds this process has run, to a hundredth; 0.0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds after the machine's start
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - begun, 0.0)
    return 0.0
