"""Batches of samples, the base class of every kind of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from threading import Event
from typing import ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from robustkit.data.class_names import Answers
from robustkit.data.decoders import Decoders, decoder_count
from robustkit.data.pixels import Preprocess
from robustkit.data.prefetch import ahead
from robustkit.errors import DataError

Item = TypeVar("Item")

_AHEAD = 4  # samples for each process that decodes, so that none waits for its next


class Asks(Answers, Protocol):
    """Facts about a model that its data depend on: its classes and the pictures it takes."""

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


_Read = tuple[Batch | None, list[tuple[str, str]]]


@dataclass(frozen=True)
class Sample:
    """One sample not yet read; `read` gives (x float32 [C, H, W] in [0,1], class) or raises a DataError.

    Where the data `decodes`, it also takes what is to be called in place of `pixels.read_pixels`.
    """

    name: str
    read: Callable[..., tuple[Tensor, int]]


class Data(ABC):
    """Labelled pictures in a fixed order.

    Attributes:
        name, title: as it was asked for, and as a report shows it.
        skipped: (name, reason) of every sample that could not be read in the latest stream so far.
        decodes: true where reading a sample is decoding a picture file.
    """

    decodes: ClassVar[bool] = False

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title
        self.skipped: list[tuple[str, str]] = []

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples listed; some may turn out to be unreadable."""

    @abstractmethod
    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        """Check that the data suits the model; returns what lists the samples for it, in order.

        Raises:
            DataError: the classes or the size do not match the model's.
        """

    def batches(self, model: Asks, batch_size: int, samples: int | None = None) -> Generator[Batch, None, None]:
        """The first `samples` good ones (None: all), `batch_size` at a time.

        They are read when the first batch is asked for; from then on the next batch is read in a thread while the
        caller is busy with the last. A sample that cannot be read is left out and noted in `skipped` when its batch is
        handed over. For a model on a GPU the pictures lie in pinned memory, from where they are copied to it at once,
        and files are decoded in several processes, which are gone once the stream is done or closed.

        Raises:
            DataError: see `resolve`, at once; while streaming, when not a single sample could be read.
            RobustkitError: while streaming, when a process that decodes died.
            ValueError: batch_size or samples below 1, at once.
        """
        if batch_size < 1 or (samples is not None and samples < 1):
            raise ValueError(f"batch_size and samples must be at least 1, got {batch_size} and {samples}")
        self.skipped = []
        place: torch.device | None = getattr(model, "device", None)
        pinned = place if place is not None and place.type == "cuda" else None
        count = decoder_count(place.type) if place is not None and self.decodes else 0
        left = Event()
        read = _read(self.resolve(model), batch_size, samples, pinned=pinned, count=count, left=left)
        return self._stream(read, left)

    def _stream(self, read: Generator[_Read, None, None], left: Event) -> Generator[Batch, None, None]:
        skipped = self.skipped
        good = 0
        with closing(ahead(read)) as coming:
            try:
                for batch, bad in coming:
                    skipped += bad
                    if batch is not None:
                        good += len(batch)
                        yield batch
            finally:
                left.set()
        if not good:
            first = f": {skipped[0][1]}" if skipped else ""
            raise DataError(f"{self.name}: none of the {len(skipped)} samples can be read{first}")


def _read(
    listing: Callable[[], Iterator[Sample]],
    batch_size: int,
    samples: int | None,
    pinned: torch.device | None,
    count: int,
    left: Event,
) -> Generator[_Read, None, None]:
    """Batches, each with what was skipped on the way to it; None in place of the last if only such is left.

    Stops between two samples once `left` is set: nobody waits for the batch any more.
    """
    good = 0
    held: list[tuple[Tensor, int, int, str]] = []
    skipped: list[tuple[str, str]] = []
    with closing(_begun(listing(), count)) as begun:
        for number, (name, answer) in enumerate(begun):
            if left.is_set():
                return
            try:
                x, y = answer()
            except DataError as error:
                skipped.append((name, str(error)))
                continue
            held.append((x, y, number, name))
            good += 1
            if len(held) == batch_size:
                yield _batch(held, pinned), skipped
                held, skipped = [], []
            if good == samples:
                break
    if held or skipped:
        yield _batch(held, pinned) if held else None, skipped


def _begun(
    samples: Iterator[Sample], count: int
) -> Generator[tuple[str, Callable[[], tuple[Tensor, int]]], None, None]:
    """The samples' names in order, each with what gives the sample; with a `count` they are under way in as many
    processes, a few ahead of what is asked for."""
    if not count:
        yield from ((sample.name, sample.read) for sample in samples)
        return
    with Decoders() as decoders, ThreadPoolExecutor(count, "robustkit-decode") as threads:
        coming: deque[tuple[str, Callable[[], tuple[Tensor, int]]]] = deque()
        try:
            for sample in samples:
                coming.append((sample.name, threads.submit(sample.read, decoders.read).result))
                if len(coming) > _AHEAD * count:
                    yield coming.popleft()
            yield from coming
        finally:
            threads.shutdown(cancel_futures=True)


def _batch(held: Sequence[tuple[Tensor, int, int, str]], pinned: torch.device | None) -> Batch:
    pictures, y, ids, names = zip(*held, strict=True)
    x = torch.stack(pictures)
    if pinned is not None:
        with torch.cuda.device(pinned):
            x = x.pin_memory()
    return Batch(x, torch.tensor(y), torch.tensor(ids), list(names))


def round_robin(items: Sequence[Item], key: Callable[[Item], Hashable]) -> list[Item]:
    """One item of each key in turn, so that any prefix is balanced; the order within a key is kept."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    gap = object()
    rounds = zip_longest(*groups.values(), fillvalue=gap)
    return [item for turn in rounds for item in turn if item is not gap]  # type: ignore[misc]
