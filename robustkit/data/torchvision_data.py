"""The test splits of torchvision's classification datasets."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from robustkit.data.class_names import fold, match_numbers
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.pictures import Preprocess, to_input
from robustkit.errors import DataError
from robustkit.text import one_line, suggestion

# What each class calls its test split.
_SPLITS: dict[str, dict[str, Any]] = {
    **{name: {"train": False} for name in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "USPS")},
    **{name: {"split": "test"} for name in ("SVHN", "STL10", "Flowers102", "Food101", "GTSRB", "DTD", "PCAM")},
    **{name: {"split": "test"} for name in ("OxfordIIITPet", "FGVCAircraft", "Country211", "RenderedSST2")},
    "Imagenette": {"split": "val"},
}


class TorchvisionData(Data):
    """A torchvision dataset of (picture, class); sorted by class it is taken round-robin over the classes."""

    def __init__(self, name: str, title: str, dataset: Any) -> None:
        super().__init__(name, title)
        self.dataset = dataset
        classes = getattr(dataset, "classes", None)
        self.classes = None if classes is None else [str(label) for label in classes]
        labels = next(
            (getattr(dataset, key) for key in ("targets", "_labels", "labels") if hasattr(dataset, key)), None
        )
        try:
            numbers = [] if labels is None else [int(label) for label in labels]
        except (TypeError, ValueError):  # names, or something else that is called so
            numbers = []
        self.order = list(range(len(dataset)))
        if len(numbers) == len(self.order) and numbers == sorted(numbers):
            self.order = round_robin(self.order, lambda number: numbers[number])

    def __len__(self) -> int:
        return len(self.order)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = self._index(model)
        preprocess = model.preprocess

        def listing() -> Iterator[Sample]:
            for number in self.order:
                yield Sample(str(number), partial(self._read, number, preprocess, index))

        return listing

    def _index(self, model: Asks) -> list[int] | None:
        """Model's class for each of the dataset's; None if they are numbered alike."""
        # MNIST's classes are called "0 - zero".
        short = self.classes and [name.partition(" - ")[0] if name[:1].isdigit() else name for name in self.classes]
        return match_numbers(short, model, self.name)

    def _read(self, number: int, preprocess: Preprocess, index: list[int] | None) -> tuple[Tensor, int]:
        try:
            image, label = self.dataset[number]
        except Exception as error:  # torchvision decodes files with whatever errors Pillow has
            raise DataError(f"cannot be read ({one_line(error)})") from None
        if not isinstance(image, Image.Image):
            raise DataError(f"is a {type(image).__name__}, not a picture")
        return to_input(image, preprocess), int(label) if index is None else index[int(label)]


def torchvision_data(name: str) -> TorchvisionData:
    """The test split of "torchvision:CIFAR10" or another, from `$ROBUSTKIT_DATA` or ~/.cache/robustkit, or fetched.

    Raises:
        DataError: no such dataset, or not there and no network.
    """
    from torchvision import datasets

    short = name.partition(":")[2]
    known = {fold(each): each for each in _SPLITS}
    found = known.get(fold(short))
    if found is None:
        raise DataError(
            f"{short!r} is no dataset known here{suggestion(short, _SPLITS)}; there are {', '.join(_SPLITS)}"
        )
    root = Path(os.environ.get("ROBUSTKIT_DATA") or Path.home() / ".cache" / "robustkit")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = getattr(datasets, found)(root=str(root), download=True, **_SPLITS[found])
    except Exception as error:  # URLError, RuntimeError, OSError, missing scipy: each dataset has its own
        raise DataError(
            f"{found} is not in {root} and could not be fetched ({one_line(error)}): put torchvision's files "
            "there, or set ROBUSTKIT_DATA to the folder that has them"
        ) from None
    return TorchvisionData(name, f"{found}, test split", dataset)
