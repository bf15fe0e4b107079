"""An ONNX graph as onnxruntime runs it: a module that answers and gives no gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.onnx.entrance import Entrance
from robustkit.text import one_line


class Session(nn.Module):
    """An inference session on the CPU as a module, [B, C, H, W] -> one output of the graph.

    Args:
        model: the file, or the bytes of one.
        entrance: the input.
        output: the name of the output.
    """

    differentiable = False

    def __init__(self, model: Path | bytes, entrance: Entrance, output: str) -> None:
        super().__init__()
        self.model, self.entrance, self.output = model, entrance, output
        self.whole_levels = entrance.bytes
        self.session = start(model)

    def forward(self, x: Tensor) -> Tensor:
        (answer,) = self.session.run([self.output], {self.entrance.name: self.entrance.array(x)})
        return torch.from_numpy(answer).to(x.device)

    def __reduce__(self) -> Any:
        """A copy starts a session of its own: onnxruntime's cannot be copied."""
        return Session, (self.model, self.entrance, self.output)


def start(model: Path | bytes) -> Any:
    """A session of onnxruntime's on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, and said in one line by whoever asked
    options.intra_op_num_threads = torch.get_num_threads()
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def open_file(file: Path) -> tuple[Any, Any]:
    """The graph in a file, without weights that lie beside it, and a session of it.

    Raises:
        ModelError: onnxruntime or onnx is not there, or the file is damaged.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{file} needs {error.name}: pip install 'robustkit[onnx]'") from None
    try:
        return onnx.load(str(file), load_external_data=False), start(file)
    except Exception as error:  # onnxruntime and protobuf raise their own kinds
        if "NOT_IMPLEMENTED" in str(error):
            raise ModelError(f"{file}: {one_line(error)}: export it in float32, of a lower opset") from None
        raise ModelError(f"{file} cannot be read as ONNX ({one_line(error)}): export it again") from None
