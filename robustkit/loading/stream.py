"""Samples one batch at a time: what every kind of data has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from robustkit.errors import DataError
from robustkit.loading.classes import Answers
from robustkit.loading.pictures import Preprocess

Item = TypeVar("Item")


class Asks(Answers, Protocol):
    """What the data must know of a model: its classes and the pictures it wants."""

    @property
    def preprocess(self) -> Preprocess: ...


@dataclass(frozen=True)
class Batch:
    """B samples, ready for the model.

    Args:
        x: float32 [B, C, H, W] in [0,1].
        y: int64 [B], the true classes as the model numbers them.
        ids: int64 [B], the place of each sample in the data's listing, whatever was skipped before it.
        names: B names for people: a path inside the folder, or a number.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    names: list[str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sample:
    """One sample not yet read; `read` gives (x float32 [C, H, W] in [0,1], class) or raises a DataError."""

    name: str
    read: Callable[[], tuple[Tensor, int]]


class Data(ABC):
    """Labelled pictures in a fixed order.

    Attributes:
        name, title: as it was asked for, and as a report shows it.
        skipped: (name, reason) of every sample that could not be read in the latest stream so far.
    """

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.skipped: list[tuple[str, str]] = []

    @abstractmethod
    def __len__(self) -> int:
        """How many samples are listed; some may turn out to be unreadable."""

    @abstractmethod
    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        """Check that the data suits the model; returns what lists the samples for it, in order.

        Raises:
            DataError: the classes or the size do not match the model's.
        """

    def batches(self, model: Asks, batch_size: int, samples: int | None = None) -> Iterator[Batch]:
        """The first `samples` good ones (None: all), read as they are asked for, `batch_size` at a time.

        A sample that cannot be read is left out and noted in `skipped`.

        Raises:
            DataError: see `resolve`, at once; while streaming, when not a single sample could be read.
            ValueError: batch_size or samples below 1, at once.
        """
        if batch_size < 1 or (samples is not None and samples < 1):
            raise ValueError(f"batch_size and samples must be at least 1, got {batch_size} and {samples}")
        self.skipped = []
        return self._stream(self.resolve(model), batch_size, samples)

    def _stream(self, listing: Callable[[], Iterator[Sample]], batch_size: int, samples: int | None) -> Iterator[Batch]:
        skipped = self.skipped
        good = 0
        held: list[tuple[Tensor, int, int, str]] = []
        for number, sample in enumerate(listing()):
            try:
                x, y = sample.read()
            except DataError as error:
                skipped.append((sample.name, str(error)))
                continue
            held.append((x, y, number, sample.name))
            good += 1
            if len(held) == batch_size:
                yield _batch(held)
                held = []
            if good == samples:
                break
        if held:
            yield _batch(held)
        if not good:
            first = f": {skipped[0][1]}" if skipped else ""
            raise DataError(f"{self.name}: none of the {len(skipped)} samples can be read{first}")


def _batch(held: Sequence[tuple[Tensor, int, int, str]]) -> Batch:
    x, y, ids, names = zip(*held, strict=True)
    return Batch(torch.stack(x), torch.tensor(y), torch.tensor(ids), list(names))


def round_robin(items: Sequence[Item], key: Callable[[Item], Hashable]) -> list[Item]:
    """One item of each key in turn, so that any prefix is balanced; the order within a key is kept."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    gap = object()
    rounds = zip_longest(*groups.values(), fillvalue=gap)
    return [item for turn in rounds for item in turn if item is not gap]  # type: ignore[misc]
