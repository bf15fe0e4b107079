"""Plain functions that answer, such as a prediction endpoint or an ONNX session, as modules without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class FunctionModule(nn.Module):
    """Module around a function: it is given the input on the CPU, and its output is moved to the input's device.

    An output that is no array is returned as it is, for the Classifier to refuse.
    """

    differentiable = False

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        out = self.function(x.detach().cpu())
        try:
            return torch.as_tensor(out).to(x.device)
        except (TypeError, ValueError, RuntimeError):
            return out
