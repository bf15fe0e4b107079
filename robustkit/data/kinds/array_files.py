"""Pictures x and classes y in `.npy`, `.pt` and `.safetensors` files, read a row at a time."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.data.array_rules import Array
from robustkit.data.arrays import ArrayData, Rows, reading
from robustkit.data.pixels import ROUNDING
from robustkit.errors import DataError

# Names that pictures and classes have in a dict.
_PAIRS = (("x", "y"), ("images", "labels"), ("image", "label"), ("data", "targets"))
_SAVE_PT = "save it again with torch.save({'x': x, 'y': y}, file)"
_SAVE_SAFETENSORS = "save it again with safetensors.torch.save_file({'x': x, 'y': y}, file)"
_SAVE_NPY = "save it again with numpy.save"
_EXACT = (torch.float16, torch.float32, torch.float64)


def npy_data(name: str) -> ArrayData:
    """Pictures in `x.npy` with the classes in `y.npy` beside it."""
    file = Path(name)
    if file.stem != "x":
        raise DataError(f"{name}: pictures and classes are two files: save x.npy and y.npy in one folder, give x.npy")
    other = file.with_name("y.npy")
    if not other.is_file():
        raise DataError(f"{name} has no y.npy beside it: save the classes there, numpy.save('y.npy', classes)")
    with reading(str(other), _SAVE_NPY):
        y = np.load(other, allow_pickle=False)

    def each() -> Iterator[Array]:
        with reading(name, _SAVE_NPY):
            yield from np.lib.format.open_memmap(file, mode="r")

    return ArrayData(name, f"{file.resolve().parent.name}/{file.name}", Rows(each), y)


def pt_data(name: str) -> ArrayData:
    """x and y that `torch.save` wrote: a dict or a pair of tensors. Nothing else is unpickled, no code can run."""
    file = Path(name)
    with reading(name, _SAVE_PT):
        try:
            content = _loaded(file)
        except Exception as error:
            if "weights_only" not in str(error) and "Unsupported" not in str(error):
                raise
            raise DataError(f"{name} holds more than tensors, and to read it would run code: {_SAVE_PT}") from None
    return pair_data(name, file.name, content, _SAVE_PT)


def safetensors_data(name: str) -> ArrayData:
    """x and y in a `.safetensors` file; bytes in it are read as they are needed."""
    from safetensors import safe_open

    file = Path(name)
    with reading(name, _SAVE_SAFETENSORS), safe_open(file, framework="pt") as content:
        pictures, classes = _keys(content.keys(), name, _SAVE_SAFETENSORS)
        y = _numbers(content.get_tensor(classes), name)
        slices = content.get_slice(pictures)
        if not slices.get_shape():
            raise DataError(f"{name}: {pictures} is one number: save the pictures as [N, C, H, W]")
        first = slices[:1].dtype

    def each() -> Iterator[Array]:
        with reading(name, _SAVE_SAFETENSORS), safe_open(file, framework="pt") as content:
            rows = content.get_slice(pictures)
            for number in range(rows.get_shape()[0]):
                yield row_of(rows[number : number + 1][0])

    return ArrayData(name, file.name, Rows(each, rounding_of(first)), y)


def pair_data(name: str, title: str, content: Any, remedy: str) -> ArrayData:
    """Data of a dict of x and y, or of a pair (x, y); of tensors or arrays.

    Raises:
        DataError: neither, or not of pictures and classes.
    """
    if isinstance(content, Mapping):
        x, y = (content[key] for key in _keys([str(key) for key in content], name, remedy))
    elif isinstance(content, tuple | list) and len(content) == 2:
        x, y = content
    else:
        raise DataError(f"{name} holds a {type(content).__name__}, no pictures x and classes y: {remedy}")
    if not isinstance(x, Tensor | np.ndarray) or not x.ndim:
        raise DataError(f"{name}: x is a {type(x).__name__}, not an array [N, C, H, W]: {remedy}")
    if isinstance(x, np.ndarray):
        return ArrayData(name, title, Rows(lambda: iter(x)), _numbers(y, name))
    if x.layout != torch.strided or x.is_quantized:
        raise DataError(f"{name}: x is not a dense tensor: give x.to_dense()")
    tensor = x.detach().cpu()
    return ArrayData(name, title, Rows(lambda: map(row_of, tensor), rounding_of(x.dtype)), _numbers(y, name))


def _keys(found: Collection[str], name: str, remedy: str) -> tuple[str, str]:
    pairs = [pair for pair in _PAIRS if found and all(key in found for key in pair)]
    if len(pairs) == 1:
        return pairs[0]
    shown = ", ".join(list(found)[:4]) + (", ..." if len(found) > 4 else "")
    if pairs:
        raise DataError(f"{name} has {shown}, more than one pair of pictures and classes: keep one, {remedy}")
    raise DataError(f"{name} has no x and y but {shown or 'nothing'}: {remedy}")


def _loaded(file: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle's version, and of what is refused in a moment
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(file, map_location="cpu", weights_only=True)  # of before PyTorch 1.6


def _numbers(y: Any, name: str) -> Array:
    if isinstance(y, Tensor):
        y = row_of(y)
    try:
        return np.asarray(y)
    except ValueError:
        raise DataError(f"{name}: y must be integers of shape [N], not lists of several lengths") from None


def row_of(row: Tensor) -> Array:
    """A tensor as an array; bfloat16 and smaller as float32."""
    values = row.detach().cpu()
    return (values.float() if values.is_floating_point() and values.dtype not in _EXACT else values).numpy()


def rounding_of(dtype: torch.dtype) -> float:
    """How far outside [0,1] a value of this dtype is a rounding error."""
    return max(ROUNDING, torch.finfo(dtype).eps) if dtype.is_floating_point else ROUNDING
