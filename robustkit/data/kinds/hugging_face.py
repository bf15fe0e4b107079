"""Data sets of Hugging Face's datasets: from the hub, from a saved folder, from a folder of parquet files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from torch import Tensor

from robustkit.data.class_names import is_imagenet, match_classes, names_imagenet
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.pictures import as_input
from robustkit.data.pixels import Preprocess, decode
from robustkit.errors import DataError
from robustkit.text import one_line, suggestion

PREFIX = "hf:"
# Splits to take where none is named, in order.
_SPLITS = ("test", "validation", "valid", "val", "dev")
_OPTIONS = ("image", "label", "config")
_LABELS = ("label", "labels", "class", "target", "y")
_FORM = "hf:NAME:SPLIT?image=COLUMN&label=COLUMN"


class HuggingFaceData(Data):
    """Pictures and classes in two columns of a table that lies on disk: each picture is read as it is asked for.

    Args:
        table: a `datasets.Dataset` whose column `image` holds encoded pictures.
        image, label: the columns.
    """

    def __init__(self, name: str, title: str, table: Any, image: str, label: str) -> None:
        super().__init__(name, title)
        self.table, self.image = table, image
        feature = table.features[label]
        values = table.with_format(None)[label][:]
        if any(value is None for value in values):
            raise DataError(f"{name}: {values.count(None)} samples have no {label}: leave them out, or name another")
        self.classes: list[str] | None = getattr(feature, "names", None)
        if self.classes is None and any(isinstance(value, str) for value in values):
            self.classes = sorted(set(values))
            index = {each: number for number, each in enumerate(self.classes)}
            values = [index[value] for value in values]
        self.numbers: list[int] = [int(value) for value in values]
        self.order = list(range(len(table)))
        if self.numbers == sorted(self.numbers):
            self.order = round_robin(self.order, lambda number: self.numbers[number])

    def __len__(self) -> int:
        return len(self.order)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = self._index(model)
        top = model.num_classes if index is None else len(index)
        wrong = [number for number in self.numbers if not 0 <= number < top]
        if wrong:
            raise DataError(
                f"{self.name}: class {wrong[0]} is none of {model.name}'s 0 to {top - 1} ({len(wrong)} such samples): "
                + ("the split has no labels, name another" if wrong[0] == -1 else "number them as the model does")
            )
        preprocess = model.preprocess

        def listing() -> Iterator[Sample]:
            for number in self.order:
                label = self.numbers[number]
                yield Sample(
                    str(number), partial(self._read, number, preprocess, label if index is None else index[label])
                )

        return listing

    def _index(self, model: Asks) -> list[int] | None:
        """Model's class for each of the data's; None if they are numbered alike."""
        if self.classes is None or (model.labels is None and model.num_classes == len(self.classes)):
            return None
        if is_imagenet(model) and names_imagenet(self.classes):
            return None
        return match_classes(self.classes, model, self.name)

    def _read(self, number: int, preprocess: Preprocess, label: int) -> tuple[Tensor, int]:
        try:
            cell = self.table[number][self.image]
        except Exception as error:  # a damaged file: pyarrow has kinds of its own
            raise DataError(f"cannot be read ({one_line(error)})") from None
        if cell is None or (cell.get("bytes") is None and not cell.get("path")):
            raise DataError("has no picture")
        source = cell["bytes"] if cell.get("bytes") is not None else Path(cell["path"])
        if isinstance(source, Path) and not source.is_file():
            raise DataError(f"its file {source} is not there")
        try:
            return as_input(decode(source, "picture", preprocess)), label
        except DataError as error:
            raise DataError(str(error).removeprefix("picture: ")) from None


def is_folder(place: Path) -> bool:
    """A folder that `save_to_disk` wrote, or one with parquet files in it or in its folder data/."""
    saved = any((place / file).is_file() for file in ("dataset_dict.json", "state.json"))
    return saved or bool(_parquet(place))


def load(name: str) -> HuggingFaceData:
    """The data called "hf:NAME", "hf:NAME:SPLIT", either with "?image=COLUMN&label=COLUMN&config=NAME" behind, where
    NAME is on the hub or a folder; or the path of such a folder alone. No code of theirs is run.

    Without a split it is the test split, else that for validation, else the only one.

    Raises:
        DataError: datasets is not installed; not there; a split or column that is to be named, or is not there.
    """
    try:
        import datasets
    except ImportError:
        raise DataError(f"{name} needs datasets: pip install 'robustkit[hf]'") from None
    place, split, options = name, None, dict[str, str]()
    if name.startswith(PREFIX):
        place, _, query = name.removeprefix(PREFIX).partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        unknown = [key for key in options if key not in _OPTIONS]
        if unknown:
            raise DataError(f"{name}: {unknown[0]!r} is none of {', '.join(_OPTIONS)}: write {_FORM}")
        if not Path(place).exists() and ":" in place:
            place, _, split = place.rpartition(":")
    with _quiet(datasets):
        table, split = _table(datasets, place, split, options.get("config"), name)
        image, label = _columns(datasets, table, options, name)
        table = table.cast_column(image, datasets.Image(decode=False))
        title = f"{Path(place).resolve().name if Path(place).is_dir() else place}{f', {split} split' if split else ''}"
        return HuggingFaceData(name, title, table.select_columns([image, label]), image, label)


def _table(datasets: Any, place: str, split: str | None, config: str | None, name: str) -> tuple[Any, str]:
    """The split that is asked for, and what it is called; "" for a table without splits."""
    folder = Path(place)
    if folder.is_dir():
        found = _from_folder(datasets, folder, name)
    else:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", place):
            raise DataError(f"{name}: there is no folder {place!r}, and no data set can be called so: write {_FORM}")
        try:
            if split is None:  # of a large data set no more than the split that is wanted is fetched
                listed = datasets.load_dataset_builder(place, config).info.splits
                split = _chosen(list(listed), name) if listed else None
            found = datasets.load_dataset(place, config, split=split)
        except DataError:
            raise
        except Exception as error:  # absent, no network, no such split or configuration: each has its kind
            raise DataError(
                f"{name} is not in the cache of datasets and could not be fetched ({one_line(error)}): fetch it where "
                "there is a network, save_to_disk, and give the folder"
            ) from None
        if split is not None:
            return found, split
    if not isinstance(found, dict):
        if split is not None and split != str(found.split or ""):
            raise DataError(f"{name}: {place} is one table without a split {split!r}: leave it out")
        return found, str(found.split or "")
    if split is None:
        split = _chosen(list(found), name)
    if split not in found:
        raise DataError(f"{name} has no split {split!r}{suggestion(split, found)}; there are {', '.join(found)}")
    return found[split], split


def _from_folder(datasets: Any, folder: Path, name: str) -> Any:
    files = _parquet(folder)
    try:
        if not files:
            return datasets.load_from_disk(str(folder))
        splits: dict[str, list[str]] = {}
        for file in files:  # named as the hub names them: test-00000-of-00001.parquet
            splits.setdefault(re.sub(r"-\d+(-of-\d+)?$", "", file.stem), []).append(str(file))
        return datasets.load_dataset("parquet", data_files=splits)
    except Exception as error:  # pyarrow, datasets and the file system raise kinds of their own
        raise DataError(
            f"{name} cannot be read ({one_line(error)}): give a folder that save_to_disk wrote, or one of parquet files"
        ) from None


def _parquet(place: Path) -> list[Path]:
    return sorted(place.glob("*.parquet")) or sorted((place / "data").glob("*.parquet"))


def _chosen(splits: Sequence[str], name: str) -> str:
    found = next((split for split in _SPLITS if split in splits), splits[0] if len(splits) == 1 else None)
    if found is None:
        raise DataError(f"{name} has the splits {', '.join(splits)}: say which, such as hf:NAME:{splits[0]}")
    return found


def _columns(datasets: Any, table: Any, options: dict[str, str], name: str) -> tuple[str, str]:
    """The columns of pictures and of classes: named, or the only ones that can be.

    Raises:
        DataError: a name that is none, a column that cannot be it, none or several that can.
    """
    features = table.features
    pictures = [key for key, feature in features.items() if _holds_pictures(datasets, feature)]
    classes = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    plain = [key for key, feature in features.items() if _holds_classes(datasets, feature)]
    classes = classes or [key for key in plain if key.lower() in _LABELS] or (plain if len(plain) == 1 else [])
    image = _column(options.get("image"), pictures, pictures, features, ("image", "pictures", name))
    label = _column(options.get("label"), classes, [*classes, *plain], features, ("label", "classes", name))
    return image, label


def _column(
    asked: str | None, likely: list[str], possible: list[str], features: Any, what: tuple[str, str, str]
) -> str:
    option, holds, name = what
    if asked is None and len(likely) == 1:
        return likely[0]
    if asked is None:
        found = f"{len(likely)} columns of {holds} ({', '.join(likely)})" if likely else f"no column of {holds}"
        raise DataError(f"{name} has {found} among {', '.join(features)}: write {_FORM}")
    if asked not in features:
        raise DataError(f"{name} has no column {asked!r}{suggestion(asked, features)}; there are {', '.join(features)}")
    if asked not in possible:
        raise DataError(f"{name}: {asked} is no column of {holds}; {option} may be {', '.join(possible) or 'none'}")
    return asked


def _holds_pictures(datasets: Any, feature: Any) -> bool:
    """An Image, or what parquet files that others wrote have in its place: a struct of bytes and path."""
    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _holds_classes(datasets: Any, feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return isinstance(feature, datasets.Value) and (kind.startswith(("int", "uint")) or "string" in kind)


@contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Keep the library from drawing progress bars and from printing what is raised anyhow."""
    log = datasets.utils.logging
    level, bars = log.get_verbosity(), datasets.are_progress_bars_disabled()
    log.set_verbosity(50)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
