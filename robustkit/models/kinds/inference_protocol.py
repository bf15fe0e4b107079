"""Tensors of the Open Inference Protocol (V2): what metadata say of them, and pictures and answers as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustkit.errors import ConfigError, ModelError

FLOATS = ("FP16", "FP32", "FP64", "BF16")
WHOLE = ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_AXES = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 2, 3, 1), "CHW": (0, 1, 2, 3), "HWC": (0, 2, 3, 1), "NHW": (0, 1, 2, 3)}


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as metadata describe it; -1 in the shape stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.datatype} {list(self.shape)})"


def tensors(metadata: Mapping[str, Any], key: str, where: str) -> list[TensorInfo]:
    """The inputs or outputs that metadata name.

    Raises:
        ModelError: there are none, or they are not described as the protocol says.
    """
    try:
        found = [
            TensorInfo(str(each["name"]), str(each["datatype"]).upper(), tuple(int(side) for side in each["shape"]))
            for each in metadata.get(key) or ()
        ]
    except (TypeError, KeyError, ValueError):
        raise ModelError(f"{where}: its metadata do not describe its {key} as the protocol V2 says") from None
    if not found:
        raise ModelError(
            f"{where}: its metadata name no {key}: declare them (name, datatype, shape) in the model's configuration"
        )
    return found


@dataclass(frozen=True)
class PictureTensor:
    """An input of pictures.

    Args:
        info: as metadata describe it.
        axes: "NCHW", "NHWC", "NHW" (grey), or "CHW" and "HWC", which take one picture at a time.
        channels, size: of a picture; size is (height, width) in pixels.
        batch: the only batch size that it takes; None for any.
    """

    info: TensorInfo
    axes: str
    channels: int
    size: tuple[int, int]
    batch: int | None

    def encode(self, x: Tensor) -> dict[str, Any]:
        """Pictures [B, C, H, W] as a tensor of the protocol, B filled up to a fixed batch by the last picture again."""
        if self.batch is not None and len(x) < self.batch:
            x = torch.cat([x, x[-1:].expand(self.batch - len(x), *x.shape[1:])])
        x = x.permute(_AXES[self.axes])
        shape = [*x.shape] if len(self.axes) == 4 else [*x.shape[1:]]
        if self.axes == "NHW":
            shape = [x.shape[0], *x.shape[2:]]
        whole = self.info.datatype == "UINT8"
        data = (x * 255).round().clamp(0, 255).to(torch.uint8) if whole else x.double()  # read back to the bit
        return {
            "name": self.info.name,
            "datatype": self.info.datatype,
            "shape": shape,
            "data": data.flatten().tolist(),
        }


def picture_tensor(info: TensorInfo, size: tuple[int, int] | None, where: str) -> PictureTensor:
    """The input of pictures that metadata describe; `size` says what they leave open.

    Raises:
        ModelError: it takes no pictures, or its axes cannot be told.
        ConfigError: the size is needed, or is another.
    """
    if info.datatype != "UINT8" and info.datatype not in FLOATS:
        raise ModelError(f"{where} takes {info}: pictures are FP32, FP64, FP16 or UINT8")
    shape = info.shape
    axes = _axes(shape)
    if axes is None:
        raise ModelError(
            f"{where} takes {info}, of which height, width and channels (1 or 3) cannot be told: declare its input as "
            "[-1, 3, H, W] or [-1, H, W, 3]"
        )
    sides = dict(zip(axes, shape, strict=True))
    height, width = sides["H"], sides["W"]
    if size is None and min(height, width) < 1:
        raise ConfigError(f"{where} takes {info}, which leaves the size open: give --size")
    told = (height if height > 0 else (size or (0, 0))[0], width if width > 0 else (size or (0, 0))[1])
    if size is not None and told != size:
        raise ConfigError(f"{where} takes {info}: leave out --size {size[0]}×{size[1]}, or give that size")
    batch = None if sides.get("N", 1) < 1 else sides.get("N", 1)
    return PictureTensor(info, axes, sides.get("C", 1), told, batch)


def _axes(shape: Sequence[int]) -> str | None:
    """The axes of an input of pictures, None where they cannot be told for certain."""
    if len(shape) == 3 and shape[0] < 1:
        return "NHW"
    if len(shape) not in (3, 4):
        return None
    first, last = shape[-3] in (1, 3), shape[-1] in (1, 3)
    if first == last:
        return None
    return ("NCHW" if first else "NHWC")[4 - len(shape) :]


def decode(answer: Mapping[str, Any], output: TensorInfo, rows: int, where: str) -> NDArray[Any]:
    """The output of an answer as an array of `rows` rows: float64, int64, or names as objects.

    Raises:
        ModelError: it is not there, or its shape and data do not go together or with the rows asked for.
    """
    given = [each for each in answer.get("outputs") or () if isinstance(each, Mapping)]
    found = [each for each in given if each.get("name") == output.name] or given
    if len(found) != 1:
        raise ModelError(f"{where} answers without its output {output.name}: do its metadata fit it?")
    datatype = str(found[0].get("datatype", output.datatype)).upper()
    kind: Any = object if datatype == "BYTES" else np.int64 if datatype in WHOLE else np.float64
    try:
        shape = tuple(int(side) for side in found[0]["shape"])
        array = np.asarray(found[0]["data"], dtype=kind).reshape(shape)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ModelError(f"{where} answers with data that do not have the shape it says: look into its log") from None
    if rows == 1 and (array.ndim == 0 or len(array) != 1):
        array = array[None]
    if not array.ndim or len(array) != rows:
        raise ModelError(f"{where} answers {list(shape)} to {rows} pictures: a row for each is needed")
    return array


def output_tensor(infos: Sequence[TensorInfo], wanted: str | None, where: str) -> TensorInfo:
    """The output called `wanted`, or the only one.

    Raises:
        ConfigError: there are several, or none is called so.
    """
    chosen = [info for info in infos if wanted in (None, info.name)]
    if len(chosen) != 1:
        have = ", ".join(map(str, infos))
        ask = f"has no output {wanted!r}" if wanted is not None else "has several outputs"
        raise ConfigError(f"{where} {ask}: name one with --output-name; it has {have}")
    return chosen[0]
