"""Memory that a gradient frees is kept for the next one."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """Have glibc keep what is freed instead of giving it back to the system.

    By default it maps each large tensor anew, and the kernel clears every page of it again: with EfficientNet-Lite0 on
    two cores a third to a half of a gradient's time. It is a setting of the whole process, so the command line
    makes it and the library does not. Elsewhere than with glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
