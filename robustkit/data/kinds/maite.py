"""Data sets of MAITE's protocol for image classification, taken in and given out; maite itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustkit.data.class_names import match_classes
from robustkit.data.dataset import Asks, Data, Sample
from robustkit.data.pictures import to_input
from robustkit.errors import DataError
from robustkit.text import one_line

Array = NDArray[Any]


class MaiteDataset(Protocol):
    """As much of `maite.protocols.image_classification.Dataset` as is used."""

    @property
    def metadata(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def identified(thing: Any) -> bool:
    """Say whether it has the metadata that MAITE asks of all its parts: a mapping with an id."""
    metadata = getattr(thing, "metadata", None)
    return isinstance(metadata, Mapping) and isinstance(metadata.get("id"), str)


def is_maite_dataset(thing: Any) -> TypeGuard[MaiteDataset]:
    """Say whether it is a data set of MAITE's: metadata with an id, a length, and items by their place."""
    return identified(thing) and all(hasattr(thing, name) for name in ("__len__", "__getitem__"))


def names_of(metadata: Mapping[str, Any], classes: int) -> tuple[str, ...] | None:
    """The names of so many classes in order, from the `index2label` of metadata; None where it does not name each."""
    names = metadata.get("index2label")
    if not isinstance(names, Mapping) or any(index not in names for index in range(classes)):
        return None
    return tuple(str(names[index]) for index in range(classes))


class MaiteData(Data):
    """A data set of MAITE's: (picture [C, H, W], a number for each class [K], metadata with an id).

    A picture is uint8, or floating in [0,1]; the class is the place of the largest number.

    Raises:
        DataError: it is empty, or its first item is not so.
    """

    def __init__(self, dataset: MaiteDataset) -> None:
        name = str(dataset.metadata["id"])
        super().__init__(name, name)
        self.dataset = dataset
        if not len(self):
            raise DataError(f"{name} is empty: it needs at least one picture")
        picture, target, _ = self.item(0)
        self.shape, self.classes = picture.shape, len(target)
        self.whole = picture.dtype == np.uint8
        self.labels = names_of(dataset.metadata, self.classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, index: int) -> tuple[Array, Array, str]:
        """The picture as it is, the target and the id of an item; DataError if it is of another form."""
        try:
            image, target, metadata = self.dataset[index]
            picture, found = np.asarray(image), np.asarray(target)
            name = str(metadata["id"])
        except Exception as error:  # anybody's code
            raise DataError(f"{self.name}: item {index} cannot be read ({one_line(error)})") from None
        numbers = picture.dtype == np.uint8 or picture.dtype.kind == "f"
        if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not numbers:
            raise DataError(
                f"{self.name}: item {index} has a picture {picture.dtype} {list(picture.shape)}: "
                "uint8, or float in [0,1], of [C, H, W] is needed, C 1 or 3"
            )
        if found.ndim != 1 or found.dtype.kind not in "buif" or len(found) < 2 or np.isnan(found.astype(float)).any():
            raise DataError(
                f"{self.name}: item {index} has a target {found.dtype} {list(found.shape)}: a number a class is needed"
            )
        if picture.dtype != np.uint8 and not (picture.min() >= 0 and picture.max() <= 1):
            raise DataError(
                f"{self.name}: the picture of item {index} goes from {picture.min():g} to {picture.max():g}: "
                "give uint8, or scale it to [0,1]"
            )
        return picture, found, name

    def first_pictures(self, count: int) -> Tensor:
        """The first few pictures, float32 [B, C, H, W] in [0,1]; those of the first one's shape."""
        found = [self.item(index)[0] for index in range(min(count, len(self)))]
        return torch.stack([_scaled(picture) for picture in found if picture.shape == self.shape])

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        wanted = (model.preprocess.channels, *model.preprocess.size)
        if self.classes != model.num_classes:
            raise DataError(
                f"{self.name} has {self.classes} classes, {model.name} has {model.num_classes}: not the same"
            )
        if not self.whole and self.shape != wanted:
            have, want = ("×".join(map(str, sides)) for sides in (self.shape, wanted))
            raise DataError(f"{self.name} has pictures of {have}, {model.name} wants {want}: only uint8 is resized")
        order = list(range(self.classes))
        if self.labels is not None and model.labels is not None:
            order = match_classes(self.labels, model, self.name)

        def listing() -> Iterator[Sample]:
            for index in range(len(self)):
                yield Sample(str(index), partial(self._read, index, model, order))

        return listing

    def _read(self, index: int, model: Asks, order: Sequence[int]) -> tuple[Tensor, int]:
        picture, target, _ = self.item(index)
        y, wanted = order[int(target.argmax())], (model.preprocess.channels, *model.preprocess.size)
        if picture.shape == wanted:
            return _scaled(picture), y
        if picture.dtype != np.uint8:
            have = "×".join(map(str, picture.shape))
            raise DataError(f"{self.name}: item {index} is {have}, not as large as the first")
        planes = picture[0] if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
        return to_input(Image.fromarray(np.ascontiguousarray(planes)), model.preprocess), y


def _scaled(picture: Array) -> Tensor:
    scale = 255 if picture.dtype == np.uint8 else 1
    return torch.from_numpy(np.array(picture, dtype=np.float32, order="C") / np.float32(scale))


class DatasetForMaite:
    """Data of ours as MAITE's protocol has it: `maite.protocols.image_classification.Dataset`.

    An item is (picture float32 [C, H, W] in [0,1], one-hot float32 [K], {"id": name}), fitted to the model.

    Args:
        data: from `load_data`.
        model: for which the pictures are fitted and the classes numbered.

    Attributes:
        metadata: the id, and `index2label`, the names of the classes.
    """

    def __init__(self, data: Data, model: Asks) -> None:
        self.metadata: dict[str, Any] = {"id": data.name, "index2label": labels_by_index(model)}
        self._samples = list(data.resolve(model)())
        self._classes = model.num_classes

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int, /) -> tuple[Array, Array, dict[str, Any]]:
        """An item; DataError if its file cannot be read."""
        x, y = self._samples[index].read()
        return x.numpy(), np.eye(self._classes, dtype=np.float32)[y], {"id": self._samples[index].name}


def labels_by_index(model: Asks) -> dict[int, str]:
    """The name of each class, its number where it has none."""
    return dict(enumerate(model.labels or map(str, range(model.num_classes))))
