"""Data that code of the user's makes: `file.py:NAME`, run on the user's word."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from robustkit.data.array_rules import Array
from robustkit.data.arrays import ArrayData, Rows
from robustkit.data.dataset import Data
from robustkit.data.kinds.array_files import pair_data, rounding_of, row_of
from robustkit.data.kinds.datasets import DatasetData, label_of, parts_of
from robustkit.errors import DataError, RobustkitError
from robustkit.text import one_line, suggestion

_GIVE = "give a pair (x, y) of tensors, a Dataset, a DataLoader, or a function that returns one"
_NAME = re.compile(r"(?P<file>.+\.py):(?P<name>[^:/]*)", re.DOTALL)


def is_code(name: str) -> bool:
    """True for names such as "path/file.py:NAME"."""
    return _NAME.fullmatch(name) is not None


def code_data(name: str) -> Data:
    """What NAME in a Python file is, or returns if it is a function: (x, y), a Dataset or a DataLoader.

    Its pictures are in [0,1], or of 0 to 255: the model normalises by itself. The title tells the file and its SHA-256.

    Raises:
        DataError: no such file or name, code that fails, or nothing that is labelled pictures.
    """
    match = _NAME.fullmatch(name)
    assert match is not None
    file, short = Path(match["file"]), match["name"]
    made, digest = _made(name, file, short)
    title = f"{short} of {file.name}, SHA-256 {digest[:12]}"
    if isinstance(made, Data):
        made.name, made.title = name, f"{made.title} ({title})"
        return made
    if isinstance(made, DataLoader):
        return _of_loader(made, name, title)
    if isinstance(made, IterableDataset):
        return _of_batches(DataLoader(made, batch_size=None), name, title)
    return _of_dataset(made, name, title)


def _of_dataset(made: Any, name: str, title: str) -> Data:
    if isinstance(made, TensorDataset) and len(made.tensors) == 2:
        return pair_data(name, title, made.tensors, _GIVE)
    pair = isinstance(made, tuple | list) and len(made) == 2 and isinstance(made[0], Tensor | np.ndarray)
    if pair or isinstance(made, Mapping):
        return pair_data(name, title, made, _GIVE)
    if isinstance(made, Tensor | np.ndarray | str | bytes) or not (
        hasattr(made, "__getitem__") and hasattr(made, "__len__")
    ):
        raise DataError(f"{name} is a {type(made).__name__}, no labelled pictures: {_GIVE}")
    return DatasetData(name, title, made)


def _of_loader(loader: DataLoader[Any], name: str, title: str) -> Data:
    """The loader's dataset in its own order where its batches are rows of that; else the batches as they come."""
    plain = (default_collate, default_convert)
    if isinstance(loader.dataset, IterableDataset):
        return _of_batches(loader, name, title)
    if loader.sampler is not None and type(loader.sampler) not in (SequentialSampler, RandomSampler):
        kind = type(loader.sampler).__name__
        raise DataError(f"{name}: the DataLoader draws by {kind}: give its Dataset, or a Subset of that")
    shuffled = isinstance(loader.sampler, RandomSampler)
    if loader.collate_fn in plain:
        return _of_dataset(loader.dataset, name, f"{title}, not shuffled" if shuffled else title)
    if shuffled:
        raise DataError(f"{name}: the DataLoader shuffles: give shuffle=False, so that samples keep their places")
    return _of_batches(loader, name, title)


def _of_batches(loader: DataLoader[Any], name: str, title: str) -> ArrayData:
    """The rows of batches (x, y), which come in the same order each time."""

    def batches() -> Iterator[tuple[Any, list[int]]]:
        try:
            for batch in loader:
                x, y = parts_of(batch, name)
                if not isinstance(x, Tensor | np.ndarray):
                    raise DataError(f"{name}: the pictures of a batch are a {type(x).__name__}: give tensors")
                single = loader.batch_size is None and np.ndim(y) == 0
                x, labels = (x[None], [y]) if single else (x, list(y))
                if len(x) != len(labels):
                    raise DataError(f"{name}: a batch has {len(x)} pictures and {len(labels)} classes")
                yield x, [label_of(label, name) for label in labels]
        except RobustkitError:
            raise
        except Exception as error:
            raise DataError(f"{name} fails ({one_line(error)}): see that it runs through by itself") from None

    known = [label for _, labels in batches() for label in labels]
    if not known:
        raise DataError(f"{name} gives no batches: {_GIVE}")
    first = next(batches())[0]

    def each() -> Iterator[Array]:
        place = 0
        for x, labels in batches():
            if labels != known[place : place + len(labels)]:
                raise RobustkitError(f"{name} comes in another order each time: give it without shuffling")
            place += len(labels)
            for row in x:
                yield row_of(row) if isinstance(row, Tensor) else row

    rounding = {"rounding": rounding_of(first.dtype)} if isinstance(first, Tensor) else {}
    return ArrayData(name, title, Rows(each, **rounding), np.array(known))


def _made(name: str, file: Path, short: str) -> tuple[Any, str]:
    """The object, made by its function where it is one, and the SHA-256 (hex) of the file."""
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be opened ({error.strerror}): check the path") from None
    if not short.isidentifier():
        raise DataError(f"{name} names no object: write {file}:NAME, where NAME is {_GIVE.removeprefix('give ')}")
    spec = spec_from_file_location(f"robustkit_data_{digest[:12]}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    folder = str(file.resolve().parent)
    sys.modules[spec.name] = module  # for what is pickled, and for dataclasses
    sys.path.insert(0, folder)  # as `python file.py` does
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
            if not hasattr(module, short):
                names = [each for each in vars(module) if not each.startswith("_")]
                raise DataError(f"{file} has no {short}{suggestion(short, names)}; it has {', '.join(names[-5:])}")
            return _called(getattr(module, short), name), digest
    except RobustkitError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(
            f"{name} fails ({type(error).__name__}: {one_line(error)}): see that it runs by itself"
        ) from None
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # for what it imports later, behind all else


def _called(found: Any, name: str) -> Any:
    ready = hasattr(found, "__getitem__") or isinstance(found, Data | DataLoader | IterableDataset)
    if not callable(found) or (ready and not isinstance(found, type)):
        return found
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be called without arguments ({one_line(error)}): {_GIVE}") from None
    return found()
