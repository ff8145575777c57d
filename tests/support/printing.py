"""An environment that prints in every way there is."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import breaking
import gymnasium as gym

HERE = sys.stdout


class Prints(breaking.Breaks):
    """Prints by Python, by an older name of stdout, by a descriptor, by C, and from another process."""

    def reset(self, **kwargs: Any) -> Any:
        print("a word of Python's")
        print("a word by another name", file=HERE)
        os.write(1, b"a word by a descriptor\n")
        ctypes.CDLL(None).printf(b"a word of C's\n")  # which C may keep until the process ends
        os.system("echo a word of a process")
        return super().reset(**kwargs)


gym.register("Prints-v0", entry_point=Prints)  # type: ignore[arg-type]
