"""Convolutions whose backward pass towards the input costs no more than the forward pass, on the CPU.

oneDNN, which PyTorch convolves with there, is slow in three backward passes that every network has some of. Towards an
input of one to four channels it computes sixteen and throws the rest away: the first layer of a LeNet-5 takes nine
times as long as it needs. Depthwise with a stride, in bf16, it falls back to a reference loop: four such layers are a
quarter of an EfficientNet-Lite0's gradient. Depthwise without one it takes half as long again as forwards. Each is
the same sum as a convolution that it is fast at; only the rounding differs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_LANES = 16  # channels that oneDNN computes at once
_FEW = 4  # channels of an input that leave most of them idle
_SHORT = (torch.bfloat16, torch.float16)


class Convolution(NamedTuple):
    """A square one, without dilation, whose weights are out of the graph."""

    weight: Tensor  # [K, C / groups, k, k]
    bias: Tensor | None
    stride: int
    padding: int
    groups: int

    @classmethod
    def of(
        cls,
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Convolution | None:
        """The arguments of `torch.conv2d`, if their way back is one of those that are faster here."""
        if (
            type(input) is not Tensor
            or input.dim() != 4
            or input.device.type != "cpu"
            or not input.is_floating_point()
            or weight.requires_grad
            or (bias is not None and bias.requires_grad)
            or weight.shape[2] != weight.shape[3]
        ):
            return None
        sides = [_side(value) for value in (stride, padding, dilation)]
        if sides[0] is None or sides[1] is None or sides[2] != 1:
            return None
        found = cls(weight, bias, sides[0], sides[1], groups)
        return found if found.kernel > found.padding and (found.thin or found.depthwise) else None

    @property
    def kernel(self) -> int:
        return self.weight.shape[2]

    @property
    def thin(self) -> bool:
        """True for an input of few channels."""
        return self.groups == 1 and self.weight.shape[1] <= _FEW and self.kernel > 1

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.weight.shape[1] == 1

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve like `torch.conv2d`, under autocast too."""
        conv = self
        if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
            dtype = torch.get_autocast_dtype("cpu")
            x, bias = x.to(dtype), None if self.bias is None else self.bias.to(dtype)
            conv = self._replace(weight=self.weight.to(dtype), bias=bias)
        out: Tensor = _Convolve.apply(x, conv) if x.requires_grad and torch.is_grad_enabled() else conv.forward(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, self.weight, self.bias, self.stride, self.padding, 1, self.groups)

    def back(self, gradient: Tensor, height: int, width: int) -> Tensor:
        """From the gradient of what came out to that of an input of that size."""
        if self.thin:
            return self._blockwise(gradient, height, width)
        same = self.stride == 1 and self.weight.shape[0] == self.groups
        if same:  # the kernel turned round: forwards again
            turned = self.weight.flip(2, 3).contiguous(memory_format=torch.channels_last)
            return torch.conv2d(gradient, turned, None, 1, self.kernel - 1 - self.padding, 1, self.groups)
        dtype = torch.float32 if gradient.dtype in _SHORT else gradient.dtype
        ends = [
            size - ((rows - 1) * self.stride - 2 * self.padding + self.kernel)
            for size, rows in zip((height, width), gradient.shape[2:], strict=True)
        ]
        back = F.conv_transpose2d(
            gradient.to(dtype), self.weight.to(dtype), None, self.stride, self.padding, ends, self.groups
        )
        return back.to(gradient.dtype)

    def _blockwise(self, gradient: Tensor, height: int, width: int) -> Tensor:
        """Blocks of input pixels as channels: enough of them to keep all lanes busy."""
        count, channels = self.weight.shape[:2]
        side = self.stride * max(1, int((_LANES / channels) ** 0.5) // self.stride)
        first, taps = _taps(self.kernel, self.stride, self.padding, side)
        reach, step = taps.shape[1], side // self.stride
        blocks = F.pad(self.weight, (0, 1, 0, 1))[:, :, taps][..., taps]  # [K, C, side, reach, side, reach]
        kernel = blocks.permute(1, 2, 4, 0, 3, 5).reshape(channels * side**2, count, reach, reach)
        many = -(-height // side), -(-width // side)  # blocks down and across
        over = [(n - 1) * step + reach - first - size for n, size in zip(many, gradient.shape[2:], strict=True)]
        padding = first
        if max(over) > first:
            gradient, padding = F.pad(gradient, (first, max(over[1], 0), first, max(over[0], 0))), 0
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        out = torch.conv2d(gradient, kernel, None, step, padding)[:, :, : many[0], : many[1]]
        return F.pixel_shuffle(out, side)[:, :, :height, :width]


@lru_cache(maxsize=64)
def _taps(kernel: int, stride: int, padding: int, side: int) -> tuple[int, Tensor]:
    """Index the kernel's taps between a block of `side` inputs and the outputs that it reaches.

    Returns the number of outputs before that of the block's own number, and the tap from each output to each input,
    int64 [side, outputs]; `kernel` stands for none.
    """
    first = (kernel - 1 - padding) // stride
    outputs = torch.arange(-first, (side - 1 + padding) // stride + 1)
    taps = torch.arange(side)[:, None] + padding - stride * outputs
    return first, torch.where((taps >= 0) & (taps < kernel), taps, kernel)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, convolution: Convolution) -> Tensor:
        ctx.convolution, ctx.size = convolution, x.shape[2:]
        return convolution.forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.convolution.back(gradients[0], *ctx.size), None


def _side(value: Any) -> int | None:
    """The one number of an argument for both sides; None if they differ, or for a word."""
    if isinstance(value, list | tuple):
        return int(value[0]) if value and all(part == value[0] for part in value) else None
    return value if isinstance(value, int) else None
