"""An ONNX graph in words that the converter knows: those of opset 17."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

OPSET = 17


def lower(model: Any) -> None:
    """Rewrite a graph in place, as far as its operators have a form in opset 17 that the converter knows.

    Axes of a reduction become an attribute, GELU is written out, attributes that came later are left off. Other
    operators keep their form: most versions since only take more types. That it all says the same is for whoever
    compares the answers.

    Args:
        model: an `onnx.ModelProto`.
    """
    version = next(each for each in model.opset_import if each.domain in ("", "ai.onnx"))
    version.version = min(version.version, OPSET)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
    nodes = []
    for node in graph.node:
        rewrite = _RULES.get(node.op_type)
        if rewrite is None and node.op_type.startswith("Reduce") and node.op_type != "ReduceSum":
            rewrite = _reduction
        nodes.extend([node] if rewrite is None else rewrite(node, constants, graph))
    del graph.node[:]
    graph.node.extend(nodes)


def _reduction(node: Any, constants: dict[str, Any], graph: Any) -> list[Any]:
    """Axes that are an input since opset 18."""
    from onnx import helper, numpy_helper

    if len(node.input) > 1 and node.input[1] in constants:
        axes = numpy_helper.to_array(constants[node.input[1]]).reshape(-1)
        del node.input[1:]
        if len(axes):
            node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
    return _without(node, "noop_with_empty_axes")


def _without(node: Any, *names: str) -> list[Any]:
    kept = [each for each in node.attribute if each.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
    return [node]


def _gelu(node: Any, constants: dict[str, Any], graph: Any) -> list[Any]:
    """GELU by its error function, x (1 + erf(x / √2)) / 2, or by its tanh (Hendrycks and Gimpel 2016)."""
    from onnx import helper

    exact = not any(each.name == "approximate" and each.s == b"tanh" for each in node.attribute)
    x, y = node.input[0], node.output[0]
    steps: list[Any] = []

    def apply(operator: str, *inputs: str) -> str:
        name = f"{y}/gelu{len(steps)}"
        steps.append(helper.make_node(operator, list(inputs), [name], name=name))
        return name

    def number(value: float) -> str:
        name = f"{y}/gelu{len(steps)}"
        tensor = helper.make_tensor(name, 1, [], [value])
        steps.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        return name

    if exact:
        bent = apply("Erf", apply("Mul", x, number(math.sqrt(0.5))))
    else:
        cube = apply("Mul", apply("Mul", apply("Mul", x, x), x), number(0.044715))
        bent = apply("Tanh", apply("Mul", apply("Add", x, cube), number(math.sqrt(2 / math.pi))))
    half = apply("Mul", x, number(0.5))
    last = helper.make_node("Mul", [half, apply("Add", bent, number(1.0))], [y], name=f"{y}/gelu")
    return [*steps, last]


_RULES: dict[str, Callable[[Any, dict[str, Any], Any], list[Any]]] = {
    "Gelu": _gelu,
    # A size of 0 stands for itself: no picture has it.
    "Reshape": lambda node, constants, graph: _without(node, "allowzero"),
    "Split": lambda node, constants, graph: _without(node, "num_outputs"),
    "Cast": lambda node, constants, graph: _without(node, "saturate", "round_mode"),
}
