"""Reading ahead: the next batch is read while the last is attacked, and nobody can tell by the batches."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import torch
from torch import Tensor

from robustkit.data.dataset import Data, Sample
from robustkit.data.prefetch import ahead
from robustkit.errors import DataError


class Told(Data):
    """Pictures 0, 1, 2, ...; tells which were read, where, and waits or fails where it is told to."""

    def __init__(self, count: int, bad: set[int] | None = None, fatal: int | None = None) -> None:
        super().__init__("told", "told")
        self.count, self.bad, self.fatal = count, bad or set(), fatal
        self.read: list[int] = []
        self.threads: set[int] = set()
        self.closed = threading.Event()
        self.pause, self.slow = 0.0, 0

    def __len__(self) -> int:
        return self.count

    def resolve(self, model: Any) -> Callable[[], Iterator[Sample]]:
        def one(number: int) -> tuple[Tensor, int]:
            time.sleep(self.pause if number >= self.slow else 0)
            self.read.append(number)
            self.threads.add(threading.get_ident())
            if number in self.bad:
                raise DataError(f"number {number} is bad")
            if number == self.fatal:
                raise OSError("the disk is gone")
            return torch.full((1, 2, 2), number / 100), number % 3

        def listing() -> Iterator[Sample]:
            try:
                for number in range(self.count):
                    yield Sample(f"n{number}", lambda number=number: one(number))
            finally:
                self.closed.set()

        return listing


def settles(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 300  # one that hangs
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)
    return condition()


def workers() -> int:
    return sum(thread.name.startswith("robustkit-ahead") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert settles(lambda: workers() == 0)


def test_the_next_batch_is_read_in_a_thread_and_no_more_than_that(stand: Any) -> None:
    data = Told(20)
    with closing(data.batches(stand(), 4)) as batches:
        time.sleep(0.02)
        assert data.read == []  # nothing before it is asked for
        next(batches)
        assert settles(lambda: len(data.read) == 8)
        time.sleep(0.05)
        assert data.read == list(range(8))
        next(batches)
        assert settles(lambda: len(data.read) == 12)
    assert threading.get_ident() not in data.threads
    assert len(data.threads) == 1


@pytest.mark.parametrize("samples", [None, 1, 4, 5, 12, 100])
@pytest.mark.parametrize("size", [1, 3, 4, 50])
def test_batches_and_skips_come_in_order(stand: Any, size: int, samples: int | None) -> None:
    bad = {0, 3, 4, 9, 15}
    data = Told(16, bad)
    good = [number for number in range(16) if number not in bad][:samples]
    last = 15 if samples is None or samples > len(good) else good[-1]
    seen: list[int] = []
    for batch in data.batches(stand(), size, samples):
        assert len(batch) == min(size, len(good) - len(seen))
        assert batch.names == [f"n{number}" for number in batch.ids.tolist()]
        assert batch.x[:, 0, 0, 0].tolist() == pytest.approx([number / 100 for number in batch.ids.tolist()])
        assert batch.y.tolist() == [number % 3 for number in batch.ids.tolist()]
        seen += batch.ids.tolist()
        # What the next batch comes upon is not told before it is handed over; an uneven one is the last.
        upto = seen[-1] if len(batch) == size else last
        assert data.skipped == [(f"n{n}", f"number {n} is bad") for n in sorted(bad) if n <= upto]
    assert seen == good
    assert data.skipped == [(f"n{n}", f"number {n} is bad") for n in sorted(bad) if n <= last]
    assert data.read == list(range(last + 1))


def test_an_error_comes_in_its_place(stand: Any) -> None:
    data = Told(20, {1}, fatal=7)
    batches = data.batches(stand(), 3)
    assert [next(batches).ids.tolist() for _ in range(2)] == [[0, 2, 3], [4, 5, 6]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert data.skipped == [("n1", "number 1 is bad")]
    with pytest.raises(StopIteration):
        next(batches)


def test_nothing_that_can_be_read_is_an_error(stand: Any) -> None:
    data = Told(3, {0, 1, 2})
    with pytest.raises(DataError, match="told: none of the 3 samples can be read: number 0 is bad"):
        next(data.batches(stand(), 2))
    assert len(data.skipped) == 3


@pytest.mark.parametrize("how", ["closed", "dropped", "interrupted"])
def test_whoever_stops_early_stops_the_reading(stand: Any, how: str) -> None:
    data = Told(1000)
    batches = data.batches(stand(), 5)
    assert len(next(batches)) == 5
    data.pause = 0.005
    if how == "closed":
        batches.close()
    elif how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)
    else:
        del batches
        gc.collect()
    assert settles(data.closed.is_set)
    assert len(data.read) <= 10
    assert workers() == 0


def test_closing_does_not_wait_for_a_whole_batch(stand: Any) -> None:
    data = Told(1000)
    data.pause, data.slow = 0.1, 200  # the next batch would take 20 s
    batches = data.batches(stand(), 200)
    next(batches)
    batches.close()
    assert len(data.read) < 400


def test_two_streams_do_not_get_into_each_others_way(stand: Any) -> None:
    one, other = Told(9), Told(9, {4})
    pairs = list(zip(one.batches(stand(), 2), other.batches(stand(), 2), strict=False))
    assert [(a.ids.tolist(), b.ids.tolist()) for a, b in pairs][:3] == [
        ([0, 1], [0, 1]),
        ([2, 3], [2, 3]),
        ([4, 5], [5, 6]),
    ]


def test_items_are_made_one_ahead() -> None:
    made: list[int] = []

    def items() -> Any:
        for number in range(5):
            made.append(number)
            yield number

    coming = ahead(items())
    assert made == []
    for number in coming:
        assert settles(lambda number=number: len(made) == min(number + 2, 5))
    assert made == [0, 1, 2, 3, 4]


def test_reading_and_attacking_overlap(stand: Any) -> None:
    data = Told(40)
    data.pause = 0.01
    for number, _ in enumerate(data.batches(stand(), 4)):  # in here the caller is attacking
        assert settles(lambda number=number: len(data.read) == min(4 * (number + 2), 40))
    assert number == 9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pictures_for_a_gpu_lie_in_pinned_memory(stand: Any) -> None:
    model = stand()
    for device, pinned in (("cuda", True), ("cpu", False)):
        model.device = torch.device(device)
        assert [batch.x.is_pinned() for batch in Told(4).batches(model, 2)] == [pinned] * 2
