"""Ctrl-C and SIGTERM while an audit runs and while its report is written."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def handled(*numbers: int, handler: Any) -> Iterator[None]:
    """Give signals another handler for a while."""
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, old in before:
            signal.signal(number, old)


class Interrupt:
    """A handler that raises KeyboardInterrupt once a second at most: a second Ctrl-C at once would spoil the record."""

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        if now - self.last > 1:
            self.last = now
            raise KeyboardInterrupt
