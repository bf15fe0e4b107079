"""Check of the preprocessing: the usual candidates are tried on the samples, and the one that fits is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

from robustkit.checks.check import Finding, check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.papers import CARLINI

_GAIN = 0.2  # in accuracy, of another preprocessing
_GOOD = 0.7  # the accuracy from which on another preprocessing is taken for the right one
_VERY_GOOD = 0.9  # the same, where it gains less
_LEVEL = 0.05
_FEWEST = 5  # samples to win, for a sign test at the level
_FLIP = "x.flip(1) as the network's first step, in a module of yours: no option reorders channels"

Numbers = tuple[float, ...]
_NORMALISATIONS: dict[str, tuple[int | None, Numbers, Numbers]] = {
    "ImageNet's": (3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # CIFAR's is nearly the same
    "MNIST's": (1, (0.1307,), (0.3081,)),
    "that to [-1,1]": (None, (0.5,), (0.5,)),
}


@dataclass(frozen=True)
class Preprocessing:
    """What might be done to a picture x in [0,1] before the network: `(x - mean) / std`, and the channels reversed.

    Args:
        what: for the detail: "81 % are right, and 100 % `what`".
        remedy: what to do if it fits.
        mean, std: one number for each channel, in pixel units.
        reversed: blue, green, red.
        unusual: only taken where the usual ones do clearly worse.
    """

    what: str
    remedy: str
    mean: Numbers
    std: Numbers
    reversed: bool = False
    unusual: bool = False


@dataclass(frozen=True)
class Fit:
    """The preprocessing that fits best, against the one that the model has.

    Args:
        gain: in accuracy.
        luck: p-value of the exact McNemar test, one-sided, times the number of preprocessings tried.
        luck_alone: that of this one alone.
        right: accuracy with it.
        alike: others that are right on as many samples, or one less.
    """

    preprocessing: Preprocessing
    gain: float
    luck: float
    luck_alone: float
    right: float
    alike: tuple[Preprocessing, ...] = ()

    @property
    def certain(self) -> bool:
        """It does much better, and not because so many were tried."""
        return self.gain > _GAIN and self.right >= _GOOD and self.luck < _LEVEL

    @property
    def likely(self) -> bool:
        """It does better by itself, and very well."""
        return self.right >= _VERY_GOOD and self.luck_alone < _LEVEL


@check(
    id="wrong-range",
    title="The pixels are preprocessed as the model was trained, once.",
    paper=CARLINI,
    threshold=_GAIN,
    severity="fail",
    remedy="Give pixels in [0,1] and the normalisation once, in the model or beside it (--mean, --std).",
)
def wrong_range(checked: CheckedModel) -> Finding:
    """Gain in accuracy from the best other preprocessing of the pixels; wrong if it is much, and no accident.

    A gain that is smaller, or that may be one of many tried, is a doubt.
    """
    accuracy = 100 * float(checked.right.float().mean())
    fit = best_fit(checked)
    if fit is None or not (fit.certain or fit.likely):
        return Finding(0.0, f"{accuracy:.0f} % are right, and no other preprocessing does much better.", wrong=False)
    detail = f"{accuracy:.0f} % are right, and {100 * fit.right:.0f} % {fit.preprocessing.what}"
    detail += f" (p = {fit.luck_alone:.2g}){''.join(f'; about as many {each.what}' for each in fit.alike)}."
    remedy = " Or, about as good on these samples: ".join([each.remedy for each in (fit.preprocessing, *fit.alike)])
    return Finding(fit.gain, detail, wrong=fit.certain, doubt=True, remedy=remedy)


def best_fit(checked: CheckedModel) -> Fit | None:
    """The preprocessing that most samples are right with, a query a sample for each; None where none can be told.

    Of those that one sample more or less divides, a usual one is taken, and then the one that the labels are likeliest
    with: a network whose scale matters little is right on pixels times 255 too.
    """
    before, ours = checked.right, _ours(checked)
    if int((~before).sum()) < _FEWEST:
        return None
    tried: list[tuple[int, bool, float, Fit]] = []
    ways = list(_candidates(*ours, checked.x.shape[1] if checked.x.dim() == 4 else 1))
    for way in ways:
        logits = checked.answers(_seen_as(way, *ours, checked.x))
        said = logits.argmax(1)
        if bool((said == said[0]).all()):  # a constant answer suits some labels by accident
            continue
        after = said == checked.y
        won, lost = int((after & ~before).sum()), int((before & ~after).sum())
        luck = float(binomtest(won, won + lost, alternative="greater").pvalue) if won else 1.0
        fit = Fit(way, (won - lost) / len(before), luck * len(ways), luck, float(after.float().mean()))
        tried.append((int(after.sum()), way.unusual, float(F.cross_entropy(logits, checked.y)), fit))
    most = max((right for right, *_ in tried), default=0)
    near = sorted((each for each in tried if each[0] >= most - 1), key=lambda each: each[1:3])
    if not near:
        return None
    alike = tuple(fit.preprocessing for _, unusual, _, fit in near[1:] if unusual == near[0][1])
    return replace(near[0][3], alike=alike)


def _ours(checked: CheckedModel) -> tuple[Numbers, Numbers]:
    model, x = checked.model, checked.x
    channels = x.shape[1] if x.dim() == 4 else max(len(model.mean or ()), len(model.std or ()), 1)
    return _wide(model.mean or (0.0,), channels), _wide(model.std or (1.0,), channels)


def _candidates(mean: Numbers, std: Numbers, channels: int) -> Iterator[Preprocessing]:
    """Preprocessings to try in place of the model's own mean and std."""
    width = len(mean)
    plain = (0.0,) * width, (1.0,) * width
    usual = {
        name: (_wide(numbers[0], width), _wide(numbers[1], width))
        for name, (wanted, *numbers) in _NORMALISATIONS.items()
        if wanted in (None, channels)
    }
    found: list[Preprocessing] = []
    for name, pair in usual.items():
        found.append(Preprocessing(f"with the normalisation ({name})", f"Give {_options(*pair)}.", *pair))
    inside = "The network seems to normalise the pixels itself: leave out mean and std"
    found.append(Preprocessing("with the model's own normalisation left out", f"{inside}.", *plain))
    if channels == 3:
        blue = "with the channels in the order blue, green, red"
        found.append(Preprocessing(blue, f"Put {_FLIP}.", mean, std, reversed=True))
        for name, pair in usual.items():
            remedy = f"Give {_options(*pair)}, and put {_FLIP}."
            found.append(Preprocessing(f"{blue} and the normalisation ({name})", remedy, *pair, reversed=True))
    for name, (middle, spread) in usual.items():
        pair = (
            tuple((m - c) / w for m, c, w in zip(mean, middle, spread, strict=True)),
            tuple(s / w for s, w in zip(std, spread, strict=True)),
        )
        remedy = f"Pixels or network seem to be normalised twice: leave one out, or cancel it by {_options(*pair)}."
        found.append(Preprocessing(f"with the normalisation ({name}) undone once", remedy, *pair))
    by_255 = tuple(m / 255 for m in mean), tuple(s / 255 for s in std)
    found.append(Preprocessing("with the pixels times 255", f"Give {_options(*by_255)}.", *by_255, unusual=True))
    exchanged = tuple(1 - m for m in mean), tuple(-s for s in std)
    remedy = "Give the pictures with black and white exchanged (1 - x), as the network learnt them."
    found.append(Preprocessing("with black and white exchanged", remedy, *exchanged, unusual=True))
    known = {(mean, std, False)}
    for each in found:
        if (each.mean, each.std, each.reversed) not in known:
            known.add((each.mean, each.std, each.reversed))
            yield each


def _options(mean: Numbers, std: Numbers) -> str:
    """The options of the command line.

    >>> _options((0.5, 0.5), (0.25, 1 / 3))
    '--mean 0.5,0.5 --std 0.25,0.333333'
    """
    return " ".join(
        f"--{name} {','.join(f'{number:.6g}' for number in numbers)}"
        for name, numbers in (("mean", mean), ("std", std))
    )


def _seen_as(way: Preprocessing, mean: Numbers, std: Numbers, x: Tensor) -> Tensor:
    """The x on which the model, with its own mean and std, shows the network what the preprocessing would."""
    seen = (x - _column(way.mean, x)) / _column(way.std, x)
    if way.reversed:
        seen = seen.flip(1)
    return seen * _column(std, x) + _column(mean, x)


def _wide(numbers: Numbers, channels: int) -> Numbers:
    return numbers * channels if len(numbers) == 1 else numbers


def _column(numbers: Numbers, x: Tensor) -> Tensor:
    return x.new_tensor(numbers).view(-1, *[1] * (x.dim() - 2))
