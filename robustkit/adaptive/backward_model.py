"""The backward model of a network (BPDA): the same network with a gradient where its own stops, lies or vanishes.

Athalye et al. 2018, arXiv 1802.00420.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.adaptive.gradient_modes import OuterLayers, SoftmaxInputs, SoftThresholds, StraightThrough
from robustkit.attacks.core.random_draws import row_generator
from robustkit.attacks.model.bpda import BPDA

FIRST, LAST = "the first layer", "the last layer"  # in place of a module: whatever calls them


@dataclass(frozen=True)
class SurrogateGradient:
    """Settings of a backward model; without any it is the network itself.

    Args:
        straight_through: rounding and detaching let gradients pass (straight-through estimator), thresholds are soft.
        before_softmax: the logits are what goes into the network's softmax or sigmoid.
        eval_mode: every module is in eval mode, those too that `eval()` does not reach.
        entry: a module, or FIRST, whose input stands for the picture: the stages before it get the gradient of the
            identity.
        exit: a module, or LAST, whose output is taken for the logits.
        noise: standard deviation of the noise of the copies, in the units of the network's input.
        copies: noisy copies of the picture whose logits are averaged; 1 is the picture itself.
    """

    straight_through: bool = False
    before_softmax: bool = False
    eval_mode: bool = False
    entry: str | None = None
    exit: str | None = None
    noise: float = 0.0
    copies: int = 1

    @property
    def plain(self) -> bool:
        """True of the network as it stands."""
        return self == SurrogateGradient()

    def __str__(self) -> str:
        parts = [
            "rounding and detaching passed straight through, thresholds soft" if self.straight_through else "",
            f"the stages before {self.entry} bridged by the identity" if self.entry else "",
            f"logits from {self.exit}" if self.exit else "",
            "logits from before the softmax or sigmoid" if self.before_softmax and not self.exit else "",
            "eval mode in every module" if self.eval_mode else "",
            f"mean of {self.copies} noisy copies" if self.copies > 1 else "",
        ]
        return ", ".join(filter(None, parts)) or "the model's own gradient"


class BackwardModel(nn.Module):
    """A network with a surrogate gradient: from what the network takes to logits.

    Args:
        net: the network.
        surrogate: the settings.
    """

    def __init__(self, net: nn.Module, surrogate: SurrogateGradient) -> None:
        super().__init__()
        self.net, self.surrogate = net, surrogate

    def forward(self, x: Tensor) -> Any:
        """Logits [B, K] of x [B, ...]."""
        surrogate = self.surrogate
        if surrogate.copies == 1:
            return self._once(x)
        total: Any = 0
        for copy in range(surrogate.copies):
            # The same noise for every picture: a row's answer stays its own. In pairs of opposite sign.
            noise = torch.randn(x.shape[1:], generator=row_generator(0, 0, copy // 2), dtype=x.dtype).to(x.device)
            total = total + self._once(x + (-1) ** copy * surrogate.noise * noise)
        return total / surrogate.copies

    def _once(self, x: Tensor) -> Any:
        surrogate, softmaxes = self.surrogate, SoftmaxInputs()
        outputs: list[Tensor] = []
        with ExitStack() as stack:
            if surrogate.eval_mode:
                stack.enter_context(_all_in_eval_mode(self.net))
            layers = OuterLayers(x, partial(_bridged, x) if surrogate.entry == FIRST else lambda into: into)
            if surrogate.entry == FIRST or surrogate.exit == LAST:
                stack.enter_context(layers)
            if surrogate.exit is not None and surrogate.exit != LAST:
                exit = self.net.get_submodule(surrogate.exit)
                stack.callback(exit.register_forward_hook(partial(_keep_output, x, outputs)).remove)
                stack.callback(_with_graph(exit, x))
            if surrogate.entry is not None and surrogate.entry != FIRST:
                entry = self.net.get_submodule(surrogate.entry)
                stack.callback(entry.register_forward_pre_hook(partial(_bridge_input, x)).remove)
                stack.callback(_with_graph(entry, x))
            if surrogate.straight_through:
                stack.enter_context(StraightThrough())
                stack.enter_context(SoftThresholds())
            if surrogate.before_softmax:
                stack.enter_context(softmaxes)
            out = self.net(x if surrogate.entry is None else x.detach().clone())
        if surrogate.exit == LAST and layers.last is not None:
            return _folded(layers.last, x)
        if surrogate.exit is not None:
            return torch.stack(outputs).mean(0)
        if surrogate.before_softmax and isinstance(out, Tensor):
            inner = [_folded(into, x) for into in softmaxes.inputs if _are_logits(into, x, out.shape[-1])]
            return torch.stack(inner).mean(0) if inner else out
        return out


def copies_of(x: Tensor, like: Tensor) -> Tensor:
    """x [B, ...] as often, and in the order, as `like` [k·B, ...] holds it."""
    count = len(like) // len(x)
    if count == 1:
        return x
    tiled, runs = x.repeat(count, *[1] * (x.dim() - 1)), x.repeat_interleave(count, 0)
    near = [float((each.detach() - like.detach()).abs().sum()) for each in (tiled, runs)]
    return tiled if near[0] <= near[1] else runs


def _bridge_input(x: Tensor, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_bridged(x, inputs[0]), *inputs[1:])


def _bridged(x: Tensor, value: Tensor) -> Tensor:
    """The value with the gradient of the identity from x."""
    shaped = x.reshape(len(x), *value.shape[1:])
    bridged: Tensor = BPDA(lambda _: value.detach())(copies_of(shaped, value))
    return bridged


def _keep_output(x: Tensor, outputs: list[Tensor], _: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
    into = inputs[0]
    runs = len(out) > len(x) and into.shape[1:] == x.shape[1:] and not _tiled(x, into)
    outputs.append(_folded(out, x, runs))


def _tiled(x: Tensor, like: Tensor) -> bool:
    return torch.equal(copies_of(x, like)[: len(x)], x)


def _folded(out: Tensor, x: Tensor, runs: bool = False) -> Tensor:
    """The mean [B, K] over the copies of each row in [k·B, K]."""
    shape = (len(x), -1, out.shape[1]) if runs else (-1, len(x), out.shape[1])
    return out.reshape(shape).mean(1 if runs else 0)


def _are_logits(out: Tensor, x: Tensor, classes: int) -> bool:
    return out.dim() == 2 and out.shape[1] == classes and len(out) > 0 and len(out) % len(x) == 0


def _with_graph(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """Let a module build a graph even where the network switches that off around it; returns what undoes it."""
    before: list[bool] = []

    def opened(*_: Any) -> None:
        before.append(torch.is_grad_enabled())
        torch.set_grad_enabled(before[-1] or x.requires_grad)

    def closed(*_: Any) -> None:
        torch.set_grad_enabled(before.pop())

    handles = module.register_forward_pre_hook(opened, prepend=True), module.register_forward_hook(closed)

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


@contextmanager
def _all_in_eval_mode(net: nn.Module) -> Iterator[None]:
    stuck = [module for module in net.modules() if getattr(module, "training", False)]
    for module in stuck:
        module.training = False
    try:
        yield
    finally:
        for module in stuck:
            module.training = True
