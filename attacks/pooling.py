"""2×2 max-pooling as PyTorch computes it, bit for bit, in a fraction of the time on the CPU.

PyTorch's own kernel takes one window at a time where the channels are few or lie apart in memory: in a LeNet it was
70 % of a forward. Two maxima over halves of the map are vectorised whatever the layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_WORTH = 20_000  # input values of a batch, below which a mode costs more than it saves
_WIDE = 16  # channels side by side from which PyTorch's backward pass is vectorised too
_POOLS = (F.max_pool2d, torch.max_pool2d)


class Pooling(TorchFunctionMode):
    """While entered, `max_pool2d` of 2×2 windows side by side on the CPU is the one here; all else is PyTorch's.

    A network is looked through once: where nothing was pooled so, later batches are spared the mode.

    >>> pooling = Pooling()
    >>> x = torch.rand(3, 4, 8, 8)
    >>> with pooling:
    ...     ours = F.max_pool2d(x, 2)
    >>> bool((ours == F.max_pool2d(x, 2)).all()), pooling.used
    (True, True)
    """

    def __init__(self) -> None:
        super().__init__()
        self.used: bool | None = None  # None until a batch went through

    def worth(self, x: Tensor) -> bool:
        """Whether to enter it for a batch."""
        return x.device.type == "cpu" and x.numel() >= _WORTH and self.used is not False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        kwargs = kwargs or {}
        if func in _POOLS and _plain(*args, **kwargs):
            self.used = True
            return _pool(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        """Leave it."""
        self.used = bool(self.used)
        super().__exit__(*error)  # type: ignore[no-untyped-call]


def _plain(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> bool:
    """Whether this is what `_pool` computes: whole 2×2 windows side by side, of a map on the CPU."""
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


def _pool(x: Tensor) -> Tensor:
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
