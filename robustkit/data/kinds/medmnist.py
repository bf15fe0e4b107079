"""MedMNIST's test splits (Yang et al. 2023), from the `.npz` files that the package medmnist keeps."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from robustkit.data.array_rules import Array, check_classes, class_numbers
from robustkit.data.arrays import read_rows, reading
from robustkit.data.class_names import match_numbers
from robustkit.data.dataset import Asks, Data, Sample
from robustkit.data.folders import package_folder
from robustkit.data.pictures import Preprocess, to_input
from robustkit.errors import DataError
from robustkit.text import one_line, suggestion

_SIZES = ("28", "64", "128", "224")


class MedMnistData(Data):
    """The test split of a set with one class a picture, in the order of its file; fitted to the model's size.

    Args:
        classes: names of the classes, in order.
    """

    def __init__(self, name: str, title: str, file: Path, classes: list[str]) -> None:
        super().__init__(name, title)
        self.file = file
        self.classes = classes
        with self._reading(), np.load(file, allow_pickle=False) as content:
            labels = content["test_labels"]
            self.y = class_numbers(labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels, name)
        count = 0
        for row in self._rows():
            if row.dtype != np.uint8 or not (row.ndim == 2 or (row.ndim == 3 and row.shape[2] == 3)):
                raise DataError(f"{name}: test_images in {file} are {row.dtype} of {row.shape}, not MedMNIST's: {_GET}")
            count += 1
        if not count or count != len(self.y) or self.y.min() < 0 or self.y.max() >= len(classes):
            raise DataError(f"{name}: {count} pictures and {len(self.y)} classes in {file} do not fit: {_GET}")

    def __len__(self) -> int:
        return len(self.y)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = match_numbers(self.classes, model, self.name)
        y = self.y if index is None else np.array(index)[self.y]
        check_classes(y, model, self.name)
        preprocess = model.preprocess

        def listing() -> Iterator[Sample]:
            for number, row in enumerate(self._rows()):
                yield Sample(str(number), partial(_read, row, preprocess, int(y[number])))

        return listing

    def _rows(self) -> Iterator[Array]:
        with self._reading(), zipfile.ZipFile(self.file) as archive, archive.open("test_images.npy") as stream:
            yield from read_rows(stream, self.name)

    def _reading(self) -> Any:
        return reading(str(self.file), _GET)


_GET = "remove it, and get it again with medmnist"


def medmnist_data(name: str) -> MedMnistData:
    """The test split of "medmnist:dermamnist", or of "medmnist:dermamnist_64" in 64×64.

    It is looked for in `$ROBUSTKIT_DATA`, where that is set, and in medmnist's own folder, ~/.medmnist. Nothing is
    fetched.

    Raises:
        DataError: medmnist is not installed, no such set, its file is not there, or its pictures have several labels.
    """
    short, _, size = name.partition(":")[2].lower().partition("_")
    library = _library()
    known: dict[str, dict[str, Any]] = library.INFO
    flat = [each for each, info in known.items() if not each.endswith("3d") and "multi-label" not in info["task"]]
    if short not in flat or (size and size not in _SIZES):
        why = "has volumes or several labels a picture" if short in known and short not in flat else "is not known"
        raise DataError(
            f"{name} {why}{suggestion(short, flat)}; there are {', '.join(flat)}, each also with "
            f"{', '.join('_' + side for side in _SIZES[1:])}"
        )
    info = known[short]
    stem = short if size in ("", "28") else f"{short}_{size}"
    folders = [
        Path(folder) for folder in (os.environ.get("ROBUSTKIT_DATA"), library.DEFAULT_ROOT or "~/.medmnist") if folder
    ]
    file = next((folder / f"{stem}.npz" for folder in folders if (folder / f"{stem}.npz").is_file()), None)
    if file is None:
        option = f", size={size}" if stem != short else ""
        raise DataError(
            f'{stem}.npz is not in {" or ".join(map(str, folders))}: get it with python -c "import medmnist; '
            f"medmnist.{info['python_class']}('test', download=True{option})\", or set ROBUSTKIT_DATA to its folder"
        )
    labels: dict[str, str] = info["label"]
    classes = [labels[str(number)] for number in range(len(labels))]
    sides = f", {size}×{size}" if stem != short else ""
    return MedMnistData(name, f"{info['python_class']}, test split{sides}", file, classes)


def _library() -> Any:
    """medmnist's table of its sets; read from its file, as the package imports pandas and scikit-learn for seconds."""
    try:
        file = package_folder("medmnist") / "info.py"
    except DataError:
        raise DataError("MedMNIST's sets take medmnist: pip install 'robustkit[medmnist]'") from None
    spec = spec_from_file_location("robustkit_medmnist_info", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{file} cannot be read ({one_line(error)}): pip install medmnist again") from None
    return module


def _read(row: Array, preprocess: Preprocess, label: int) -> tuple[Tensor, int]:
    return to_input(Image.fromarray(row), preprocess), label
