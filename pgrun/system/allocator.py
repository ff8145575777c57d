"""What the C library does with memory that tensors give back."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
MIB = 1 << 20


def keep_freed_memory() -> bool:
    """Keep what is freed instead of handing it back to the system; -> whether this C library can.

    An update makes and frees the same tensors over and over. From 128 kB on glibc fetches each from the system and
    returns it, and every page of it costs a fault when it is first written: 15 to 25 % of an update of SAC.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # no glibc
        return False
    # 32 MiB is the most that glibc takes for the first
    return all(
        bool(mallopt(key, size * MIB))
        for key, size in ((M_MMAP_THRESHOLD, 32), (M_TRIM_THRESHOLD, 512), (M_TOP_PAD, 64))
    )
