"""Layout, range and size of pictures in arrays: each is certain, or refused with what to give instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustkit.data.dataset import Asks
from robustkit.data.pixels import ROUNDING
from robustkit.errors import DataError

Array = NDArray[Any]
# An 8-bit picture set whose brightest value is below this is more likely on another scale (0 to 16, 0 to 100).
_BRIGHT = 128
_WANTED = (
    "x must be uint8 or uint16 [N, H, W], [N, H, W, 1 or 3] or [N, 1 or 3, H, W], or float32 [N, C, H, W] or "
    "[N, H, W, 1 or 3] in [0,1]"
)


def layouts(shape: Sequence[int], dtype: np.dtype[Any], name: str) -> tuple[str, ...]:
    """Possible layouts of a picture of this shape: "HW", "CHW", "HWC"; two where its first and its last axis could
    both be the channels.

    Raises:
        DataError: no dtype or shape of a picture.
    """
    number, real = dtype.kind in "biuf", dtype.kind == "f"
    if number and len(shape) == 2 and not real:
        return ("HW",)
    if number and len(shape) == 3:
        first, last = shape[0] in (1, 3), shape[2] in (1, 3)
        if first or last:
            return ("CHW",) * first + ("HWC",) * last
        if real:
            return ("CHW",)
    remedy = ""
    if real and len(shape) == 2:
        remedy = ": give x[:, None]"
    elif number and len(shape) == 3:
        remedy = ": leave out transparency, x[..., :3]" if shape[2] == 4 else ": leave out all but 1 or 3 channels"
    raise DataError(f"{name}: {_WANTED}, not {dtype} [{', '.join(('N', *map(str, shape)))}]{remedy}")


def planes(row: Array, layout: str) -> Array:
    """A picture as [C, H, W], no copy."""
    if layout == "HW":
        return row[None]
    return row.transpose(2, 0, 1) if layout == "HWC" else row


def picture(row: Array, layout: str, divisor: float) -> NDArray[np.float32]:
    """A row as float32 [C, H, W] in [0,1], what is outside clipped."""
    values = np.array(planes(row, layout), dtype=np.float32, order="C")
    if divisor != 1:
        values /= np.float32(divisor)
    return np.clip(values, 0, 1, out=values)


class Extent:
    """Least and greatest value of all rows so far, and what else tells their scale."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.whole = True
        self.nan = False

    def add(self, row: Array) -> None:
        """Take in a row of numbers."""
        if not row.size:
            return
        low, high = float(row.min()), float(row.max())
        self.nan = self.nan or np.isnan(low)
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.whole and row.dtype.kind == "f":
            self.whole = bool(np.isfinite(row).all() and np.array_equal(row, np.rint(row)))

    def divisor(self, dtype: np.dtype[Any], rounding: float, name: str) -> tuple[float, str]:
        """Number that pixels are divided by, and what a title says of it.

        Args:
            rounding: how far outside [0,1] a float may lie; it is clipped.

        Raises:
            DataError: NaN, or values whose scale is not certain.
        """
        if self.nan:
            raise DataError(f"{name}: x has NaN: every pixel must be a number in [0,1]")
        if dtype.kind == "b" or self.low > self.high:  # no pixels at all fit no model
            return 1, ""
        if dtype == np.uint8:
            if self.high == 1:
                raise DataError(f"{name}: x is uint8 of 0 and 1, nearly black of 255: save it as bool, or times 255")
            return 255, ""
        if self.low >= 0 and _BRIGHT <= self.high <= 255 and self.whole:
            return 255, f"x of 0 to {self.high:g} divided by 255"
        if dtype == np.uint16 and self.high > 65535 // 2:
            return 65535, "x of 16 bits divided by 65535"
        if dtype.kind in "iu":
            raise DataError(
                f"{name}: {_WANTED}, not {dtype} from {self.low:g} to {self.high:g}, whose full range is not certain: "
                "give x / full range as float32"
            )
        rounding = max(rounding, float(np.finfo(dtype).eps))
        if self.low >= -rounding and self.high <= 1 + rounding:
            outside = max(-self.low, self.high - 1)
            return 1, f"x clipped to [0,1], {outside:.1g} outside" if outside > 0 else ""
        raise DataError(
            f"{name}: x goes from {self.low:g} to {self.high:g}: scale it to [0,1], the model normalises by itself"
            f"{self._hint()}"
        )

    def _hint(self) -> str:
        if not np.isfinite(self.low + self.high):
            return ""
        if -1 - ROUNDING <= self.low < -0.5 and self.high <= 1 + ROUNDING:
            return " (give (x + 1) / 2 if x is in [-1,1])"
        if self.low >= -0.2 and self.high <= 1.2:
            return " (clip it if a resize has overshot)"
        if self.low < 0:
            return " (give x before Normalize, or x * std + mean)"
        if self.high <= 255:
            return " (give x / 255 if 255 is white)"
        return ""


def class_numbers(y: Array, name: str) -> NDArray[np.int64]:
    """Classes as int64 [N].

    Raises:
        DataError: not integers of shape [N].
    """
    if y.ndim == 1 and (y.dtype.kind in "iu" or not y.size):
        return y.astype(np.int64)
    remedy = ""
    if y.ndim == 2:
        remedy = ": give y[:, 0]" if y.shape[1] == 1 else ": give y.argmax(1) if each row marks one class"
    elif y.dtype.kind == "f":
        remedy = ": give y.astype('int64')"
    elif y.dtype.kind in "US":
        remedy = ": number the classes as the model does"
    raise DataError(f"{name}: y must be integers of shape [N], not {y.dtype} {list(y.shape)}{remedy}")


def fitting_layout(shape: Sequence[int], found: Sequence[str], model: Asks, name: str) -> str:
    """The layout in which pictures of this shape are what the model takes.

    Raises:
        DataError: none is, or both are.
    """
    wanted = (model.preprocess.channels, *model.preprocess.size)
    fits = [layout for layout in found if _sides(shape, layout) == wanted]
    if len(fits) == 1:
        return fits[0]
    if not fits:
        raise DataError(f"{name} has {_unfit(_sides(shape, found[0]), wanted, model)}")
    raise DataError(
        f"{name}: x of [N, {', '.join(map(str, shape))}] is read both as [N, C, H, W] and as [N, H, W, C]: "
        "give picture files"
    )


def check_classes(y: NDArray[np.int64], model: Asks, name: str) -> None:
    """Refuse classes that the model does not have.

    Raises:
        DataError: a class is none of 0 to K - 1.
    """
    wrong = np.flatnonzero((y < 0) | (y >= model.num_classes))
    if len(wrong):
        raise DataError(
            f"{name}: class {int(y[wrong[0]])} of sample {int(wrong[0])} is none of {model.name}'s 0 to "
            f"{model.num_classes - 1} ({len(wrong)} such samples): number the classes as the model does"
        )


def _sides(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    if layout == "HW":
        return (1, *shape)
    return (shape[2], *shape[:2]) if layout == "HWC" else tuple(shape)


def _unfit(have: tuple[int, ...], want: tuple[int, ...], model: Asks) -> str:
    """The sizes, and what would make them one."""
    shown, wanted = ("×".join(map(str, sides)) for sides in (have, want))
    head = f"pictures of {shown}, {model.name} wants {wanted}"
    if have[0] == want[0] and have[1:] == want[:0:-1]:
        return f"{head}: give x as [N, C, H, W], height before width, or take a model of {shown}"
    steps = []
    if have[0] != want[0]:
        if have[0] == 1 and want[0] == 3:
            steps.append("repeat the grey plane, x.repeat(3, axis=1) of [N, 1, H, W], or take a model of 1 channel")
        elif have[0] == 3 and want[0] == 1:
            steps.append("make x grey, x.mean(1, keepdims=True) of [N, 3, H, W], or take a model of 3 channels")
        else:
            steps.append(f"give pictures of {want[0]} channels, or take a model of {have[0]}")
    if have[1:] != want[1:]:
        side = f"{have[1]}" if have[1] == have[2] else f"{have[1]},{have[2]}"
        steps.append(f"give --size {side} if the model takes it, or pictures of {want[1]}×{want[2]}")
    return f"{head}: {'; and '.join(steps)}"
