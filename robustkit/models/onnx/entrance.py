"""The input of an ONNX graph: its type and axes, and pictures as it takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustkit.errors import ModelError

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Entrance:
    """The one input of a graph.

    Args:
        name, dtype: as the graph declares them.
        channels_last: its axes are [B, H, W, C], not [B, C, H, W].
        batch, channels, size: its fixed sizes, the last (height, width) in pixels; None where any is taken.
    """

    name: str
    dtype: torch.dtype
    channels_last: bool
    batch: int | None
    channels: int | None
    size: tuple[int, int] | None

    @property
    def bytes(self) -> bool:
        """It takes pixels as whole numbers from 0 to 255."""
        return self.dtype is torch.uint8

    def array(self, x: Tensor) -> Any:
        """x [B, C, H, W], in [0,1] where the graph takes bytes, as the NumPy array that the graph is given."""
        x = x.detach().cpu()
        x = (x * 255).round().clamp(0, 255) if self.bytes else x
        x = x.permute(0, 2, 3, 1) if self.channels_last else x
        return x.to(self.dtype).contiguous().numpy()

    def tensor(self, x: Tensor) -> Tensor:
        """The same as floats that lead back to x: rounding to bytes counts as the identity there."""
        x = _Rounded.apply(x * 255) if self.bytes else x
        x = x.permute(0, 2, 3, 1) if self.channels_last else x
        return x.double() if self.dtype is torch.float64 else x


class _Rounded(torch.autograd.Function):
    """Rounding to a byte, with the straight-through estimator (Bengio et al. 2013) for its gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.round().clamp(0, 255)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


def entrance(file: Path, inputs: list[Any]) -> Entrance:
    """The input of a graph, from what onnxruntime says of its inputs.

    Raises:
        ModelError: several inputs, no pictures, or numbers of another type.
    """
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type not in _TYPES:
        found = ", ".join(f"{each.name}: {each.type} {each.shape}" for each in inputs)
        raise ModelError(
            f"{file} takes {found}: one float input [B, C, H, W] is needed, or [B, H, W, C], or one of type uint8"
        )
    batch, *rest = (side if isinstance(side, int) and side > 0 else None for side in shape)
    channels_last = rest[0] not in _CHANNELS and rest[2] in _CHANNELS
    channels, height, width = (rest[2], rest[0], rest[1]) if channels_last else rest
    size = (height, width) if height and width else None
    return Entrance(inputs[0].name, _TYPES[inputs[0].type], channels_last, batch, channels=channels, size=size)
