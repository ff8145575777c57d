"""The memory that is free on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path("/")


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device; None where nobody tells.

    For the CPU it is what the machine and every control group of this process have left.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    left = [*available(), *groups_left()]
    return min(left) if left else None


def available() -> Iterator[int]:
    """Yield the bytes that the machine has without swapping; all of its memory if its kernel doesn't say."""
    meminfo = ROOT / "proc/meminfo"
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024
                return
    if "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def groups_left() -> Iterator[int]:
    """Yield what each control group has left, version 2 and version 1, up to the root; page cache counts as free."""
    groups = ROOT / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        version2 = not controllers
        base = ROOT / "sys/fs/cgroup" / ("" if version2 else "memory")
        names = ("memory.max", "memory.current") if version2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        folder = base / path.lstrip("/")
        for group in [folder, *folder.parents]:
            limit, used = (_number(group / name) for name in names)
            if limit is not None and used is not None:
                yield max(limit - used + _cache(group), 0)
            if group == base:
                break


def _number(path: Path) -> int | None:
    """Read a file's number; None if there is none ("max": no limit)."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _cache(folder: Path) -> int:
    """Return the page cache that a control group would give back."""
    try:
        fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("inactive_file", fields.get("total_inactive_file", 0)))


def shown(size: float) -> str:
    """Write bytes in words: 51 MB, 2.3 GB."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            return f"{size:.2g} {unit}" if size < 9.95 and unit != "bytes" else f"{size:.0f} {unit}"
        size /= 1000.0
    raise AssertionError
