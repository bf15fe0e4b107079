"""Requests to a loader of models, and the source that it returns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError


@dataclass(frozen=True)
class EndpointLimits:
    """Limits on what is asked of a prediction endpoint.

    Args:
        rate: pictures a second, at most; None for no limit.
        timeout: seconds in which each request must be taken and answered.
        retries: times that a request is sent again where the server cannot answer.

    Raises:
        ConfigError: a number that is out of range.
    """

    rate: float | None = None
    timeout: float = 30.0
    retries: int = 5

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("timeout", self.timeout)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"the endpoint's {name} is a number above 0, not {value!r}")
        if not 0 <= self.retries <= 20:
            raise ConfigError(f"the endpoint's retries are a whole number from 0 to 20, not {self.retries!r}")


WEIGHTS = ("auto", "raw", "ema")


@dataclass(frozen=True)
class Request:
    """A model as `load_model` was asked for it.

    Args:
        name: of the model, or the path of its file.
        arch: the architecture of a state dict; None where none was named.
        size: (height, width) of the input, in pixels; None leaves the choice to the loader.
        normalised: the network is trained on its architecture's own normalisation; False where another was given.
        device: of the network.
        weights: of a checkpoint with averaged weights beside the raw ones: "auto", "raw" or "ema".
        labels: names of the classes, in order, where the user gives them.
        outputs: what the model returns, where the user says it.
        output_name: of its outputs, where the user names one.
        limits: on what is asked of a prediction endpoint, where the user sets any.
    """

    name: str
    arch: str | None
    size: tuple[int, int] | None
    normalised: bool
    device: torch.device
    weights: str = "auto"
    labels: tuple[str, ...] | None = None
    outputs: str | None = None
    output_name: str | None = None
    limits: EndpointLimits | None = None

    @property
    def file(self) -> Path:
        return Path(self.name)


@dataclass(frozen=True)
class ModelSource:
    """A network with its weights in it, and what it was trained on.

    Args:
        net: float32 [B, C, H, W] -> logits [B, K].
        title: as a report shows it.
        preprocess: from a picture to the input.
        mean, std: normalisation of pixels in [0,1], one number or one for each channel; None for none.
        labels: names of the classes, in order.
        classes: K; None where a forward pass alone can tell.
        digest: SHA-256 (hex) of the file that it is from; None stands for that of the weights.
        channels: numbers of channels to try the network with, in order, until one fits; empty where there is nothing
            to find out.
        outputs: what the network returns, see Classifier; None where a try must tell.
        output_chosen: the loader took the output that was asked for by name.
        notes: for a report: how it was read.
    """

    net: nn.Module
    title: str
    preprocess: Preprocess
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    labels: Sequence[str] | None = None
    classes: int | None = None
    digest: str | None = None
    channels: tuple[int, ...] = ()
    outputs: str | None = None
    output_chosen: bool = False
    notes: tuple[str, ...] = ()


Loader = Callable[[Request], ModelSource]


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, types, shapes and values of weights."""
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return total.hexdigest()
