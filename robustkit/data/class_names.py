"""Match names of classes in the data with the classes of a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from robustkit.errors import DataError
from robustkit.text import suggestion

_SPLITS = {"train", "training", "val", "valid", "validation", "test", "dev"}


class Answers(Protocol):
    """Facts about a model that the labels of its data depend on."""

    @property
    def name(self) -> str: ...
    @property
    def num_classes(self) -> int: ...
    @property
    def labels(self) -> tuple[str, ...] | None: ...


def fold(name: str) -> str:
    """A name without case and with _, - and runs of spaces alike."""
    return re.sub(r"[\s_\-]+", " ", name).strip().casefold()


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The 1,000 WordNet ids of ImageNet, in the order of the classes."""
    text = (Path(__file__).parents[1] / "zoo" / "imagenet_wnids.txt").read_text(encoding="ascii")
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 ImageNet class names in the order of torchvision's weights."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def match_classes(names: Sequence[str], model: Answers, where: str) -> list[int]:
    """Class index of each name: by the model's labels, ImageNet's ids, or the number itself; all by one rule.

    A model without labels and with as many classes as there are names takes them in sorted order.

    Raises:
        DataError: some match no class, or several; says which.
    """
    rules = [_by_label(model.labels)] if model.labels else []
    if model.num_classes == 1000 and (model.labels is None or is_imagenet(model)):
        index = {wnid: number for number, wnid in enumerate(imagenet_wnids())}
        rules.append(index.get)
    rules.append(
        lambda name: int(name) if re.fullmatch(r"[0-9]{1,6}", name) and int(name) < model.num_classes else None
    )
    tries = [[rule(name) for name in names] for rule in rules]
    best = min(tries, key=lambda found: found.count(None))
    whole = [number for number in best if number is not None]
    if len(whole) == len(names):
        return whole
    if model.labels is None and len(names) == model.num_classes and not whole:
        order = {name: number for number, name in enumerate(sorted(names))}
        return [order[name] for name in names]
    raise DataError(
        _mismatch([name for name, number in zip(names, best, strict=True) if number is None], names, model, where)
    )


def is_imagenet(model: Answers) -> bool:
    """True where the model's labels are ImageNet's, up to one in ten that is spelled otherwise."""
    return model.labels is not None and names_imagenet(model.labels)


def names_imagenet(labels: Sequence[str]) -> bool:
    """True where these are ImageNet's classes in their order, up to one in ten that is spelled otherwise."""
    if len(labels) != 1000:
        return False
    pairs = zip(labels, imagenet_labels(), strict=True)
    same = sum(bool(_variants(ours) & _variants(theirs)) for ours, theirs in pairs)
    return same >= 900


def _variants(label: str) -> set[str]:
    return {fold(part) for part in label.split(",")}


def _by_label(labels: Iterable[str]) -> Callable[[str], int | None]:
    exact: dict[str, list[int]] = {}
    folded: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        exact.setdefault(label, []).append(number)
        folded.setdefault(fold(label), []).append(number)

    def rule(name: str) -> int | None:
        found = exact.get(name) or folded.get(fold(name)) or []
        # Some lists of ImageNet's classes have two called crane and two called maillot: no answer.
        return found[0] if len(found) == 1 else None

    return rule


def _mismatch(offending: list[str], names: Sequence[str], model: Answers, where: str) -> str:
    shown = ", ".join(repr(name) for name in offending[:3]) + (", ..." if len(offending) > 3 else "")
    head = f"{where}: {len(offending)} of {len(names)} classes are not classes of {model.name}: {shown}"
    if {fold(name) for name in offending} <= _SPLITS:
        return f"{head}; give one of these folders instead"
    if model.labels is None:
        return f"{head}; number them 0 to {model.num_classes - 1}, or give all {model.num_classes}"
    if any(label for label in model.labels if model.labels.count(label) > 1 and fold(label) == fold(offending[0])):
        return f"{head}; the model has two classes of that name: name the folder by its number or ImageNet id"
    hint = suggestion(offending[0], model.labels) or f"; it knows {', '.join(model.labels[:3])}, ..."
    return f"{head}{hint}"
