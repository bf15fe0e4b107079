"""ONNX files, run by onnxruntime: a model that answers and gives no gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.programs import Program
from robustkit.text import one_line


class _Session(nn.Module):
    """An inference session on the CPU as a module."""

    differentiable = False

    def __init__(self, session: Any, name: str) -> None:
        super().__init__()
        self.session, self.input = session, name

    def forward(self, x: Tensor) -> Tensor:
        (answer, *_) = self.session.run(None, {self.input: x.detach().cpu().numpy()})
        return torch.from_numpy(answer)


def read_onnx(file: Path) -> Program:
    """The network in an ONNX file: its first output for its one input, float32 [B, C, H, W].

    Raises:
        ModelError: onnxruntime is not there, the file is damaged or takes something else.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(f"{file} needs onnxruntime: pip install 'robustkit[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised and said in one line below
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own kinds
        raise ModelError(f"{file} cannot be read as ONNX ({one_line(error)}): export it again") from None
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{each.type} {each.shape}" for each in inputs)
        raise ModelError(f"{file} takes {found}: one float input [B, C, H, W] is needed")
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shape)
    size = (height, width) if height and width else None
    return Program(_Session(session, inputs[0].name), size, channels, batch)
