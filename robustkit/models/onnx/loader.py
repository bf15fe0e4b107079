"""Load an ONNX file: its gradients where the converted network answers as onnxruntime does, else scores alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models.onnx import agreement
from robustkit.models.onnx.conversion import (
    Converted,
    Unconvertible,
    convert,
    cut,
    weights_beside,
    with_weights,
)
from robustkit.models.onnx.entrance import Entrance, entrance
from robustkit.models.onnx.half import is_half, widened
from robustkit.models.onnx.outputs import Exit, choose
from robustkit.models.onnx.session import Session, open_file
from robustkit.models.programs import Program
from robustkit.models.source import ModelSource, Request
from robustkit.text import one_line


def load(request: Request) -> ModelSource:
    """The classifier in an ONNX file, float32 [B, C, H, W] -> its logits; its `note` says who answers.

    Raises:
        ModelError: onnxruntime is not there, the file is damaged, takes no pictures, or leaves size or output open.
        ConfigError: an option that does not go with it.
    """
    file = request.file
    if request.arch is not None:
        raise ConfigError(f"{file} holds its own architecture: leave out --arch")
    skeleton, session = open_file(file)
    taken = entrance(file, session.get_inputs())
    if taken.bytes and not request.normalised:
        raise ConfigError(f"{file} takes pixels as bytes and normalises them itself: leave out mean and std")
    size = _size(request, taken)
    shape = _shape(file, session, taken, size)

    def ask(names: Sequence[str]) -> list[Any]:
        x = agreement.pictures(shape)
        if taken.batch is not None:  # as many rows as come out whole
            x = x.repeat(taken.batch, 1, 1, 1)
        rows = torch.split(x, taken.batch or len(x))
        answers = [session.run(list(names), {taken.name: taken.array(each)}) for each in rows]
        return [np.concatenate(column) for column in zip(*answers, strict=True)]

    end = choose(file, skeleton.graph, session.get_outputs(), request.output_name, ask)
    beside = weights_beside(skeleton.graph, file)
    net, who = _network(request, end, taken, shape, beside)
    return ModelSource(
        net,
        file.name,
        Preprocess(size, shape[0]),
        labels=end.labels,
        digest=_digest([file, *beside]),
        channels=(shape[0],),
        notes=(", ".join(part for part in ("ONNX", end.said, who) if part),),
        output_chosen=True,
    )


def _size(request: Request, taken: Entrance) -> tuple[int, int]:
    if taken.size is None and request.size is None:
        raise ModelError(f"{request.name} takes pictures of any size: give that of its training, such as --size 224")
    if taken.size is not None and request.size not in (None, taken.size):
        height, width = taken.size
        raise ConfigError(f"{request.name} takes pictures of {height}×{width} alone: leave out --size")
    size = request.size or taken.size
    assert size is not None  # one of the two
    return size


def _shape(file: Path, session: Any, taken: Entrance, size: tuple[int, int]) -> tuple[int, int, int]:
    """Channels, height and width of a picture that the graph takes, found out where it leaves the channels open."""
    failure = ""
    for channels in (taken.channels,) if taken.channels else (3, 1):
        try:
            session.run(None, {taken.name: taken.array(torch.zeros(taken.batch or 1, channels, *size))})
        except Exception as error:  # onnxruntime's own kinds
            failure = failure or one_line(error)
            continue
        return channels, *size
    height, width = size
    raise ModelError(f"{file} does not take pictures of {height}×{width} ({failure}): give its size, --size")


def _network(
    request: Request, end: Exit, taken: Entrance, shape: tuple[int, int, int], beside: list[Path]
) -> tuple[Program, str]:
    """The converted network if it is the graph, else the session; and which it is, for a report."""
    file = request.file
    model: Any = None
    try:
        model = with_weights(file, beside)
        cut(model, end.name, end.inner)
    except Unconvertible as error:
        if end.inner:
            raise ModelError(f"{file} needs its scores cut out of the graph, but {error}: export the tensor") from None
        return Program(Session(file, taken, end.name), batch=taken.batch), f"scores alone: {error}"
    source = model.SerializeToString() if end.inner else file
    session = Program(Session(source, taken, end.name), batch=taken.batch)
    half = is_half(model)
    try:
        if half:
            wide = widened(model)
            single = replace(taken, dtype=torch.float32) if taken.dtype is torch.float16 else taken
            exact = Program(Session(wide.SerializeToString(), single, end.name), batch=taken.batch)
            net, _ = _equal(convert(wide), exact, single, shape)
            x = agreement.pictures(shape)
            apart = agreement.difference(Converted(net, single), session, single, x, agreement.HALF)
        else:
            net, apart = _equal(convert(model), session, taken, shape)
        converted = Converted(net, taken, session if half or taken.bytes else None).to(request.device)
        _try_place(converted, shape, request.device)
    except Unconvertible as error:
        return session, f"scores alone: {error}"
    return Program(converted), f"gradients by the converted network, {_verdicts(taken, half, apart)}"


def _verdicts(taken: Entrance, half: bool, apart: float) -> str:
    equal = f"whose logits are within {apart:.1g} of the largest of onnxruntime's"
    if taken.bytes:
        return f"straight through the rounding of pixels to bytes, {equal}; verdicts by onnxruntime"
    if half:
        return f"in fp32, {equal} in half precision; verdicts by onnxruntime"
    return f"{equal}; verdicts by it in {'fp64' if taken.dtype is torch.float64 else 'fp32'}"


def _equal(net: nn.Module, session: nn.Module, taken: Entrance, shape: tuple[int, int, int]) -> tuple[nn.Module, float]:
    """The network for batches of any size, and how far it is from the session: in pieces of the batch size that is
    baked into the graph, where it answers in no other."""
    x = agreement.pictures(shape)
    try:
        return net, agreement.difference(Converted(net, taken), session, taken, x, agreement.EXACT)
    except Unconvertible:
        if taken.batch is None:
            raise
    pieces = Program(net, batch=taken.batch)
    return pieces, agreement.difference(Converted(pieces, taken), session, taken, x, agreement.EXACT)


def _try_place(net: nn.Module, shape: tuple[int, int, int], place: torch.device) -> None:
    if place.type == "cpu":
        return
    x = torch.rand(2, *shape, device=place, requires_grad=True)
    try:
        with torch.enable_grad():
            torch.autograd.grad(net(x).sum(), x)
    except Exception as error:  # an operator that makes tensors on the CPU
        raise Unconvertible(f"the converted network does not run on {place} ({one_line(error)})") from None


def _digest(files: list[Path]) -> str:
    """SHA-256 (hex) of an ONNX file and the weights beside it."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()
