"""Prefetch: the next item is made while the last one is used."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The same items, the next one made in a thread while the caller is busy with the last.

    Nothing is made before the first is asked for. What the items raise is raised in their place. Whoever stops early
    closes this: then the thread ends once the item in the making is done, and `items` is closed too.
    """
    end = object()
    with ThreadPoolExecutor(1, "robustkit-ahead") as worker:
        try:
            coming = worker.submit(next, items, end)
            while (item := coming.result()) is not end:
                coming = worker.submit(next, items, end)
                yield item  # type: ignore[misc]
        finally:
            worker.submit(items.close)
