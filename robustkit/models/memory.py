"""Memory: the batch size is halved where it runs out, and what a gradient frees is kept for the next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from robustkit.attacks.model.channels_last import out_of_memory

P = ParamSpec("P")
T = TypeVar("T")
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


class HalvingBatch:
    """A batch size, the number of rows that go through the models at once: halved whenever memory runs out.

    What a row comes to does not depend on its batch, so work that failed is done again from scratch in halves.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def parts(self, total: int, work: Callable[[slice], T]) -> list[T]:
        """Do some work on `total` rows in batches; returns the result of each, in order. It is done on no rows too.

        Raises:
            What `work` raises; that memory ran out, where it does so for a single row.
        """
        done: list[T] = []
        start = 0
        while start < total or not done:
            part = slice(start, min(start + self.rows, total))
            more = self.attempt(part.stop - part.start, work, part)
            if more:
                done += more
                start = part.stop
        return done

    def attempt(self, rows: int, work: Callable[P, T], *args: P.args, **extra: P.kwargs) -> list[T]:
        """Try some work on so many rows; returns its result alone in a list. If memory ran out the list is empty, and
        the batch size is half of them from now on."""
        try:
            return [work(*args, **extra)]
        except (RuntimeError, MemoryError) as error:
            if rows <= 1 or not out_of_memory(error):
                raise
        # Not before the error is gone, and with it the tensors in the frames that it came through.
        self.rows = rows // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return []


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
