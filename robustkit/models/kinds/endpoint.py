"""Prediction endpoints: a model behind an address that speaks the Open Inference Protocol (V2)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustkit.attacks.model.rounding import look_like_probabilities
from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models.kinds import inference_protocol as protocol
from robustkit.models.kinds.http_client import Connection, TooLargeError
from robustkit.models.source import EndpointLimits, ModelSource, Request
from robustkit.text import without_secrets

_PATH = re.compile(r".*/v2/models/(?P<name>[^/]+)(/versions/[^/]+)?/?")
_VALUES = 600_000  # pixel values in a request: 4 photographs of 224×224, some 10 MB of JSON


@dataclass(frozen=True)
class Answers:
    """How an endpoint answers.

    Args:
        output: the tensor that is asked for.
        kind: "logits", "probabilities" or "labels".
        classes: K.
        labels: names of the classes, by which answers in words are understood.
    """

    output: protocol.TensorInfo
    kind: str
    classes: int
    labels: tuple[str, ...] | None


class Endpoint(nn.Module):
    """An endpoint as a module: float [B, C, H, W] -> scores float32 [B, K], or labels int64 [B].

    A row is sent once and counts once, however often its request has to be repeated.

    Args:
        connection: to the address.
        pictures: its input.
        answers: how it answers.
        rows: pictures in a request, at most; halved where the server says that one is too large.
    """

    differentiable = False

    def __init__(self, connection: Connection, pictures: protocol.PictureTensor, answers: Answers) -> None:
        super().__init__()
        self.connection, self.pictures, self.answers = connection, pictures, answers
        self.rows = rows_at_once(pictures)

    def extra_repr(self) -> str:
        return self.connection.shown

    def forward(self, x: Tensor) -> Tensor:
        known = self.answers
        parts = [torch.zeros(0, dtype=torch.int64) if known.kind == "labels" else torch.zeros(0, known.classes)]
        start, point = 0, x.detach().cpu()
        while start < len(point):
            part = point[start : start + self.rows]
            try:
                array = infer(self.connection, self.pictures, known.output, part)
            except TooLargeError:
                if len(part) == 1 or self.pictures.batch is not None:
                    raise too_large(self.connection, self.rows) from None
                self.rows = len(part) // 2
                continue
            parts.append(self._understood(array))
            start += len(part)
        return torch.cat(parts).to(x.device)

    def _understood(self, array: NDArray[Any]) -> Tensor:
        where, known = self.connection.shown, self.answers
        if known.kind == "labels":
            return as_labels(array, known.labels, where)
        if array.shape[1:] != (known.classes,) or array.dtype == object:
            raise ModelError(f"{where} answers {list(array.shape)}: scores of {known.classes} classes are needed")
        return torch.from_numpy(array.astype(np.float32))


def rows_at_once(pictures: protocol.PictureTensor) -> int:
    """Pictures in a request: the fixed batch, or as many as make a request of a size that servers take."""
    height, width = pictures.size
    return pictures.batch or max(1, _VALUES // (pictures.channels * height * width))


def infer(
    connection: Connection, pictures: protocol.PictureTensor, output: protocol.TensorInfo, x: Tensor
) -> NDArray[Any]:
    """The output for pictures [B, C, H, W], B of one request at most, as an array of B rows."""
    batch = pictures.batch or len(x)
    answer = connection.ask("/infer", {"inputs": [pictures.encode(x)], "outputs": [{"name": output.name}]}, batch)
    return protocol.decode(answer, output, batch, connection.shown)[: len(x)]


def too_large(connection: Connection, rows: int) -> ModelError:
    """The error of a server that takes no request of so many pictures."""
    return ModelError(f"{connection.shown} takes no request of {rows} pictures (413): allow larger ones there")


def as_labels(array: NDArray[Any], labels: Sequence[str] | None, where: str) -> Tensor:
    """Classes int64 [B] of answers [B] or [B, 1]: numbers, or names of classes."""
    if array.size != len(array):
        raise ModelError(f"{where} answers {list(array.shape)}: one label a picture is needed")
    found = array.reshape(-1)
    if found.dtype != object:
        whole = found.astype(np.int64)
        if not bool((whole == found).all()):
            raise ModelError(f"{where} answers {found[0]:g}, which is no label: say --outputs probabilities or logits")
        return torch.from_numpy(whole)
    places = {name: place for place, name in enumerate(labels or ())}
    classes = []
    for name in map(str, found):
        place = places.get(name, int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else None)
        if place is None:
            shown = ascii(without_secrets(name)[:40])
            raise ModelError(f"{where} answers {shown}, which is none of the labels: give --labels as it names them")
        classes.append(place)
    return torch.tensor(classes)


def endpoint(request: Request) -> ModelSource:
    """The model at an address, as its metadata describe it and three pictures show it."""
    shown = without_secrets(request.name)
    try:
        parts = urlsplit(request.name)
        found = _PATH.fullmatch(parts.path)
    except ValueError:
        found = None
    if found is None:
        raise ConfigError(f"{shown} is no address of a model: write https://HOST/v2/models/NAME")
    if re.search(r"\s", request.name):
        raise ConfigError("the address of the model holds a space: write %20, in a password too")
    connection = Connection(request.name, request.limits or EndpointLimits())
    metadata = connection.ask()
    inputs = protocol.tensors(metadata, "inputs", shown)
    if len(inputs) != 1:
        raise ModelError(f"{shown} takes {', '.join(map(str, inputs))}: one input of pictures is needed")
    pictures = protocol.picture_tensor(inputs[0], request.size, shown)
    if pictures.info.datatype == "UINT8" and not request.normalised:
        raise ConfigError(f"{shown} takes pixels of 0 to 255 (UINT8): leave out mean and std")
    output = protocol.output_tensor(protocol.tensors(metadata, "outputs", shown), request.output_name, shown)
    answers = _answers(request, connection, pictures, output)
    description = json.dumps(metadata, sort_keys=True).encode()
    return ModelSource(
        Endpoint(connection, pictures, answers),
        title=f"{unquote(found['name'])} at {parts.hostname}",
        preprocess=Preprocess(pictures.size, pictures.channels),
        labels=request.labels,
        classes=answers.classes,
        digest=hashlib.sha256(description).hexdigest(),
        outputs=answers.kind,
        output_chosen=True,
    )


def _answers(
    request: Request, connection: Connection, pictures: protocol.PictureTensor, output: protocol.TensorInfo
) -> Answers:
    """How the endpoint answers, seen by three pictures: grey, and two at random."""
    where, asked = connection.shown, None if request.outputs == "auto" else request.outputs
    x = torch.rand(3, pictures.channels, *pictures.size, generator=torch.Generator().manual_seed(0))
    x[0] = 0.5
    at_once = min(rows_at_once(pictures), len(x))
    parts = x.tensor_split([*range(at_once, len(x), at_once)])
    try:
        found = [infer(connection, pictures, output, part) for part in parts]
    except TooLargeError:
        raise too_large(connection, at_once) from None
    if len({(part.shape[1:], part.dtype) for part in found}) > 1:
        raise ModelError(f"{where} answers each picture in another shape: a row of scores for each is needed")
    array = np.concatenate(found)
    scores = array.ndim == 2 and array.shape[1] > 1 and array.dtype != object
    if asked == "labels" or (asked is None and not (scores and array.dtype == np.float64)):
        return _labelled(request, output, array, where)
    if not scores:
        raise ConfigError(f"{where} answers {output}: scores of two classes at least are needed for --outputs {asked}")
    if not np.isfinite(array).all():
        raise ModelError(f"{where} answers with scores that are not finite: its weights or its pixels are broken")
    kind = asked or ("probabilities" if look_like_probabilities(torch.from_numpy(array)) else "logits")
    return Answers(output, kind, array.shape[1], request.labels)


def _labelled(request: Request, output: protocol.TensorInfo, array: NDArray[Any], where: str) -> Answers:
    """Answers in labels, of which the names of all classes must be known."""
    if array.size != len(array):
        raise ConfigError(
            f"{where} answers {output}, {array[0].size} values a picture: say --outputs logits or probabilities"
        )
    if array.dtype == np.float64 and request.outputs != "labels":
        raise ConfigError(
            f"{where} answers {output}, one number a picture: scores of two classes at least are needed, or "
            "--outputs labels where it is a label"
        )
    if request.labels is None or len(request.labels) < 2:
        raise ConfigError(f"{where} answers with labels ({output}): give --labels, the names of all classes in order")
    seen = as_labels(array, request.labels, where)
    if not 0 <= int(seen.min()) <= int(seen.max()) < len(request.labels):
        raise ConfigError(f"{where} answers class {int(seen.max())}, but {len(request.labels)} labels were given")
    return Answers(output, "labels", len(request.labels), request.labels)
