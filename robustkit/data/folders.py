"""Pictures in files: a folder per class, and the photographs that foolbox ships."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from robustkit.data.class_names import is_imagenet, match_classes
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.pictures import as_input
from robustkit.data.pixels import Pixels, Preprocess, read_pixels
from robustkit.errors import DataError

# Left by an archiver beside the pictures.
_JUNK = {"__MACOSX"}


class FileData(Data):
    """Picture files with a class name each.

    Args:
        files: (path, class name), in order.
        classes: every class name there is, files or not.
        root: names are shown relative to it.
    """

    decodes: ClassVar[bool] = True

    def __init__(self, name: str, title: str, files: list[tuple[Path, str]], classes: list[str], root: Path) -> None:
        super().__init__(name, title)
        self.files = files
        self.classes = classes
        self.root = root

    def __len__(self) -> int:
        return len(self.files)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = dict(zip(self.classes, self._indices(model), strict=True))
        preprocess = model.preprocess

        def listing() -> Iterator[Sample]:
            for path, label in self.files:
                shown = (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()
                yield Sample(shown, partial(_read, path, shown, preprocess, index[label]))

        return listing

    def _indices(self, model: Asks) -> list[int]:
        return match_classes(self.classes, model, self.name)


class ImageNetSamples(FileData):
    """The photographs in foolbox's data folder, named imagenet_NN_CLASS.jpg."""

    def __init__(self, name: str = "imagenet-samples") -> None:
        root = package_folder("foolbox") / "data"
        files = [(path, path.stem.rpartition("_")[2]) for path in sorted(root.glob("imagenet_*_*.jpg"))]
        if not files:
            raise DataError(f"foolbox's photographs are not in {root}: install it again, pip install foolbox")
        classes = sorted({label for _, label in files})
        super().__init__(name, f"{len(files)} ImageNet photographs", files, classes, root)

    def _indices(self, model: Asks) -> list[int]:
        if model.num_classes != 1000 or not (model.labels is None or is_imagenet(model)):
            raise DataError(
                f"{self.name} has ImageNet's 1,000 classes, {model.name} has {model.num_classes} others: "
                "take an ImageNet model or data of the model's classes"
            )
        return [int(label) for label in self.classes]


def folder_data(root: Path, name: str) -> FileData:
    """One sub-folder of pictures per class, taken in turn from each class so that any prefix is balanced.

    Files and folders whose names begin with a dot do not count; folders inside a class's folder do.

    Raises:
        DataError: no class folders, or not a file in them, or a folder that may not be read.
    """
    try:
        entries = sorted(root.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(f"{root} cannot be opened ({error.strerror}): check the path and its permissions") from None
    visible = [path for path in entries if not path.name.startswith(".") and path.name not in _JUNK]
    folders = [path for path in visible if path.is_dir()]
    expected = "one sub-folder of pictures per class is expected"
    if not visible:
        raise DataError(f"{root} is empty: {expected}")
    if not folders:
        raise DataError(f"{root} has {len(visible)} files but no sub-folders: {expected}")
    files = [(path, folder.name) for folder in folders for path in _files(folder)]
    if not files:
        raise DataError(f"{root} has {len(folders)} sub-folders without a file: {expected}")
    ordered = round_robin(files, lambda item: item[1])
    return FileData(name, root.resolve().name, ordered, [folder.name for folder in folders], root)


def package_folder(package: str) -> Path:
    """Folder of an installed package, found without importing it.

    Raises:
        DataError: not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{package}, whose samples are wanted, is not installed: pip install {package}")
    return Path(spec.submodule_search_locations[0])


def _files(folder: Path) -> list[Path]:
    """Every visible file below the folder; a link that leads back up is entered once."""
    found: list[Path] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be opened ({error.strerror}): change its permissions") from None

    for place, inner, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        found += [Path(place, name) for name in sorted(names) if not name.startswith(".")]
    return found


def _read(
    path: Path,
    shown: str,
    preprocess: Preprocess,
    label: int,
    decode: Callable[[Path, Preprocess], Pixels] = read_pixels,
) -> tuple[Tensor, int]:
    try:
        return as_input(decode(path, preprocess)), label
    except DataError as error:
        raise DataError(re.sub(f"^{re.escape(str(path))}: ", "", str(error))) from None
