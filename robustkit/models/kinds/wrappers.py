"""Modules around a network whose input or output is not quite what an attack needs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.model.outputs import parts_of

DTYPES = (torch.float16, torch.bfloat16, torch.float64)


class Selected(nn.Module):
    """A network that returns several things, as one that returns one of them.

    Args:
        net: as it is.
        part: name or place of what is taken.
    """

    def __init__(self, net: nn.Module, part: str) -> None:
        super().__init__()
        self.net, self.part = net, part
        self.differentiable = getattr(net, "differentiable", True)

    def forward(self, x: Tensor) -> Any:
        """[B, C, H, W] -> the part."""
        parts = parts_of(self.net(x))
        if parts is None or self.part not in parts:
            raise ValueError(f"the model returned no {self.part} this time: let it return the same for every batch")
        return parts[self.part]


class WithoutBackground(nn.Module):
    """A network without its class 0, which in TensorFlow's networks of 1,001 classes is the background.

    Args:
        net: as it is.
        probabilities: its rows sum to 1, and so do those of what is left.
    """

    def __init__(self, net: nn.Module, probabilities: bool) -> None:
        super().__init__()
        self.net, self.probabilities = net, probabilities
        self.differentiable = getattr(net, "differentiable", True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, K - 1]."""
        out: Tensor = self.net(x)[:, 1:]
        return out / out.sum(1, keepdim=True) if self.probabilities else out


class Cast(nn.Module):
    """A network in half or double precision, given its input in that.

    Args:
        net: as it is.
        dtype: of its weights.
    """

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.input_dtype = net, dtype
        self.differentiable = getattr(net, "differentiable", True)

    def forward(self, x: Tensor) -> Any:
        """[B, C, H, W] -> what the network returns."""
        return self.net(x.to(self.input_dtype))


def cast(net: nn.Module) -> nn.Module:
    """The network, in a `Cast` where its weights are in another floating type than float32."""
    dtype = next((value.dtype for value in net.parameters() if value.is_floating_point()), None)
    return Cast(net, dtype) if dtype in DTYPES else net
