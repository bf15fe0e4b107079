"""2×2 max-pooling as PyTorch computes it, bit for bit, in a fraction of the time on the CPU.

PyTorch's own kernel takes one window at a time where the channels are few or lie apart in memory: in a LeNet it was
70 % of a forward. Two maxima over halves of the map are vectorised whatever the layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_WIDE = 16  # channels side by side from which PyTorch's backward pass is vectorised too


def pools(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> bool:
    """True where `pool` equals the `max_pool2d` asked for: whole 2×2 windows side by side, of a map on the CPU."""
    return (
        _all(kernel_size, 2)
        and (stride is None or stride in ([], ()) or _all(stride, 2))
        and _all(padding, 0)
        and _all(dilation, 1)
        and not return_indices
        and type(input) is Tensor
        and input.dim() == 4
        and input.device.type == "cpu"
        and input.is_floating_point()
        and input.shape[2] % 2 == input.shape[3] % 2 == 0  # so that ceil_mode makes no difference
        and input.numel() > 0
    )


def _all(value: Any, number: int) -> bool:
    return value == number or (
        isinstance(value, list | tuple) and all(part == number for part in value) and value != ()
    )


def pool(x: Tensor) -> Tensor:
    """The maxima of whole 2×2 windows side by side [B, C, H / 2, W / 2]."""
    if torch.is_grad_enabled() and x.requires_grad:
        wide = x.shape[1] >= _WIDE and x.is_contiguous(memory_format=torch.channels_last)
        out: Tensor = F.max_pool2d(x, 2) if wide else _Pool.apply(x)
        return out
    return _maxima(x)[1]


def _maxima(x: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of pairs in a row, and of two rows of them."""
    pairs = torch.maximum(x[..., ::2], x[..., 1::2])
    return pairs, torch.maximum(pairs[:, :, ::2], pairs[:, :, 1::2])


class _Pool(torch.autograd.Function):
    """The gradient goes to the first of the largest, row by row, as PyTorch has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pairs, out = _maxima(x)
        ctx.save_for_backward(x, pairs)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A comparison written into floats is vectorised, one that makes truth values is not; bf16 is neither.
        x, pairs = (_single(saved) for saved in ctx.saved_tensors)
        rows = torch.empty_like(pairs)
        _split(rows[:, :, ::2], rows[:, :, 1::2], pairs[:, :, ::2], pairs[:, :, 1::2], _single(gradients[0]))
        out = torch.empty_like(x)
        _split(out[..., ::2], out[..., 1::2], x[..., ::2], x[..., 1::2], rows)
        return out.to(gradients[0].dtype)


def _single(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _split(first: Tensor, second: Tensor, left: Tensor, right: Tensor, gradient: Tensor) -> None:
    """Write the gradient of max(left, right) into two parts of a tensor; the left one has it where they tie."""
    torch.gt(right, left, out=second)
    second.mul_(gradient)
    torch.sub(gradient, second, out=first)
