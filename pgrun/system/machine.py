"""The machine that a process runs on, as far as it decides how numbers are rounded."""

from __future__ import annotations

import os
import platform
from functools import cache
from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine: processor, cores, torch's threads and kernels, and the device.

    Args:
        device: where the run learns.
    """
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found


@cache
def cpu_model() -> str:
    """Name the processor's model; "" where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, "") or platform.processor()
    except OSError:
        return platform.processor()
