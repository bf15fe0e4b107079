"""Operations that stop a gradient or flatten the logits, met while a network runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from robustkit.attacks.model.bpda import BPDA
from robustkit.checks.torch_internals import SIGMOIDS, require_function_names, tensor_data_getter

_STEPS = {"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"}
_STOPS = {"detach"}
_SOFT = {"softmax", "log_softmax", "special_softmax", "special_log_softmax", "log_sigmoid"} | SIGMOIDS
_SIDES = {"ge": 1, "gt": 1, "le": -1, "lt": -1}
_LAYERS = {"conv1d", "conv2d", "conv3d", "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "addmm"}
_NOT = {"__invert__", "logical_not", "bitwise_not"}
_NUMBERS = {"float", "double", "half", "bfloat16", "to", "type", "type_as"}
_WIDTH = 0.05  # of a softened threshold, in standard deviations of what is compared with it


class Listener(TorchFunctionMode):
    """A mode that is told of every function of PyTorch by the name it goes by.

    Raises:
        BrokenInternals: on making one, where this version of PyTorch tells the names otherwise.
    """

    def __init__(self) -> None:
        require_function_names()
        super().__init__()


class StraightThrough(Listener):
    """Straight-through estimator: while entered, rounding and detaching have the gradient of the identity.

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
        self._data = tensor_data_getter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        if not args or not (name in _STEPS or name in _STOPS or func == self._data):
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


class SoftThresholds(Listener):
    """Backward model of comparisons: while entered, what one chooses is a sigmoid's share of both sides.

    A stand-in for BPDA's backward pass (Athalye et al. 2018) where a comparison of two numbers becomes a number, a
    factor or a mask. Values change a little near the threshold, so that they go with their gradient.

    Attributes:
        met: how many such choices there were.

    >>> x = torch.tensor([[0.2, 0.5, 0.8]], requires_grad=True)
    >>> with SoftThresholds() as mode:
    ...     y = torch.where(x >= 0.5, x, 0)
    >>> [round(value, 3) for value in y[0].tolist()], mode.met
    ([0.0, 0.25, 0.8], 1)
    >>> bool(torch.autograd.grad(y.sum(), x)[0][0, 1] > 1)
    True
    """

    def __init__(self) -> None:
        super().__init__()
        self.met = 0
        self._shares: dict[int, tuple[Tensor, Tensor]] = {}  # by a mask's identity: the mask, to keep it, and its share

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        name = getattr(func, "__name__", "")
        if not kwargs:
            if name in _SIDES:
                return self._compared(_SIDES[name], func(*args), *args)
            if self._shares:
                return self._chosen(name, func, args)
        return func(*args, **(kwargs or {}))

    def _compared(self, side: int, mask: Tensor, left: Any, right: Any) -> Tensor:
        numbers = any(isinstance(each, Tensor) and each.is_floating_point() for each in (left, right))
        if numbers and mask.dim() > 1:
            ahead = side * (left - right)
            spread = ahead.detach().flatten(1).std(1, unbiased=False).view(-1, *[1] * (ahead.dim() - 1))
            self._shares[id(mask)] = mask, (ahead / (_WIDTH * spread + 1e-12)).sigmoid()
        return mask

    def _share(self, mask: Any) -> Tensor | None:
        return self._shares.get(id(mask), (None, None))[1]

    def _chosen(self, name: str, func: Any, args: Any) -> Any:
        first, second = (*(self._share(each) for each in args[:2]), None, None)[:2]
        out: Tensor | None = None
        if first is not None and name in _NOT:
            mask = func(*args)
            self._shares[id(mask)] = mask, 1 - first
            return mask
        if first is not None and name in _NUMBERS:
            number = func(*args)
            out = first.to(number.dtype) if number.is_floating_point() else None
        elif name == "mul" and (first is None) != (second is None):
            out = args[0] * second if first is None else first * args[1]
        elif name == "where" and len(args) == 3 and (first is None) != (second is None):
            out = _mixed(second, args[0], args[2]) if first is None else _mixed(first, args[1], args[2])
        elif name == "masked_fill" and second is not None:
            out = _mixed(second, args[2], args[0])
        if out is None:
            return func(*args)
        self.met += 1
        return out


def _mixed(share: Any, chosen: Any, other: Any) -> Tensor | None:
    """Shares of both, if they can be shared: of an infinite one, as in the mask of an attention, there is no part."""
    mixed: Tensor = share * chosen + (1 - share) * other
    return mixed if bool(mixed.isfinite().all()) else None


class SoftmaxInputs(Listener):
    """While entered, keeps the input of each softmax or sigmoid.

    >>> with SoftmaxInputs() as softmaxes:
    ...     _ = torch.tensor([[1.0, 3.0]]).softmax(1)
    >>> softmaxes.inputs
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
                self.inputs.append(into.clone())  # a sigmoid in place overwrites it
        return func(*args, **kwargs)


class OuterLayers(Listener):
    """While entered, builds a graph whatever the network says, and keeps what goes into its first layer and what comes
    out of its last.

    A layer is a convolution or a product of matrices, called as a function or by a module.

    Args:
        x: the pictures; where they need no gradient, no graph is built.
        bridge: from what goes into the first layer to what is to go into it.

    Attributes:
        first, last: the tensors; None where there is no layer.

    >>> x = torch.rand(2, 3)
    >>> with OuterLayers(x) as layers:
    ...     y = torch.nn.functional.linear(x, torch.ones(4, 3)).relu()
    >>> layers.first is x, torch.equal(layers.last, y)
    (True, True)
    """

    def __init__(self, x: Tensor, bridge: Callable[[Tensor], Tensor] = lambda into: into) -> None:
        super().__init__()
        self.x, self.bridge = x, bridge
        self.first: Tensor | None = None
        self.last: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by PyTorch for each of its functions."""
        kwargs = kwargs or {}
        # Entered around torch.no_grad() too, which the mode is told of: leaving it undoes what was switched off.
        with torch.enable_grad() if self.x.requires_grad else nullcontext():
            if getattr(func, "__name__", "") not in _LAYERS or not args:
                return func(*args, **kwargs)
            if self.first is None:
                self.first = args[0]
                args = (self.bridge(args[0]), *args[1:])
            self.last = func(*args, **kwargs)
            return self.last
