"""A stage that autograd cannot pass, with another function's gradient in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class BPDA(nn.Module):
    """Forward the stage, backward a stand-in: backward pass differentiable approximation.

    Athalye et al. 2018, arXiv 1802.00420: for a defence that rounds, compresses or purifies the picture before the
    network sees it. Put it in front of the network and attack the two together. The stage runs without a graph, so
    it gets no gradients for weights of its own.

    Args:
        stage: pictures [B, ...] to pictures, by whatever means.
        backward: what is differentiated in its place, of nearly the same values; the identity by default.

    Raises:
        ValueError: neither is a function; on a call, the stage's output is no tensor, or its shape is not that of the
            stand-in's.

    >>> def rounded(x):
    ...     return (x * 15).round() / 15
    >>> net = torch.nn.Sequential(BPDA(rounded), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.rand(3, 1, 2, 2, requires_grad=True)
    >>> torch.equal(BPDA(rounded)(x), rounded(x))
    True
    >>> net(x)[:, 0].sum().backward()
    >>> torch.equal(x.grad[0].flatten(), net[2].weight[0])
    True
    """

    def __init__(self, stage: Callable[[Tensor], Tensor], backward: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        for name, function in (("stage", stage), ("backward", backward or stage)):
            if not callable(function) or isinstance(function, type):
                raise ValueError(f"{name} of BPDA is a function or a module, not {function!r}")
        self.stage = stage
        self.backward = backward

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            value = self.stage(x.detach())
        if not isinstance(value, Tensor):
            raise ValueError(f"the stage of BPDA returned a {type(value).__name__}, not a tensor")
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        smooth = x if self.backward is None else self.backward(x)
        if not isinstance(smooth, Tensor) or smooth.shape != value.shape:
            got = f"shape {tuple(smooth.shape)}" if isinstance(smooth, Tensor) else f"a {type(smooth).__name__}"
            raise ValueError(f"the stage of BPDA returned shape {tuple(value.shape)}, its backward {got}")
        replaced: Tensor = _Replaced.apply(smooth, value)
        return replaced


class _Replaced(torch.autograd.Function):
    """The second argument, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, smooth: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
