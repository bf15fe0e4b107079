"""Load a model by its name: built-in, torchvision's or a file of yours, ready to be attacked in [0,1] pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace

import torch

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.model.classifier import PRECISIONS, Classifier
from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError, RobustkitError
from robustkit.models import speedup, trial
from robustkit.models.loaders import find_source
from robustkit.models.names import model_names
from robustkit.models.programs import Program
from robustkit.models.source import WEIGHTS, EndpointLimits, ModelSource, Request, weights_digest
from robustkit.models.speedup import Speedup
from robustkit.text import one_line, without_secrets

__all__ = ["EndpointLimits", "LoadedModel", "ModelSource", "Preprocess", "load_model", "model_names"]


class LoadedModel(Classifier):
    """A `Classifier` that knows where it comes from and what pictures it wants.

    Args:
        name: as it was asked for.
        source: the network, and what it was trained on.
        precision, outputs: see `Classifier`.

    Attributes:
        name, title: as it was asked for, and as a report shows it.
        preprocess: from a picture to the input.
        num_classes: K, the length of a row of logits; 0 until the network has been tried, where nothing else says it.
        parameters: number of weights.
        digest: SHA-256 (hex) of the weights, of the whole file for TorchScript and `.pt2`.
        prepared: how it was read, and changes made to it for speed; `parameters` and `digest` are those from before.
    """

    def __init__(self, name: str, source: ModelSource, precision: str = "fp32", outputs: str = "logits") -> None:
        super().__init__(
            source.net,
            source.mean,
            source.std,
            source.labels,
            precision=precision,
            outputs=outputs,
            classes=source.classes,
        )
        self.name = name
        self.title = source.title
        self.preprocess = source.preprocess
        self.num_classes = source.classes or 0
        self.parameters = sum(parameter.numel() for parameter in source.net.parameters())
        self.digest = source.digest or weights_digest(source.net.state_dict())
        self.notes = source.notes
        self.prepared = Speedup()

    @property
    def note(self) -> str:
        """Notes on how it was read, for a report; "" where there are none."""
        return "; ".join(self.notes)

    def class_name(self, index: int) -> str:
        """The label of a class, or its number where the model has no labels."""
        return self.labels[index] if self.labels is not None else str(index)

    def class_index(self, wanted: int | str) -> int:
        """The class called `wanted`, by name (whole, or a part that fits one alone) or by number.

        Raises:
            ConfigError: no class is called so, or several are.
        """
        text = str(wanted).strip()
        if text.isdecimal():
            if len(text) > 18 or int(text) >= self.num_classes:
                raise ConfigError(f"target {text} is not a class: {self.name} has {self.num_classes}, from 0")
            return int(text)
        labels = [label.lower() for label in self.labels or ()]
        exact = [index for index, label in enumerate(labels) if label == text.lower()]
        near = exact or [index for index, label in enumerate(labels) if text.lower() in label]
        if len(near) == 1 or exact:
            return near[0]
        if near:
            some = ", ".join(labels[index] for index in near[:5])
            raise ConfigError(f"target {text!r} fits {len(near)} classes ({some}): write one in full")
        raise ConfigError(
            f"{self.name} has no class called {text!r}: give a name or a number from 0 to {self.num_classes - 1}"
        )

    def check_attack(self, attack: Attack, targeted: bool) -> None:
        """Refuse an attack that does not go with the model, its pictures or a target, before the model is asked.

        Raises:
            ConfigError: it does not; or a hyperparameter is a number that no report can hold: not finite, or beyond
                64 bits.
        """
        for key, value in attack.parameters().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"{attack.title}: {key} must be finite, got {value!r}")
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ConfigError(f"{attack.title}: {key} must be a whole number of 64 bits, from -2^63 to 2^63 - 1")
        try:
            attack.check_access(self)
            attack.check_task(self.num_classes, (self.preprocess.channels, *self.preprocess.size), targeted)
        except ValueError as error:
            why = f" ({self.note})" if self.notes and self.access != "gradient" else ""
            raise ConfigError(f"{error}{why}") from None


def load_model(
    name: str | os.PathLike[str] = "efficientnet-lite0",
    *,
    arch: str | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | None = None,
    outputs: str = "auto",
    output_name: str | None = None,
    drop_background: bool = False,
    limits: EndpointLimits | None = None,
    device: str = "auto",
    precision: str = "auto",
    prepare: bool = True,
    weights: str = "auto",
) -> LoadedModel:
    """The model called `name`, its normalisation folded in.

    Args:
        name: one of `model_names()`. An address `https://…/v2/models/NAME` is asked by the Open Inference Protocol.
            A file is a state dict (`.safetensors`, or a pickle of tensors alone), an exported program (`.pt2`) or
            TorchScript. The last two are programs: take them only from where you would take code. "net.py:NAME" and
            "package.module:NAME" are code of yours, and run.
        arch: architecture of a state dict: "torchvision:resnet18", "resnet18", "lenet5",
            "efficientnet-lite0", "net.py:NAME" for a function or class of yours. It is taken to be trained on that
            architecture's own preprocessing; say otherwise with mean, std, size.
        mean, std: normalisation in [0,1] pixels; one given without the other leaves the other out. By default
            the model's own; none for `.pt2` and TorchScript.
        size: input side in pixels, or (height, width).
        labels: class names, in order.
        outputs: what it returns, see `Classifier`; "auto" tells by a try whether rows are probabilities (in [0,1], and
            1 in all), of sigmoids (in [0,1]) or labels, and says so in the title.
        output_name: of several outputs the name or place of the logits, where that is not certain.
        drop_background: leave out class 0 of 1,001, the background of TensorFlow's networks.
        limits: rate, timeout and retries of an endpoint.
        device: "auto" (CUDA if there is one), or torch's name of one.
        precision: of gradients: "fp32", "bf16", or "auto": whichever a short trial finds to be faster, so that two runs
            may differ; a gate that must not move by a single sample names it. Verdicts are in fp32.
        prepare: fold batch norm into the convolutions before it; that the logits stay the same is checked.
        weights: of a checkpoint that holds averaged weights (EMA, SWA) beside the raw ones: "raw", "ema", or "auto":
            the averaged ones where there are some.

    Raises:
        ModelError: unknown name, a file that is no model, weights that do not fit, no logits.
        ConfigError: an option that is out of range or does not apply.
    """
    given, name = os.fspath(name), without_secrets(os.fspath(name))
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"precision is auto, fp32 or bf16, not {precision!r}")
    if weights not in WEIGHTS:
        raise ConfigError(f"weights are auto, raw or ema, not {weights!r}")
    labelled = labels is not None
    wishes = trial.Wishes(outputs, output_name, drop_background, labelled)
    place = _device(device)
    source = find_source(
        Request(
            given,
            arch,
            _size(size),
            mean is None and std is None,
            place,
            weights=weights,
            labels=None if labels is None else tuple(labels),
            outputs=outputs,
            output_name=output_name,
            limits=limits,
        )
    )
    if mean is not None or std is not None:
        source = replace(source, mean=mean, std=std)
    if labels is not None:
        source = replace(source, labels=tuple(labels))
    if not isinstance(source.net, Program):
        source.net.to(place).eval()
    source = replace(source, digest=source.digest or weights_digest(source.net.state_dict()))
    tried, verb = bool(source.channels), "returned" if source.channels and source.classes is None else "has"
    try:
        source, kind = trial.settle(name, source, wishes, place)
        if source.classes is not None and source.labels is not None and len(source.labels) != source.classes:
            raise ModelError(
                f"{name} {verb} {source.classes} classes, but {len(source.labels)} labels were given: give one each"
            )
        model = LoadedModel(name, source, "fp32" if precision == "auto" else precision, kind)
    except RobustkitError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise ConfigError(one_line(error)) from None
    shape = (model.preprocess.channels, *model.preprocess.size)
    if tried:
        trial.check_rows(name, model, place, shape)
        model.forwards = 0
    try:
        model.prepared = replace(speedup.speed_up(model, shape, prepare, precision), notes=source.notes)
    except ValueError as error:
        raise ModelError(one_line(error)) from None
    return model


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
