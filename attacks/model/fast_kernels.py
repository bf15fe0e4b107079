"""Kernels of PyTorch's that are slow on the CPU, replaced while a network answers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .fast_conv2d import Convolution
from .fast_max_pool2d import pool, pools

_WORTH = 15_000  # input values of a batch, below which the mode costs more than it saves
_POOLS = (F.max_pool2d, torch.max_pool2d)
_COMPILED = ("_orig_mod", "_compiled_call_impl")  # what `torch.compile(net)` and `net.compile()` leave in a module


class Kernels(TorchFunctionMode):
    """Function mode in which `max_pool2d` and `conv2d` are those of `fast_max_pool2d` and `fast_conv2d`, where faster.

    A network is looked through once: where neither was, later batches are spared the mode. What `torch.compile` made
    has kernels of its own, and would compile the mode as well: it is left alone.

    Args:
        net: that the mode is for.

    >>> kernels = Kernels()
    >>> x = torch.rand(3, 4, 8, 8)
    >>> with kernels:
    ...     ours = F.max_pool2d(x, 2)
    >>> bool((ours == F.max_pool2d(x, 2)).all()), kernels.used
    (True, True)
    """

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        parts = [] if net is None else list(net.modules())
        compiled = any(getattr(part, name, None) is not None for part in parts for name in _COMPILED)
        self.used: bool | None = False if compiled else None  # None until a batch went through

    def worth(self, x: Tensor) -> bool:
        """True for a batch that it speeds up."""
        return x.device.type == "cpu" and x.numel() >= _WORTH and self.used is not False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        kwargs = kwargs or {}
        if func is torch.conv2d:
            convolution = Convolution.of(*args, **kwargs)
            if convolution is not None:
                self.used = True
                return convolution(args[0] if args else kwargs["input"])
        elif func in _POOLS and pools(*args, **kwargs):
            self.used = True
            return pool(args[0] if args else kwargs["input"])
        return func(*args, **kwargs)

    def __exit__(self, *error: Any) -> None:
        """Leave it."""
        self.used = bool(self.used)
        super().__exit__(*error)  # type: ignore[no-untyped-call]
