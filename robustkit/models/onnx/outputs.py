"""Outputs of an ONNX graph: the one that classifies, where that is certain; else it is asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustkit.errors import ConfigError, ModelError

_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_LABELS = ("tensor(int64)", "tensor(int32)")
_SAME = 1e-4  # by which a softmax that is taken here may differ from the graph's

# Answers of the graph to some pictures, by the names of outputs.
Ask = Callable[[Sequence[str]], list[Any]]


@dataclass(frozen=True)
class Exit:
    """The output that classifies.

    Args:
        name: of the tensor.
        inner: the tensor is not among the graph's outputs, but goes into the ZipMap that makes one of them.
        labels: class names that the graph holds; None if it holds none.
        said: how it was found among several, for a report; "" where there was no choice.
    """

    name: str
    inner: bool = False
    labels: tuple[str, ...] | None = None
    said: str = ""


def choose(file: Path, graph: Any, outputs: list[Any], wanted: str | None, ask: Ask) -> Exit:
    """The output with the logits: the one named, the only one, or the one that is certain to be it.

    Certain are: an output called "logits"; scores that scikit-learn's ZipMap puts class names to; scores whose largest
    is at the label that the graph returns too, on every picture tried; the logits of a softmax that is returned too.

    Args:
        file, graph, outputs: the file, its graph, and what onnxruntime says of the outputs.
        wanted: the name of one; None leaves the choice.
        ask: answers to some pictures.

    Raises:
        ConfigError: no output is called `wanted`.
        ModelError: several outputs may be it, or none.
    """
    maps = {node.output[0]: node for node in graph.node if node.op_type == "ZipMap"}
    listed = ", ".join(f"{each.name} {each.shape or each.type}" for each in outputs)
    if wanted is not None:
        if wanted not in [each.name for each in outputs]:
            raise ConfigError(f"{file} has no output {wanted!r} but {listed}: give one of them as --output-name")
        return _exit(file, next(each for each in outputs if each.name == wanted), maps)
    if len(outputs) == 1:
        return _exit(file, outputs[0], maps)
    called = [each for each in outputs if each.name.lower() == "logits"]
    mapped = [each for each in outputs if each.name in maps]
    for certain in (called, mapped):
        if len(certain) == 1:
            return _exit(file, certain[0], maps, f"output {certain[0].name} of {len(outputs)}")
    found = _by_answers(outputs, ask)
    if found is None:
        raise ModelError(f"{file} has several outputs, {listed}: say which holds the logits, --output-name NAME")
    return Exit(found, said=f"output {found} of {len(outputs)}")


def _exit(file: Path, output: Any, maps: dict[str, Any], said: str = "") -> Exit:
    if output.name in maps:
        node = maps[output.name]
        kinds = {attribute.name: attribute for attribute in node.attribute}
        names: list[Any] = []
        if "classlabels_strings" in kinds:
            names = [label.decode("utf-8") for label in kinds["classlabels_strings"].strings]
        elif "classlabels_int64s" in kinds:
            names = list(kinds["classlabels_int64s"].ints)
        plain = names == list(range(len(names)))
        return Exit(node.input[0], True, None if plain else tuple(str(name) for name in names), said)
    if output.type not in (*_FLOATS, *_LABELS):
        raise ModelError(f"{file}: its output {output.name} is {output.type}, no tensor of logits: export one")
    return Exit(output.name, said=said)


def _by_answers(outputs: list[Any], ask: Ask) -> str | None:
    """The output that the graph's own answers show to be the logits; None where they do not."""
    tensors = [each.name for each in outputs if each.type in (*_FLOATS, *_LABELS)]
    answers: dict[str, Tensor] = dict(zip(tensors, map(torch.from_numpy, ask(tensors)), strict=True))
    kinds = {each.name: each.type for each in outputs}
    scores: dict[str, Tensor] = {
        name: z.double() for name, z in answers.items() if kinds[name] in _FLOATS and z.dim() == 2
    }
    labels = [z.flatten() for name, z in answers.items() if kinds[name] in _LABELS and z.numel() == len(z)]
    labelled = [name for name, z in scores.items() if labels and all(_names_class(z, label) for label in labels)]
    if len(labelled) == 1:
        return labelled[0]
    # A pair of logits and their softmax, beside whatever else there is: of it both say the same class.
    pairs = [
        (logits, made)
        for logits, z in scores.items()
        for made, p in scores.items()
        if logits != made and z.shape == p.shape and float((z.softmax(1) - p).abs().max()) < _SAME
    ]
    return pairs[0][0] if len(pairs) == 1 else None


def _names_class(scores: Tensor, label: Tensor) -> bool:
    return len(label) == len(scores) and bool((scores.argmax(1) == label).all())
