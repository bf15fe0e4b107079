"""A model by its name: built-in, torchvision's or a file of yours, ready to be attacked in [0,1] pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustkit.attacks.model.classifier import PRECISIONS, Classifier
from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models import speedup
from robustkit.models.names import model_names
from robustkit.models.programs import Program
from robustkit.models.sources import find_parts
from robustkit.models.speedup import Prepared
from robustkit.text import one_line

__all__ = ["LoadedModel", "Preprocess", "load_model", "model_names"]


class LoadedModel(Classifier):
    """A `Classifier` that knows where it comes from and what pictures it wants.

    Attributes:
        name, title: as it was asked for, and as a report shows it.
        preprocess: how a picture becomes the input.
        num_classes: K, the length of a row of logits.
        parameters: how many weights it has.
        digest: SHA-256 (hex) of the weights, of the whole file for TorchScript and `.pt2`.
        prepared: what was done to it for speed; `parameters` and `digest` are those from before.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        name: str,
        title: str,
        preprocess: Preprocess,
        num_classes: int,
        digest: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
        precision: str = "fp32",
        outputs: str = "logits",
    ) -> None:
        super().__init__(net, mean, std, labels, precision, outputs, classes=num_classes or None)
        self.name = name
        self.title = title
        self.preprocess = preprocess
        self.num_classes = num_classes
        self.parameters = sum(parameter.numel() for parameter in net.parameters())
        self.digest = digest or _digest(net.state_dict())
        self.prepared = Prepared()


def load_model(
    name: str | os.PathLike[str] = "efficientnet-lite0",
    *,
    arch: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    prepare: bool = True,
) -> LoadedModel:
    """The model called `name`, its normalisation folded in.

    Args:
        name: one of `model_names()`. A file is a state dict (`.safetensors`, or a pickle of tensors alone),
            an exported program (`.pt2`) or TorchScript. The last two are programs: take them only from where
            you would take code.
        arch: architecture of a state dict: "torchvision:resnet18", "resnet18", "lenet5",
            "efficientnet-lite0". It is taken to be trained on that architecture's own preprocessing; say
            otherwise with mean, std, size.
        mean, std: normalisation in [0,1] pixels; one given without the other leaves the other out. By default
            the model's own; none for `.pt2` and TorchScript.
        size: input side in pixels, or (height, width).
        labels: class names, in order.
        device: "auto" (CUDA if there is one), or torch's name of one.
        precision: of gradients: "fp32", "bf16", or "auto": whichever a short trial finds to be faster, so that two runs
            may differ; a gate that must not move by a single sample names it. Verdicts are in fp32.
        prepare: fold batch norm into the convolutions before it; that the logits stay the same is checked.

    Raises:
        ModelError: unknown name, a file that is no model, weights that do not fit, no logits.
        ConfigError: an option that is out of range or does not apply.
    """
    name = os.fspath(name)
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"precision is auto, fp32 or bf16, not {precision!r}")
    place = _device(device)
    side = _size(size)
    parts = find_parts(name, arch, side, mean is None and std is None, place)
    if mean is not None or std is not None:
        parts.mean, parts.std = None, None
    if labels is not None:
        parts.labels = tuple(labels)
    if parts.classes is not None and parts.labels is not None and len(parts.labels) != parts.classes:
        raise ModelError(
            f"{name} has {parts.classes} classes, but {len(parts.labels)} labels were given: give one each"
        )
    try:
        model = LoadedModel(
            parts.net.to(place).eval() if not isinstance(parts.net, Program) else parts.net,
            name=name,
            title=parts.title,
            preprocess=parts.preprocess,
            num_classes=parts.classes or 0,
            digest=parts.digest,
            mean=parts.mean if mean is None else mean,
            std=parts.std if std is None else std,
            labels=parts.labels,
            precision="fp32" if precision == "auto" else precision,
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(one_line(error)) from None
    if parts.probe:
        _probe(model, parts.channels, place)
    shape = (model.preprocess.channels, *model.preprocess.size)
    try:
        model.prepared = speedup.prepare(model, shape, prepare, precision)
    except ValueError as error:
        raise ModelError(one_line(error)) from None
    return model


def _probe(model: LoadedModel, channels: tuple[int, ...], place: torch.device) -> None:
    """Try two random pictures: finite logits, the same for a row whatever else is in the batch."""
    height, width = model.preprocess.size
    failure: Exception | None = None
    for count in channels:
        x = torch.rand(2, count, height, width, generator=torch.Generator().manual_seed(0)).to(place)
        try:
            logits = model.logits(x)
            alone = torch.cat([model.logits(x[:1]), model.logits(x[1:])])
        except ValueError as error:
            raise ModelError(f"{model.name}: {one_line(error)}") from None
        except Exception as error:  # whatever the network raises on an input of the wrong size
            failure = failure or error
            continue
        if not torch.isfinite(logits).all():
            raise ModelError(f"{model.name} returns infinite logits: its weights or its normalisation are broken")
        if (logits - alone).abs().max() > 1e-2 * logits.abs().max().clamp_min(1e-3):
            raise ModelError(
                f"{model.name} gives a picture other logits in another batch, as in training: call .eval() "
                "before you export it"
            )
        model.num_classes = logits.shape[1]
        model.preprocess = replace(model.preprocess, channels=count)
        model.forwards = 0
        return
    shape = f"{channels[0]}×{height}×{width}"
    # TorchScript says what happened in the last line, after a traceback.
    reason = (str(failure).strip() or type(failure).__name__).splitlines()[-1][:160]
    remedy = "give its input size, such as size = 32 in the --config file"
    raise ModelError(f"{model.name} does not take pictures of {shape} ({reason}): {remedy}")


def _digest(state: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return total.hexdigest()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except Exception as error:  # torch raises assertion, runtime and not-implemented errors alike
        raise ConfigError(f"device {name!r} cannot be used ({one_line(error)}): take auto or cpu") from None
    return place


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in pair):
        raise ConfigError(f"size is one side in pixels or (height, width), 1 to 4096, not {size!r}")
    return pair
