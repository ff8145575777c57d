"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
MIB = 1 << 20


def keep_freed_memory() -> bool:
    """Keep freed memory instead of returning it to the system; return False if this C library can't.

    An update makes and frees the same tensors over and over. From 128 kB on, glibc fetches each from the system and
    returns it, and each of its pages costs a fault when it is first written: 15 to 25 % of an update of SAC.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc
        return False
    # 32 MiB is the most that glibc accepts for M_MMAP_THRESHOLD
    return all(
        bool(mallopt(key, size * MIB))
        for key, size in ((M_MMAP_THRESHOLD, 32), (M_TRIM_THRESHOLD, 512), (M_TOP_PAD, 64))
    )
