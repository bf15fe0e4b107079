"""ONNX graphs in half precision, and the same in single precision, which has gradients worth having."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any


def is_half(model: Any) -> bool:
    """A graph, an `onnx.ModelProto`, computes in half precision, at least in part."""
    from onnx import TensorProto

    half = TensorProto.FLOAT16
    types = [each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)]
    return (
        half in types
        or any(tensor.data_type == half for tensor in _tensors(model.graph))
        or any(attribute.i == half for attribute in _casts(model.graph))
    )


def widened(model: Any) -> Any:
    """A copy of a graph that computes in single precision wherever it did so in half."""
    from onnx import TensorProto, numpy_helper

    wide = copy.deepcopy(model)
    graph = wide.graph
    del graph.value_info[:]  # types of what is in between are inferred again
    for tensor in _tensors(graph):
        if tensor.data_type == TensorProto.FLOAT16:
            numbers = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    for attribute in _casts(graph):
        if attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
    for each in (*graph.input, *graph.output):
        if each.type.tensor_type.elem_type == TensorProto.FLOAT16:
            each.type.tensor_type.elem_type = TensorProto.FLOAT
    return wide


def _tensors(graph: Any) -> Iterator[Any]:
    """Weights, and the constants that nodes hold."""
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _casts(graph: Any) -> Iterator[Any]:
    """The attributes of casts that name a type."""
    for node in graph.node:
        if node.op_type == "Cast":
            yield from (attribute for attribute in node.attribute if attribute.name == "to")
