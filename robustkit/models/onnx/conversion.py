"""An ONNX graph as a PyTorch network, for its gradients: onnxruntime's basic optimisation, then onnx2torch."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.models.onnx.entrance import Entrance
from robustkit.models.onnx.opset17 import lower
from robustkit.text import one_line

_LARGEST = 2_000_000_000  # bytes of a graph with its weights: protobuf holds no more in one piece


class Unconvertible(Exception):
    """No network of PyTorch's is that graph; the message is the reason, for a report."""


class Converted(nn.Module):
    """The converted network, [B, C, H, W] -> logits that lead back to the input.

    Args:
        net: takes what the graph takes, as floats.
        entrance: the input.
        judge: answers every query for which no gradient is asked; None where the network does so itself.
    """

    def __init__(self, net: nn.Module, entrance: Entrance, judge: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.entrance, self.judge = net, entrance, judge
        self.whole_levels = entrance.bytes

    def forward(self, x: Tensor) -> Any:
        if self.judge is not None and not (torch.is_grad_enabled() and x.requires_grad):
            return self.judge(x)
        return self.net(self.entrance.tensor(x))


def weights_beside(graph: Any, file: Path) -> list[Path]:
    """Files beside an ONNX file that hold weights of its graph, sorted."""
    names = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    return [file.parent / name for name in sorted(names)]


def with_weights(file: Path, beside: list[Path]) -> Any:
    """The whole graph of a file, an `onnx.ModelProto`.

    Raises:
        Unconvertible: larger than protobuf can hold.
    """
    import onnx

    size = sum(each.stat().st_size for each in (file, *beside))
    if size > _LARGEST:
        raise Unconvertible(f"it has {size / 1e9:.1f} GB, and the converter takes 2 GB")
    return onnx.load(str(file))


def cut(model: Any, tensor: str, inner: bool) -> None:
    """Leave a graph the one output `tensor`, in place, and nothing that comes after it.

    Args:
        model: an `onnx.ModelProto`.
        tensor: its name.
        inner: it is not among the outputs yet.
    """
    from onnx import helper

    graph = model.graph
    kept = [each for each in graph.output if each.name == tensor]
    if inner:
        kept = [helper.make_tensor_value_info(tensor, 1, None)]
        nodes = [node for node in graph.node if node.op_type != "ZipMap"]
        del graph.node[:]
        graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(kept)


def convert(model: Any) -> nn.Module:
    """The graph as a network, its weights frozen.

    Args:
        model: an `onnx.ModelProto` with its weights and one output.

    Raises:
        Unconvertible: onnx2torch is not installed or does not know an operator, or the graph is too large.
    """
    try:
        import onnx2torch
    except ImportError:
        raise Unconvertible("onnx2torch is not installed: pip install 'robustkit[onnx]'") from None
    # Of how the converter's slices index; what they return is held against onnxruntime.
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
    try:
        simple = _optimised(model)
        lower(simple)
        with warnings.catch_warnings():  # of read-only arrays, which are not written to
            warnings.simplefilter("ignore")
            net: nn.Module = onnx2torch.convert(simple)
    except Exception as error:  # each operator's converter raises its own kinds
        raise Unconvertible(_reason(error)) from None
    return net.eval().requires_grad_(False)


def _optimised(model: Any) -> Any:
    """The graph with constants folded and identities gone, which the converter cannot take."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _reason(error: Exception) -> str:
    unknown = re.search(r"domain='(.*?)', operation_type='(\w+)', version=(\d+)", str(error))
    if unknown:
        domain, operator, _ = unknown.groups()
        return f"{f'{domain}.' if domain else ''}{operator} is not known to the converter"
    return f"the converter failed ({one_line(error)})"
