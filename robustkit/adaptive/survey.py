"""The parts of a network that a surrogate gradient can use, found by running it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustkit.adaptive.backward_model import FIRST, LAST
from robustkit.adaptive.gradient_modes import OuterLayers, SoftmaxInputs, SoftThresholds, StraightThrough
from robustkit.attacks.model.classifier import Classifier

_MODULES = 3  # to try as the way in, and as the way out


@dataclass(frozen=True)
class Survey:
    """Parts of a network that a surrogate gradient can use.

    Args:
        entries: modules that take something of the picture's shape, a name for each value; FIRST where none does.
        exits: modules that return something of the logits' shape; LAST where none does.
        softmax: it has a softmax or sigmoid over the classes.
        steps: it rounds, detaches or has thresholds.
        stuck: a module stays in training mode after eval().
    """

    entries: list[str]
    exits: list[str]
    softmax: bool
    steps: bool
    stuck: bool


def survey(model: Classifier, x: Tensor) -> Survey:
    """Run the network once with its modules watched."""
    net, into, out = model.net, dict[str, Tensor](), dict[str, Tensor]()

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        z = inputs[0] if inputs else None
        if isinstance(z, Tensor) and z.is_floating_point() and z.shape[1:] == x.shape[1:] and _fold(len(z), len(x)):
            into.setdefault(name, z.detach().clone())

    def after(name: str, answer: Any) -> None:
        if isinstance(answer, Tensor) and answer.is_floating_point() and answer.dim() == 2 and len(answer):
            out.setdefault(name, answer.detach().clone())

    handles = []
    with (
        StraightThrough() as steps,
        SoftThresholds() as thresholds,
        SoftmaxInputs() as softmaxes,
        OuterLayers(x) as layers,
    ):
        try:
            for name, module in net.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                    handles.append(module.register_forward_pre_hook(lambda _, i, name=name: before(name, i)))
                    handles.append(module.register_forward_hook(lambda _, i, o, name=name: after(name, o)))
            logits = model.logits(x)
            with model.frozen():
                stuck = any(getattr(module, "training", False) for module in net.modules())
        finally:
            for handle in handles:
                handle.remove()
    first, last = layers.first, layers.last
    if first is not None and first[:1].numel() == x[:1].numel() and _fold(len(first), len(x)):
        into[FIRST] = first
    if last is not None and last.dim() == 2:
        out = {LAST: last} | out  # a module that returns the same comes before it
    shape = (logits.shape[1],)
    exits = {name: z for name, z in out.items() if z.shape[1:] == shape and _fold(len(z), len(x))}
    softmax = any(z.dim() == 2 and z.shape[1:] == shape and _fold(len(z), len(x)) for z in softmaxes.inputs)
    # An inner module returns before the one around it: the outermost stands for both.
    ways = _distinct(into), _distinct(dict(reversed(exits.items())))
    steps_met = steps.met + thresholds.met > 0
    return Survey(ways[0][:1] + ways[0][1:][1 - _MODULES :], ways[1][:_MODULES], softmax, steps_met, stuck)


def _fold(rows: int, pictures: int) -> bool:
    return rows >= pictures and rows % pictures == 0


def _distinct(values: dict[str, Tensor]) -> list[str]:
    """A name for each different value, the first that had it."""
    different: dict[str, Tensor] = {}
    for name, value in values.items():
        if not any(value.shape == other.shape and torch.equal(value, other) for other in different.values()):
            different[name] = value
    return list(different)
