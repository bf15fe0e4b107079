"""What an audit is asked to do, checked before any work."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import robustkit
from robustkit.attacks import Transfer
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.validation import check_eps, is_number
from robustkit.attacks.geometry import norms
from robustkit.attacks.model.classifier import Classifier, as_classifier
from robustkit.certification import Certifier
from robustkit.data.load import Data, tensor_data
from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel, ModelSource, Preprocess
from robustkit.reports import ModelInfo, RunInfo
from robustkit.text import one_line

_BATCH_FLOATS = 3_100_000  # input values per batch: 20 photographs of 224×224
LEAST_LIKELY = "least-likely"
MOST = 2**63 - 1  # the largest whole number that a report can hold

Subject = LoadedModel | Classifier | nn.Module | Callable[[Tensor], Any]
Watch = Callable[[str, int, int, int], None]  # what is going on, samples done with it, samples in all, queries


@dataclass(frozen=True)
class Plan:
    """An audit that has been checked: nothing in it can be refused any more."""

    model: LoadedModel
    data: Data
    attacks: list[Attack]
    eps: dict[float, str]
    norm: str
    seed: int
    samples: int | None
    batch_size: int
    target: int | str | None
    surrogates: list[LoadedModel]
    pictures: Path | None
    watch: Watch
    command: str
    certifier: Certifier | None = None

    @property
    def network(self) -> Classifier:
        """What answers in the end: the model, or the network that a certifier asks in its place."""
        return self.model if self.certifier is None else self.certifier.model

    def model_info(self, model: LoadedModel) -> ModelInfo:
        height, width = model.preprocess.size
        normalising = self.network if model is self.model else model  # a smoothed classifier leaves it to the network
        return ModelInfo(
            name=model.name,
            title=model.title,
            classes=model.num_classes,
            input=[model.preprocess.channels, height, width],
            mean=list(normalising.mean or ()),
            std=list(normalising.std or ()),
            parameters=model.parameters,
            digest=model.digest,
        )

    def run_info(self, seconds: float, batch_size: int) -> RunInfo:
        return RunInfo(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=seconds,
            command=self.command,
            seed=self.seed,
            batch_size=batch_size,
            device=str(self.model.device),
            precision=self.model.precision,
            robustkit=robustkit.__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            threads=torch.get_num_threads(),
            prepared=str(self.model.prepared),
        )


def make_plan(
    model: LoadedModel | Classifier | nn.Module | Callable[[Tensor], Any],
    data: Data | tuple[Tensor, Tensor],
    attacks: Sequence[Attack],
    eps: Iterable[float] | Mapping[float, str],
    seed: int,
    norm: str | None,
    samples: int | None,
    batch_size: int | None,
    target: int | str | None,
    surrogates: Sequence[LoadedModel | Classifier | nn.Module],
    out: str | Path | None,
    watch: Watch | None,
    command: str,
    certifier: Certifier | None = None,
) -> Plan:
    """The plan of what `robustkit.audit` was given; ConfigError, DataError or ModelError where it does not fit."""
    if not attacks or not all(isinstance(attack, Attack) for attack in attacks):
        raise ConfigError("attacks must be a list of at least one attack, such as [PGD()]")
    budgets = {attack.norm for attack in attacks if attack.ball and not attack.minimum_norm}
    if norm is None:
        norm = min(budgets) if budgets else next((attack.norm for attack in attacks if attack.ball), "linf")
    if budgets - {norm}:
        raise ConfigError(f"an audit has one norm, here {norm}, but an attack works in {min(budgets - {norm})}")
    grid = read_grid(eps)
    try:
        for value in grid:
            check_eps(norm, value)
        norms.get(norm)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if (budgets or surrogates) and not grid:
        raise ConfigError("eps is empty: give at least one, such as [4/255]")
    for name, number in (("samples", samples), ("batch_size", batch_size)):
        if number is not None and (not isinstance(number, int) or not 1 <= number <= MOST):
            raise ConfigError(f"{name} must be a whole number from 1 to 2^63 - 1, got {number!r}")
    if not isinstance(seed, int) or not 0 <= seed <= MOST:
        raise ConfigError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    (subject, *others), data = resolved((model, *surrogates), data)
    for attack in attacks:
        subject.check_attack(attack, target is not None)
    for other in others:
        _check_surrogate(subject, other)
    return Plan(
        subject,
        data,
        with_transfers(attacks, others, norm),
        dict(sorted((float(value), text) for value, text in grid.items())),
        norm,
        seed,
        samples,
        batch_size or default_batch(subject),
        _target(subject, target),
        others,
        None if out is None else Path(out) / "comparisons",
        watch or (lambda *_: None),
        command,
        certifier,
    )


def resolved(models: Sequence[Subject], data: Data | tuple[Tensor, Tensor]) -> tuple[list[LoadedModel], Data]:
    """Models that know what an audit must know of them, and the data as such; ConfigError where they do not fit."""
    if isinstance(data, Data):
        loaded = [each for each in models if isinstance(each, LoadedModel)]
        if len(loaded) < len(models):
            raise ConfigError("with data from load_data a model must come from load_model: it must know its input size")
        return loaded, data
    if not isinstance(data, tuple | list) or [isinstance(part, Tensor) for part in data] != [True, True]:
        raise ConfigError("data is what load_data gives, or a pair (x [N, C, H, W], y [N]) of tensors")
    found = tensor_data(*data)  # refuses what is no data
    return [each if isinstance(each, LoadedModel) else _fitted(as_classifier(each), data[0]) for each in models], found


def default_batch(model: LoadedModel) -> int:
    """Samples at a time: on the CPU more are no faster; a GPU takes as many as fit, so it is tried with many."""
    times = 1 if model.device.type == "cpu" else 16
    height, width = model.preprocess.size
    values = model.preprocess.channels * height * width
    return max(1, min(256 * times, _BATCH_FLOATS * times // values))


def with_transfers(attacks: Sequence[Attack], surrogates: Sequence[LoadedModel], norm: str) -> list[Attack]:
    """The attacks, and one for the points made on each surrogate."""
    return [*attacks, *(Transfer(surrogate, norm=norm) for surrogate in surrogates)]


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


def _fitted(model: Classifier, x: Tensor) -> LoadedModel:
    """A bare classifier with what an audit must know of it, read off the data it will see."""
    name = getattr(getattr(model.net, "function", None), "__name__", type(model.net).__name__)
    if model.dtype not in (None, x.dtype):
        raise ModelError(f"{name}: its weights are {model.dtype}, the pictures {x.dtype}: call .float() on the network")
    try:
        classes = model.logits(x[:1].to(model.device)).shape[1]
    except ValueError as error:
        raise ModelError(f"{name}: {one_line(error)}") from None
    except Exception as error:  # whatever the network raises on an input of the wrong size
        shape = "×".join(map(str, x.shape[1:]))
        raise ModelError(f"{name} does not take pictures of {shape} ({one_line(error)})") from None
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


def _check_surrogate(model: LoadedModel, other: LoadedModel) -> None:
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


def _target(model: LoadedModel, target: int | str | None) -> int | str | None:
    if target is None or target == LEAST_LIKELY:
        return target
    return model.class_index(target)


def target_name(model: LoadedModel, target: int | str | None) -> str | None:
    """The target as a record names it: a class by name, least-likely, or None."""
    found = _target(model, target)
    return model.class_name(found) if isinstance(found, int) else found
