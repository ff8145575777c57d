"""joblib's inside: loky's executors, how they say that a process died, and their processes' numbers."""

from __future__ import annotations

from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

__all__ = ["BrokenProcessPool", "ProcessPoolExecutor", "process_numbers"]


def process_numbers(executor: Any) -> list[int]:
    """List the processes of an executor."""
    return list(executor._processes or {})
