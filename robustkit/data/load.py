"""Load labelled pictures by their name: samples that come along, a folder, a file, a library's dataset, code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from robustkit.data.arrays import MnistSamples, TensorData, npz_data
from robustkit.data.dataset import Batch, Data
from robustkit.data.folders import ImageNetSamples, folder_data
from robustkit.data.kinds import hugging_face
from robustkit.data.kinds.array_files import npy_data, pt_data, safetensors_data
from robustkit.data.kinds.code import code_data, is_code
from robustkit.data.kinds.medmnist import medmnist_data
from robustkit.data.kinds.tables import csv_data, parquet_data
from robustkit.data.names import DATA, data_names
from robustkit.data.pictures import load_picture
from robustkit.data.torchvision_data import torchvision_data
from robustkit.errors import DataError
from robustkit.text import suggestion

__all__ = ["Batch", "Data", "data_names", "load_data", "load_picture", "tensor_data"]

Loader = Callable[[str], Data]

# A kind of data is a line of one of these tables: by its name, the prefix of its name or the suffix of its file.
NAMES: dict[str, Loader] = {"imagenet-samples": ImageNetSamples, "mnist-samples": MnistSamples}
PREFIXES: dict[str, Loader] = {
    "torchvision:": torchvision_data,
    "medmnist:": medmnist_data,
    hugging_face.PREFIX: hugging_face.load,
}
SUFFIXES: dict[str, Loader] = {
    ".npz": npz_data,
    ".npy": npy_data,
    ".pt": pt_data,
    ".safetensors": safetensors_data,
    ".csv": csv_data,
    ".parquet": parquet_data,
}


def load_data(name: str | os.PathLike[str]) -> Data:
    """The data called `name`, listed but not read; see `data_names`.

    Args:
        name: "imagenet-samples", "mnist-samples", "torchvision:CIFAR10", "medmnist:dermamnist", "hf:NAME:SPLIT", a
            folder with one sub-folder of pictures per class, one that `datasets` saved or one of parquet files, an
            `.npz`, `.pt` or `.safetensors` file or `x.npy` with `y.npy` beside it of x (uint8 [N, H, W, C], or float32
            [N, C, H, W] in [0,1]) and y (int [N]), a `.csv` or `.parquet` table of paths and labels, or
            "file.py:NAME", Python code that is run.

    Raises:
        DataError: unknown, not there, empty, or not of the form it should have.
    """
    name = os.fspath(name)
    prefix, colon, _ = name.partition(":")
    loader = NAMES.get(name) or PREFIXES.get(prefix + colon)
    if loader is not None:
        return loader(name)
    if is_code(name):
        return code_data(name)
    place = Path(name)
    if hugging_face.is_folder(place):
        return hugging_face.load(name)
    if place.is_dir():
        return folder_data(place, name)
    if place.suffix.lower() in SUFFIXES:
        if not place.is_file():
            raise DataError(f"{name} does not exist: check the path")
        return SUFFIXES[place.suffix.lower()](name)
    if place.exists():
        raise DataError(
            f"{name} is a single file: give a folder with one sub-folder per class, or a file that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    known = [each for each, _ in DATA if each.islower()]
    raise DataError(
        f"there is no data called {name!r}{suggestion(name, known)}; there are {', '.join(known)}, "
        f"{', '.join(f'{prefix}NAME' for prefix in PREFIXES)}, file.py:NAME, folders and {', '.join(SUFFIXES)} files"
    )


def tensor_data(x: Tensor, y: Tensor, name: str = "tensors") -> Data:
    """Pictures in memory as data: x float32 [N, C, H, W] in [0,1], y int64 [N].

    Raises:
        DataError: a wrong dtype or shape, NaN, or values outside [0,1].
    """
    return TensorData(x, y, name)
