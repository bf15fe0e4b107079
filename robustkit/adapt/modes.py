"""Operations that stop a gradient or flatten the logits, met while a network runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robustkit.attacks.bpda import BPDA

_STEPS = {"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"}
_STOPS = {"detach"}
_SOFT = {"softmax", "log_softmax", "sigmoid", "logsigmoid"}
_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]


class StraightThrough(TorchFunctionMode):
    """While entered, what rounds has the gradient of the identity, and what detaches does not.

    The straight-through estimator of Bengio et al. 2013, as BPDA uses it (Athalye et al. 2018).

    Attributes:
        met: how many such operations there were.

    >>> x = torch.tensor([0.3, 0.7], requires_grad=True)
    >>> with StraightThrough() as mode:
    ...     y = (4 * x).round().detach() / 4
    >>> y.tolist(), torch.autograd.grad(y.sum(), x)[0].tolist(), mode.met
    ([0.25, 0.75], [1.0, 1.0], 2)
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if not args or not (name in _STEPS or name in _STOPS or func == _DATA):
            return func(*args, **kwargs)
        x = args[0]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **kwargs)
        self.met += 1
        if name not in _STEPS:
            return x
        with torch.no_grad():
            value = func(*args, **kwargs)
        return BPDA(lambda _: value)(x)


class Ends(TorchFunctionMode):
    """While entered, keeps what goes into each softmax or sigmoid.

    >>> with Ends() as ends:
    ...     _ = torch.tensor([[1.0, 3.0]]).softmax(1)
    >>> ends.inputs
    [tensor([[1., 3.]])]
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _SOFT:
            into = args[0] if args else kwargs.get("input")
            if isinstance(into, Tensor):
                self.inputs.append(into)
        return func(*args, **kwargs)
