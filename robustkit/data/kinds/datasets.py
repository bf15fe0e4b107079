"""Datasets of the user's: anything with a length whose items are (picture, class)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.data.array_rules import Array, Extent, fitting_layout, layouts, picture
from robustkit.data.dataset import Asks, Sample
from robustkit.data.kinds.array_files import rounding_of, row_of
from robustkit.data.pictures import Preprocess, to_input
from robustkit.data.pixels import ROUNDING
from robustkit.data.torchvision_data import TorchvisionData
from robustkit.errors import DataError, RobustkitError
from robustkit.text import one_line

_PROBES = 64  # samples that tell the scale
_TWICE = 8  # of them read twice, to see random transforms
_KEYS = (("image", "label"), ("x", "y"), ("img", "label"), ("images", "labels"), ("pixel_values", "labels"))


class DatasetData(TorchvisionData):
    """A dataset of (picture, class); pictures are Pillow's, or arrays in [0,1] or of 0 to 255, all in one layout.

    Some samples, evenly spread, are read at once: they tell layout and scale. One that contradicts them later ends
    the stream, as to leave it out would judge a selection.
    """

    def __init__(self, name: str, title: str, dataset: Any) -> None:
        super().__init__(name, title, dataset)
        owner = dataset
        while self.classes is None and hasattr(owner, "dataset"):  # a Subset
            owner = owner.dataset
            classes = getattr(owner, "classes", None)
            self.classes = None if classes is None else [str(label) for label in classes]
        self.form: tuple[tuple[int, ...], tuple[str, ...], float, float] | None = None
        self.y = self._probed()

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = self._index(model)
        layout = "" if self.form is None else fitting_layout(self.form[0], self.form[1], model, self.name)
        for label in self.y:
            self._class(label, index, model.num_classes)
        read = partial(self._fitted, preprocess=model.preprocess, layout=layout, index=index, count=model.num_classes)

        def listing() -> Iterator[Sample]:
            for number in self.order:
                yield Sample(str(number), partial(read, number))

        return listing

    def _probed(self) -> list[int]:
        """The classes of some samples, after a look at their pictures."""
        if not self.order:
            raise DataError(f"{self.name} is empty: give a Dataset with samples")
        chosen = np.unique(np.linspace(0, len(self.order) - 1, _PROBES).round().astype(int))
        extent, found = Extent(), []
        forms: set[tuple[tuple[int, ...], np.dtype[Any]] | None] = set()
        rounding, fault = ROUNDING, ""
        for turn, place in enumerate(chosen):
            try:
                x, y, slack = self._item(self.order[place])
                again = self._item(self.order[place])[0] if turn < _TWICE else x
            except DataError as error:
                fault = fault or str(error)
                continue
            found.append(label_of(y, self.name))
            if not np.array_equal(np.asarray(x), np.asarray(again), equal_nan=not isinstance(x, Image.Image)):
                raise DataError(
                    f"{self.name} gives another picture of sample {place} each time: leave out random transforms"
                )
            if isinstance(x, Image.Image):
                forms.add(None)
                continue
            forms.add((x.shape, x.dtype))
            rounding = max(rounding, slack)
            extent.add(x)
        if not found:
            raise DataError(f"{self.name}: not a sample can be read: {fault}")
        if len(forms) > 1:
            raise DataError(f"{self.name} has pictures of several shapes or kinds: resize them alike, or give Pillow's")
        form = forms.pop()
        if form is not None:
            shape, dtype = form
            divisor, note = extent.divisor(dtype, rounding, self.name)
            self.form = shape, layouts(shape, dtype, self.name), divisor, rounding
            self.title += f" ({note})" if note else ""
        return found

    def _item(self, number: int) -> tuple[Any, Any, float]:
        """Picture (Pillow's, or an array), class as it comes, and how much of a float is rounding."""
        try:
            item = self.dataset[number]
        except RobustkitError:
            raise
        except Exception as error:  # whatever code and decoders raise
            raise DataError(f"cannot be read ({one_line(error)}): mend the Dataset, or leave the sample out") from None
        x, y = parts_of(item, self.name)
        if isinstance(x, Tensor):
            return row_of(x), y, rounding_of(x.dtype)
        if isinstance(x, Image.Image | np.ndarray):
            return x, y, ROUNDING
        raise RobustkitError(f"{self.name}: sample {number} is a {type(x).__name__}, no picture: give tensors in [0,1]")

    def _fitted(
        self, number: int, *, preprocess: Preprocess, layout: str, index: list[int] | None, count: int
    ) -> tuple[Tensor, int]:
        x, y, _ = self._item(number)
        try:
            label = self._class(label_of(y, self.name), index, count)
        except DataError as error:  # no picture that cannot be read, to be skipped
            raise RobustkitError(str(error)) from None
        if self.form is None:
            if not isinstance(x, Image.Image):
                raise RobustkitError(f"{self.name}: sample {number} is no Pillow picture, others are: give one kind")
            return to_input(x, preprocess), label
        if isinstance(x, Image.Image):
            raise RobustkitError(f"{self.name}: sample {number} is a Pillow picture, others are not: give one kind")
        return torch.from_numpy(self._picture(x, number, layout)), label

    def _picture(self, x: Array, number: int, layout: str) -> Array:
        assert self.form is not None
        shape, _, divisor, rounding = self.form
        if x.shape != shape:
            raise RobustkitError(
                f"{self.name}: sample {number} is of {list(x.shape)}, others of {list(shape)}: resize them alike"
            )
        low, high = float(x.min()), float(x.max())
        slack = rounding if divisor == 1 else 0
        if not (low >= -slack and high <= divisor + slack):
            raise RobustkitError(
                f"{self.name}: sample {number} goes from {low:g} to {high:g}, others from 0 to {divisor:g}: "
                "scale all to [0,1]"
            )
        return picture(x, layout, divisor)

    def _class(self, label: int, index: list[int] | None, count: int) -> int:
        known = count if index is None else len(index)
        if not 0 <= label < known:
            raise DataError(
                f"{self.name}: class {label} is none of 0 to {known - 1}: number the classes as the model does"
            )
        return label if index is None else index[label]


def parts_of(item: Any, name: str) -> tuple[Any, Any]:
    """Picture and class of a dataset's item, or pictures and classes of a batch.

    Raises:
        RobustkitError: no pair, and no dict of them.
    """
    if isinstance(item, Mapping):
        pair = next((pair for pair in _KEYS if all(key in item for key in pair)), None)
        if pair is not None:
            return item[pair[0]], item[pair[1]]
        raise RobustkitError(f"{name}: samples have {', '.join(map(str, item))}: name them image and label")
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise RobustkitError(f"{name}: a sample is a {type(item).__name__}: give (picture, class)")


def label_of(label: Any, name: str) -> int:
    """A class as an int.

    Raises:
        RobustkitError: not one whole number.
    """
    try:
        values = row_of(label) if isinstance(label, Tensor) else np.asarray(label)
        number = float(values.reshape(-1)[0]) if values.size == 1 else float("nan")
    except (TypeError, ValueError):
        number = float("nan")
    if not number.is_integer():
        shown = one_line(ValueError(repr(label)))[:40]
        raise RobustkitError(f"{name}: the class {shown} is not one whole number: number the classes from 0")
    return int(number)
