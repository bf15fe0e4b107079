"""A small network as a list of operations that bounds can be sent through, read off a symbolic trace."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from robustkit.attacks.model.classifier import Classifier
from robustkit.errors import ModelError
from robustkit.text import one_line

Map = Callable[[Tensor], Tensor]

_SAME = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Affine without negative weights, or on each entry by itself.
_PLAIN = (nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PLAIN_FUNCTIONS = (torch.flatten, F.avg_pool2d, F.adaptive_avg_pool2d)
_SHIFTS = (operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul, torch.div)
_SUMS = (operator.add, operator.iadd, torch.add)
_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


@dataclass(frozen=True)
class Affine:
    """x -> Wx + b on a batch, and what |W| makes of a radius."""

    apply: Map
    widen: Map


@dataclass(frozen=True)
class Rectifier:
    """x -> max(x, 0)."""


@dataclass(frozen=True)
class Maximum:
    """Max-pooling of maps [B, C, H, W]; the arguments are those of `torch.nn.functional.max_pool2d`."""

    arguments: tuple[Any, ...]

    def apply(self, x: Tensor) -> Tensor:
        pooled: Tensor = F.max_pool2d(x, *self.arguments)
        return pooled


@dataclass(frozen=True)
class Sum:
    """x, y -> x + y."""


Operation = Affine | Rectifier | Maximum | Sum


@dataclass(frozen=True)
class Step:
    """An operation on the results of earlier steps; 0 is the picture, 1 the first step's result, ..."""

    operation: Operation
    sources: tuple[int, ...]


def read_graph(model: Classifier) -> list[Step]:
    """The steps from pixels in [0,1] to logits, in double precision; the last one gives the logits.

    Raises:
        ModelError: a network with an operation that no bounds are known for, or none that can be looked into.
    """
    if model.access != "gradient" or model.outputs != "logits":
        raise ModelError("bounds need a torch network that returns logits: use --method smoothing")
    if isinstance(model.net, torch.jit.ScriptModule):
        raise ModelError("bounds need the network itself, not a TorchScript program: use --method smoothing")
    try:
        net = copy.deepcopy(model.net).double().eval().requires_grad_(False)
        traced = fx.symbolic_trace(net)
    except Exception as error:  # tracing runs the network's own code on stand-ins, which may raise anything
        raise ModelError(
            f"the network cannot be traced for bounds ({one_line(error)}): use --method smoothing"
        ) from None
    reader = _Reader(traced)
    if model.mean is not None or model.std is not None:
        reader.put(None, _plain(model._normalised), (0,))
    for node in traced.graph.nodes:
        reader.read(node)
    return reader.steps


class _Reader:
    """Reader of the nodes of a trace."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.modules = dict(traced.named_modules())
        self.steps: list[Step] = []
        self.places: dict[fx.Node, int] = {}

    def put(self, node: fx.Node | None, operation: Operation, sources: Sequence[int]) -> None:
        self.steps.append(Step(operation, tuple(sources)))
        if node is not None:
            self.places[node] = len(self.steps)

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.places[node] = len(self.steps)  # after the normalisation, if there is one
        elif node.op == "call_module":
            self._module(node, self.modules[str(node.target)])
        elif node.op in ("call_function", "call_method"):
            self._function(node)
        elif node.op == "output" and (node.args[0] not in self.places or self._place(node) != len(self.steps)):
            raise _unknown("an output that is not the last result")

    def _place(self, node: fx.Node, argument: int = 0) -> int:
        source = node.args[argument] if len(node.args) > argument else None
        if not isinstance(source, fx.Node) or source not in self.places:
            raise _unknown(_name(node))
        return self.places[source]

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        kind = type(module)
        source = self._place(node)
        if kind in _SAME:
            self.places[node] = source
        elif kind in _WEIGHTED:
            self.put(node, _weighted(module), (source,))
        elif kind in _PLAIN:
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.BatchNorm3d) and module.running_mean is None:
                raise _unknown("a batch norm without running statistics")
            self.put(node, _plain(module), (source,))
        elif kind is nn.ReLU:
            self.put(node, Rectifier(), (source,))
        elif kind is nn.MaxPool2d:
            self.put(node, _maximum({name: getattr(module, name) for name in _POOL}), (source,))
        else:
            raise _unknown(kind.__name__)

    def _function(self, node: fx.Node) -> None:
        target = node.target
        nodes = [argument for argument in node.args if isinstance(argument, fx.Node) and argument in self.places]
        if target in ("size", "dim") or (target is getattr and node.args[1:] == ("shape",)):
            return  # of use to a reshape alone, which is read as what it does
        if target is operator.getitem and isinstance(node.args[0], fx.Node) and node.args[0] not in self.places:
            return
        if target in (F.relu, torch.relu, "relu", "relu_"):
            self.put(node, Rectifier(), (self._place(node),))
        elif target in (F.max_pool2d, torch.max_pool2d):
            given = dict(zip(_POOL, node.args[1:], strict=False)) | node.kwargs
            self.put(node, _maximum(given), (self._place(node),))
        elif target in (F.dropout, F.dropout2d) and not node.kwargs.get("training", True):
            self.places[node] = self._place(node)
        elif target in ("view", "reshape") and len(node.args) == 3 and node.args[2] == -1:
            self.put(node, _plain(lambda x: x.flatten(1)), (self._place(node),))
        elif target == "flatten" or target in _PLAIN_FUNCTIONS:
            call = getattr(torch.Tensor, target) if isinstance(target, str) else target
            extra, more = node.args[1:], node.kwargs
            self.put(node, _plain(lambda x: call(x, *extra, **more)), (self._place(node),))
        elif target in _SUMS and len(nodes) == len(node.args) == 2 and not node.kwargs:
            self.put(node, Sum(), [self.places[each] for each in nodes])
        elif target in _SHIFTS and len(nodes) == 1 and len(node.args) == 2 and not node.kwargs:
            self._shift(node, target)
        else:
            raise _unknown(_name(node))

    def _shift(self, node: fx.Node, apply: Any) -> None:
        """Arithmetic with a constant: a number, or a tensor that the network holds."""
        left = isinstance(node.args[0], fx.Node) and node.args[0] in self.places
        other = node.args[1 if left else 0]
        if isinstance(other, fx.Node):
            if other.op != "get_attr":
                raise _unknown(_name(node))
            other = operator.attrgetter(str(other.target))(self.traced)
        if not left and apply in (operator.truediv, torch.div):
            raise _unknown("division by what depends on the picture")
        call = (lambda x: apply(x, other)) if left else (lambda x: apply(other, x))
        self.put(node, _plain(call), (self._place(node, 0 if left else 1),))


def _weighted(module: Any) -> Affine:
    wide = copy.deepcopy(module)
    wide.weight.abs_()
    wide.bias = None
    return Affine(module, wide)


def _plain(apply: Map) -> Affine:
    def widen(radius: Tensor) -> Tensor:
        return (apply(radius) - apply(torch.zeros_like(radius))).abs()

    return Affine(apply, widen)


def _maximum(given: dict[str, Any]) -> Maximum:
    if given.get("return_indices"):
        raise _unknown("max-pooling with indices")
    defaults = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}
    return Maximum(tuple(given.get(name, defaults.get(name)) for name in _POOL[:5]))


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _unknown(what: str) -> ModelError:
    return ModelError(
        f"no bounds are known for {what}: use --method smoothing, or a network of convolutions, linear layers, "
        "rectifiers, max- and average-pooling and batch norms"
    )
