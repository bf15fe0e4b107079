"""Requests to a loader of models, and the source that it returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustkit.data.pictures import Preprocess

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
    """

    name: str
    arch: str | None
    size: tuple[int, int] | None
    normalised: bool
    device: torch.device
    weights: str = "auto"

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
