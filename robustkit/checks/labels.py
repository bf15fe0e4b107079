"""Checks of the data: whether the labels are the model's own, and the pixels those it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor

from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.papers import CARLINI

_SHUFFLES = 400
_GAIN = 0.3  # in accuracy, of another naming of the classes
_GOOD = 0.7  # the accuracy from which on another naming or preprocessing is taken for the right one
_LEVEL = 0.05
_ENOUGH = 20  # samples, to tell an accuracy from chance
_LUCK = 0.2  # how likely chance does as well, of a model that is no better
_NORMALISATIONS = {
    "ImageNet's": (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # CIFAR's is nearly the same
    "MNIST's": (1, (0.1307,), (0.3081,)),
    "that to [-1,1]": (None, (0.5,), (0.5,)),
}


@check(
    id="labels-permuted",
    title="The labels number the classes as the model does.",
    paper=CARLINI,
    threshold=0.3,
    severity="fail",
    remedy="Compare the order of the data's classes with the model's; give the names of the classes. Is it trained?",
)
def permuted(checked: CheckedModel) -> Finding:
    """Gain in accuracy from the best renaming of the classes; wrong if it is much, and no accident.

    An accuracy of no more than chance is wrong whatever renaming adds. Where there are too few samples of a class to
    rename them, only a model that is sure of itself and nearly always wrong, however the pixels are preprocessed, looks
    as if the labels were not its own.
    """
    truth, said = checked.y.cpu().numpy(), checked.logits.argmax(1).cpu().numpy()
    accuracy = float((truth == said).mean())
    classes = len(set(truth.tolist()))
    renamed = _renamed(truth, said)
    gain = renamed - accuracy
    detail = f"{100 * accuracy:.0f} % are right, and {100 * renamed:.0f} % after the best renaming of the classes."
    if len(truth) >= 2 * classes and classes >= 2:
        draws = np.random.default_rng(checked.seed)
        much = gain >= _GAIN and renamed >= _GOOD
        much = much and renamed > max(_renamed(draws.permutation(truth), said) for _ in range(_SHUFFLES))
        return Finding(gain, detail, wrong=True) if much else _by_chance(checked) or Finding(gain, detail, wrong=False)
    sure = float(checked.logits.softmax(1).amax(1).mean())
    if accuracy <= 0.1 and renamed >= 0.9 and sure >= 0.5 and classes >= 10 and not _better(checked)[1]:
        return Finding(gain, f"{detail} Yet the mean confidence is {100 * sure:.0f} %.", wrong=True)
    if found := _by_chance(checked):
        return found
    raise NotApplicable(
        f"{len(truth)} samples of {classes} classes are too few to tell wrong labels from a wrong model; "
        f"{100 * accuracy:.0f} % are right."
    )


def _by_chance(checked: CheckedModel) -> Finding | None:
    """A finding where the accuracy is no better than chance, and not for want of the right preprocessing."""
    right, count, chance = int(checked.right.sum()), len(checked.y), 1 / checked.logits.shape[1]
    lucky = binomtest(right, count, chance, alternative="greater").pvalue > _LUCK
    if count < _ENOUGH or not lucky or checked.broken or _better(checked)[1]:
        return None
    detail = f"{100 * right / count:.0f} % of {count} samples are right, no more than by chance ({100 * chance:.2g} %)."
    return Finding(1 - right / count, detail, wrong=True)


def _renamed(truth: np.ndarray, said: np.ndarray) -> float:
    """Accuracy after the one-to-one renaming of the predicted classes that suits best."""
    _, rows = np.unique(truth, return_inverse=True)
    _, columns = np.unique(said, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(truth))


@check(
    id="wrong-range",
    title="The pixels are preprocessed as the model was trained, once.",
    paper=CARLINI,
    threshold=0.2,
    severity="fail",
    remedy="Give pixels in [0,1] and the normalisation once, in the model or beside it (mean=..., std=...).",
)
def wrong_range(checked: CheckedModel) -> Finding:
    """Gain in accuracy from the best other preprocessing of the pixels; wrong if it is much, and no accident."""
    accuracy = 100 * float(checked.right.float().mean())
    gain, way = _better(checked)
    if way:
        return Finding(gain, f"{accuracy:.0f} % are right, and {accuracy + 100 * gain:.0f} % {way}.")
    return Finding(gain, f"{accuracy:.0f} % are right, and no other preprocessing does much better.")


def _better(checked: CheckedModel) -> tuple[float, str]:
    """Gain from the preprocessing that does much better than the pixels as they are, and its name; (0, "") if none."""
    before = checked.right
    best, name = 0.0, ""
    if float(before.float().mean()) > 0.8:
        return best, name
    ways = _ways(checked.model, checked.x)
    for way, change in ways.items():
        said = checked.answers(change(checked.x)).argmax(1)
        after = said == checked.y
        won, lost = int((after & ~before).sum()), int((before & ~after).sum())
        gain = (won - lost) / len(before)
        # So many are tried that the level is divided among them; a constant answer suits some labels by accident.
        chance = binomtest(won, won + lost, alternative="greater").pvalue * len(ways) if won else 1.0
        if (
            gain > max(best, 0.2)
            and float(after.float().mean()) >= _GOOD
            and chance < _LEVEL
            and bool((said != said[0]).any())
        ):
            best, name = gain, way
    return best, name


def _ways(model: Classifier, x: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """Other preprocessings by what would be done."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "with the pixels times 255": lambda x: 255 * x,
        "with black and white exchanged": lambda x: 1 - x,
    }
    channels = x.shape[1] if x.dim() == 4 else 1
    if channels == 3:
        ways["with the channels in the order blue, green, red"] = lambda x: x.flip(1)
    for name, (wanted, mean, std) in _NORMALISATIONS.items():
        if wanted in (None, channels):
            ways[f"with the normalisation ({name}) undone once"] = partial(_undone, mean, std)
            ways[f"with the normalisation ({name}) applied once more"] = partial(_applied, mean, std)
    if model.mean is not None or model.std is not None:
        ways["with the model's own normalisation left out"] = partial(
            _undone, model.mean or (0.0,), model.std or (1.0,)
        )
    return ways


def _undone(mean: tuple[float, ...], std: tuple[float, ...], x: Tensor) -> Tensor:
    return x * _column(std, x) + _column(mean, x)


def _applied(mean: tuple[float, ...], std: tuple[float, ...], x: Tensor) -> Tensor:
    return (x - _column(mean, x)) / _column(std, x)


def _column(numbers: tuple[float, ...], x: Tensor) -> Tensor:
    return x.new_tensor(numbers).view(-1, *[1] * (x.dim() - 2))
