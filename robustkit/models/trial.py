"""A network that has just been loaded, tried on random pictures: what it takes and what its answers are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier
from robustkit.attacks.model.outputs import OUTPUTS, certain_part, described, parts_of
from robustkit.errors import ConfigError, ModelError
from robustkit.models.kinds.blame import reason_of
from robustkit.models.kinds.wrappers import DTYPES, Selected, WithoutBackground
from robustkit.models.programs import Program
from robustkit.models.source import ModelSource

BACKGROUND = 1001  # classes of TensorFlow's ImageNet networks
_SAID = {
    "probabilities": "its output taken for probabilities",
    "sigmoid": "its output taken for a sigmoid's, one for each class",
}


@dataclass(frozen=True)
class Wishes:
    """What the owner says of a network's answers.

    Args:
        outputs: one of Classifier's, or "auto".
        output_name: name or place of the logits among several outputs; None where nothing is said.
        drop_background: leave out class 0 of 1,001.
        labelled: names of the classes were given.
    """

    outputs: str = "auto"
    output_name: str | None = None
    drop_background: bool = False
    labelled: bool = False

    def __post_init__(self) -> None:
        if self.outputs not in (*OUTPUTS, "auto"):
            raise ConfigError(f"outputs is {', '.join(OUTPUTS)} or auto, not {self.outputs!r}")


def settle(name: str, source: ModelSource, wishes: Wishes, place: torch.device) -> tuple[ModelSource, str]:
    """The network as one that returns one tensor of answers, and what these are: one of Classifier's outputs.

    Raises:
        ModelError: it does not take such pictures, or what its answers are cannot be told.
        ConfigError: a wish that does not apply.
    """
    kind = source.outputs if wishes.outputs == "auto" and source.outputs else wishes.outputs
    if source.channels:
        source, kind = _tried(name, source, replace(wishes, outputs=kind), place)
    else:
        kind = "logits" if kind == "auto" else kind
        if wishes.output_name is not None and not source.output_chosen:
            raise ConfigError(f"{name} has one output: leave out --output-name")
    return _background(name, source, wishes, kind), kind


def _tried(name: str, source: ModelSource, wishes: Wishes, place: torch.device) -> tuple[ModelSource, str]:
    plain = Classifier(source.net, source.mean, source.std)
    x, out = _first_answer(name, plain, source, place)
    names = None if source.labels is None else len(source.labels) + wishes.drop_background
    parts = parts_of(out)
    notes = []
    if parts is not None:
        part = _part(name, parts, wishes.output_name, names or source.classes)
        if part != "logits":
            notes.append(f"output {part}")
        source = replace(source, net=Selected(source.net, part))
        plain = Classifier(source.net, source.mean, source.std)
        out = parts[part]
    elif wishes.output_name is not None and not source.output_chosen:
        raise ConfigError(f"{name} has one output: leave out --output-name")
    if not isinstance(out, Tensor):
        raise ModelError(f"{name}: the model returned a {type(out).__name__}, not a tensor of logits")
    kind = wishes.outputs
    if kind == "auto":
        kind = _kind(plain, out, x)
        notes += [_SAID[kind]] if kind in _SAID else []
    classes = source.classes
    if kind == "labels":
        classes = names or classes
        if classes is None:
            raise ModelError(f"{name} returns labels, whole numbers: give the names of its classes, --labels FILE")
    elif out.is_floating_point() and tuple(out.shape) in ((2,), (2, 1)):
        if names not in (None, 2):
            raise ModelError(f"{name} returns one number a picture, for two classes, but {names} labels were given")
        classes = 2
        notes.append("one output for two classes")
    elif out.dim() == 2:
        classes = out.shape[1]
    preprocess = replace(source.preprocess, channels=x.shape[1])
    title = "; ".join([source.title, *notes])
    return replace(source, title=title, classes=classes, preprocess=preprocess), kind


def _first_answer(name: str, model: Classifier, source: ModelSource, place: torch.device) -> tuple[Tensor, Any]:
    """Two random pictures and the answer to them, in the first number of channels that fits."""
    height, width = source.preprocess.size
    failure: Exception | None = None
    for count in source.channels:
        for numbers in (model.mean, model.std):
            if numbers is not None and len(numbers) not in (1, count):
                raise ModelError(f"{name}: mean and std have {len(numbers)} channels, the pictures {count}")
        x = torch.rand(2, count, height, width, generator=torch.Generator().manual_seed(0)).to(place)
        try:
            return x, _answer(model, x)
        except Exception as error:  # whatever the network raises on an input of the wrong size
            failure = failure or error
        try:
            _answer(model, x[:1])
        except Exception:  # neither two nor one
            continue
        if not isinstance(model.net, Program):
            raise ModelError(
                f"{name} takes one picture at a time ({reason_of(failure)}): let its forward take any batch"
            )
        model.net.batch = 1
        return x, model.raw(x)
    shape = f"{source.channels[0]}×{height}×{width}"
    remedy = "give its input size, such as --size 32, or size = 32 in the --config file"
    raise ModelError(f"{name} does not take pictures of {shape} ({reason_of(failure)}): {remedy}")


def _answer(model: Classifier, x: Tensor) -> Any:
    """The network's own answer; a frozen program does not say which floating type it takes, so each is tried."""
    net = model.net
    try:
        return model.raw(x)
    except Exception:
        if not isinstance(net, Program) or net.dtype is not None or not net.differentiable:
            raise
        for net.dtype in DTYPES:
            try:
                return model.raw(x)
            except Exception:  # the first exception is the one to tell
                continue
        net.dtype = None
        raise


def _part(name: str, parts: dict[str, Any], wanted: str | None, classes: int | None) -> str:
    if wanted is None:
        part = certain_part(parts, 2, classes)
        if part is None:
            kind = "a tuple" if all(key.isdecimal() for key in parts) else "several things"
            raise ModelError(
                f"{name}: the model returned {kind} ({described(parts)}): say which holds the logits, such as "
                f"--output-name {next(reversed(parts), '0')}"
            )
        return part
    if wanted not in parts:
        raise ConfigError(f"{name} has no output {wanted!r}: it has {described(parts)}")
    return wanted


def _kind(model: Classifier, out: Tensor, x: Tensor) -> str:
    """What numbers are: labels, probabilities, sigmoids or logits, by their range on pictures and far outside."""
    if not out.is_floating_point():
        return "labels" if out.dim() == 1 else "logits"
    rows = [out.double()]
    if getattr(model.net, "differentiable", True) or isinstance(_inside(model.net), Program):
        # Only what ends in a softmax or a sigmoid stays in [0,1] where the input is far too large.
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).to(x) - 0.5
        for size in (1e3, 1e6):
            try:
                far = model.raw(size * noise)
            except Exception:  # a network may check the range of its input
                break
            rows += [far.double()] if torch.isfinite(far).all() and far.dim() == out.dim() else []
    values = torch.cat([row.flatten(1) if row.dim() > 1 else row[:, None] for row in rows])
    rounding = 1e-2 if out.dtype in (torch.float16, torch.bfloat16) else 1e-4
    if not bool(((values >= -1e-5) & (values <= 1 + rounding)).all()):
        return "logits"
    if values.shape[1] > 1 and bool(((values.sum(1) - 1).abs() < rounding).all()):
        return "probabilities"
    # A sigmoid is never negative, the logits of a network that was hardly trained are, by very little.
    return "sigmoid" if bool((values >= 0).all()) else "logits"


def _inside(net: nn.Module) -> nn.Module:
    return net.net if isinstance(net, Selected) else net


def _background(name: str, source: ModelSource, wishes: Wishes, kind: str) -> ModelSource:
    """Class 0 of 1,001 left out, or named: never off by one in silence."""
    labels, classes = source.labels, source.classes
    if wishes.drop_background:
        if classes != BACKGROUND or kind == "labels":
            raise ConfigError(f"{name} has {classes} classes: --drop-background is for scores of {BACKGROUND}")
        labels = labels[1:] if labels is not None and len(labels) == BACKGROUND else labels
        net = WithoutBackground(source.net, kind == "probabilities")
        title = f"{source.title}; without class 0, the background"
        return replace(source, net=net, title=title, labels=labels, classes=BACKGROUND - 1)
    known = 0 if labels is None else len(labels)
    if classes == BACKGROUND and not (wishes.labelled and known == BACKGROUND):
        given = f", but {known} labels were given" if wishes.labelled else ""
        raise ModelError(
            f"{name} has {BACKGROUND} classes{given}: if class 0 is the background, as in TensorFlow's networks, say "
            f"--drop-background; if not, give the names of all {BACKGROUND}, --labels FILE"
        )
    return source


def check_rows(name: str, model: Classifier, place: torch.device, shape: tuple[int, int, int]) -> None:
    """Try two random pictures: finite logits, the same for a row whatever else is in the batch.

    Raises:
        ModelError: it is not so.
    """
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).to(place)
    try:
        logits = model.logits(x)
    except ValueError as error:
        raise ModelError(f"{name}: {reason_of(error)}") from None
    try:
        alone = torch.cat([model.logits(x[:1]), model.logits(x[1:])])
    except Exception as error:  # anybody's network
        raise ModelError(refused_one(name, error)) from None
    if not torch.isfinite(logits).all():
        raise ModelError(f"{name} returns infinite logits: its weights or its normalisation are broken")
    if (logits - alone).abs().max() > 1e-2 * logits.abs().max().clamp_min(1e-3):
        raise ModelError(
            f"{name} gives a picture other logits in another batch, as in training: call .eval() before you export it"
        )


def refused_one(name: str, error: Exception) -> str:
    """What is said of a network that takes two pictures and not one."""
    return (
        f"{name} refuses a batch of one ({reason_of(error)}): its forward loses the axis of the batch, as squeeze() "
        "and flatten() do; write flatten(1)"
    )
