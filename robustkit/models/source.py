"""Requests to a loader of models, and the source that it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustkit.data.pictures import Preprocess


@dataclass(frozen=True)
class Request:
    """A model as `load_model` was asked for it.

    Args:
        name: of the model, or the path of its file.
        arch: the architecture of a state dict; None where none was named.
        size: (height, width) of the input, in pixels; None leaves the choice to the loader.
        normalised: the network is trained on its architecture's own normalisation; False where another was given.
        device: of the network.
        output_name: the output with the logits, of a graph that has several; None leaves the choice to the loader.
    """

    name: str
    arch: str | None
    size: tuple[int, int] | None
    normalised: bool
    device: torch.device
    output_name: str | None = None

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
        note: what a report must say of how it was read; "" for nothing.
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
    note: str = ""


Loader = Callable[[Request], ModelSource]
