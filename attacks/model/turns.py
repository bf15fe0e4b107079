"""Turns that threads take at a network: while one attacks it, another waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_FREE = threading.Condition()
_OWNERS: dict[int, tuple[int, int]] = {}  # of a module, by its id: the thread, and how many times it has entered
_WAITING: dict[int, int] = {}  # thread -> the one that it waits for


@contextmanager
def turn(net: nn.Module) -> Iterator[None]:
    """The network, with each module in it, for this thread alone; may be nested.

    Mode, `requires_grad` and layout belong to the network: two attacks at once would change them under each other.

    Raises:
        RuntimeError: the thread that has the network waits for one that this thread has.
    """
    modules = list(net.modules())  # kept, so that no other module gets one of their ids
    parts = {id(module) for module in modules}
    me = threading.get_ident()
    with _FREE:
        while (other := _owner(parts, me)) is not None:
            _wait(me, other)
        for part in parts:
            _OWNERS[part] = me, _OWNERS.get(part, (me, 0))[1] + 1
    try:
        yield
    finally:
        with _FREE:
            for part in parts:
                depth = _OWNERS[part][1] - 1
                if depth:
                    _OWNERS[part] = me, depth
                else:
                    del _OWNERS[part]
            _FREE.notify_all()


def _owner(parts: set[int], me: int) -> int | None:
    """Another thread that has one of the modules."""
    return next((_OWNERS[part][0] for part in parts if part in _OWNERS and _OWNERS[part][0] != me), None)


def _wait(me: int, other: int) -> None:
    last = other
    while last in _WAITING:
        last = _WAITING[last]
    if last == me:
        raise RuntimeError(
            "two threads wait for each other's networks: run these audits one after the other, or on copies "
            "(copy.deepcopy) of the networks"
        )
    _WAITING[me] = other
    try:
        _FREE.wait()
    finally:
        del _WAITING[me]
