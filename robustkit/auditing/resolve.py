"""The pieces of an audit as they are given, made fit for each other: models, data, surrogates and the ε grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.core.validation import is_number
from robustkit.attacks.model.classifier import Classifier, as_classifier
from robustkit.data.dataset import Data
from robustkit.data.kinds.maite import MaiteData, MaiteDataset, is_maite_dataset
from robustkit.data.load import tensor_data
from robustkit.errors import ConfigError, ModelError
from robustkit.models.kinds.blame import reason_of
from robustkit.models.kinds.maite import from_maite, is_maite_model
from robustkit.models.load import LoadedModel, ModelSource, Preprocess
from robustkit.models.trial import refused_one
from robustkit.text import one_line

_BATCH_FLOATS = 3_100_000  # input values per batch: 20 photographs of 224×224

_FEW = 4  # pictures by which a model of MAITE's is known

AnyModel = LoadedModel | Classifier | nn.Module | Callable[[Any], Any]
AnyData = Data | tuple[Tensor, Tensor] | MaiteDataset


def resolved(models: Sequence[AnyModel], data: AnyData) -> tuple[list[LoadedModel], Data]:
    """Models that know what an audit must know of them, and the data as such; ConfigError where they do not fit."""
    if is_maite_dataset(data):
        theirs = MaiteData(data)
        x = theirs.first_pictures(_FEW)
        return [_known(each, x, theirs.whole) for each in models], theirs
    if isinstance(data, Data):
        loaded = [each for each in models if isinstance(each, LoadedModel)]
        if len(loaded) < len(models):
            raise ConfigError("with data from load_data a model must come from load_model: it must know its input size")
        return loaded, data
    if not isinstance(data, tuple | list) or [isinstance(part, Tensor) for part in data] != [True, True]:
        raise ConfigError(
            "data is what load_data gives, a data set of MAITE's, or a pair (x [N, C, H, W], y [N]) of tensors"
        )
    found = tensor_data(*data)  # refuses what is no data
    return [_known(each, data[0]) for each in models], found


def _known(model: AnyModel, x: Tensor, whole: bool = False) -> LoadedModel:
    """The model itself where it knows enough, else what the pictures that it will see tell of it; see `from_maite`."""
    if isinstance(model, LoadedModel):
        return model
    if is_maite_model(model):
        return from_maite(model, x[:_FEW], whole)
    return _fitted(as_classifier(model), x)


def _fitted(model: Classifier, x: Tensor) -> LoadedModel:
    """A bare classifier with what an audit must know of it, read off the data it will see."""
    name = getattr(getattr(model.net, "function", None), "__name__", type(model.net).__name__)
    if model.dtype not in (None, x.dtype):
        raise ModelError(f"{name}: its weights are {model.dtype}, the pictures {x.dtype}: call .float() on the network")
    one = x[:1].to(model.device)
    try:
        classes = model.logits(one).shape[1]
    except Exception as error:  # whatever the network raises on an input of the wrong size
        try:
            model.logits(torch.cat([one, one]))
        except Exception:  # two are refused as well
            if isinstance(error, ValueError):
                raise ModelError(f"{name}: {one_line(error)}") from None
            shape = "×".join(map(str, x.shape[1:]))
            raise ModelError(f"{name} does not take pictures of {shape} ({reason_of(error)})") from None
        raise ModelError(refused_one(name, error)) from None
    source = ModelSource(
        model.net,
        title=name,
        preprocess=Preprocess(size=(x.shape[2], x.shape[3]), channels=x.shape[1]),
        mean=model.mean,
        std=model.std,
        labels=model.labels,
        classes=classes,
    )
    return LoadedModel(name, source, model.precision, model.outputs)


def default_batch(model: LoadedModel) -> int:
    """Samples at a time: on the CPU more are no faster; a GPU takes as many as fit, so it is tried with many."""
    times = 1 if model.device.type == "cpu" else 16
    height, width = model.preprocess.size
    values = model.preprocess.channels * height * width
    return max(1, min(256 * times, _BATCH_FLOATS * times // values))


def read_grid(eps: Iterable[float] | Mapping[float, str]) -> dict[float, str]:
    if isinstance(eps, Mapping):
        return dict(eps)
    values = list(eps) if isinstance(eps, Iterable) and not isinstance(eps, str) else [eps]
    if isinstance(eps, str | int | float) or not all(is_number(value) for value in values):
        raise ConfigError(f"eps must be a list of numbers such as [1/255, 4/255], got {eps!r}")
    return {value: _written(value) for value in values}


def _written(eps: float) -> str:
    """4/255 where that is what it is, to a quarter of a level; else the plain number."""
    quarters = 4 * 255 * eps
    whole = quarters < 4 * 64 and abs(quarters - round(quarters)) < 1e-9
    return f"{round(quarters) / 4:g}/255" if whole else f"{eps:.6g}"


def check_surrogate(model: LoadedModel, other: LoadedModel) -> None:
    if other.access != "gradient":
        raise ConfigError(f"the surrogate {other.name} gives no gradients: points are made on it with them")
    if other.num_classes != model.num_classes or not _same_classes(model.labels, other.labels):
        raise ConfigError(
            f"the surrogate {other.name} has other classes than {model.name} "
            f"({other.num_classes} and {model.num_classes}): points made on it cannot be judged on both"
        )
    if (other.preprocess.size, other.preprocess.channels) != (model.preprocess.size, model.preprocess.channels):
        raise ConfigError(
            f"the surrogate {other.name} takes pictures of another size than {model.name}: "
            f"{_shape(other)} and {_shape(model)}"
        )
    if other.device != model.device:
        raise ConfigError(f"the surrogate {other.name} is on {other.device}, the model on {model.device}")


def _same_classes(ours: Sequence[str] | None, others: Sequence[str] | None) -> bool:
    """Whether two lists of as many names can be of the same classes: spellings may differ, the most may not."""
    if ours is None or others is None:
        return True
    same = sum(a.casefold() == b.casefold() for a, b in zip(ours, others, strict=True))
    return 2 * same >= len(ours)


def _shape(model: LoadedModel) -> str:
    return "×".join(map(str, (model.preprocess.channels, *model.preprocess.size)))
