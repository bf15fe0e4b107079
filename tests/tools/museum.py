"""Broken evaluations: an honest network of the zoo with one classic fault built in, and the checks that must see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from museum_faults import (
    Adapting,
    BatchStatistics,
    Cold,
    Detached,
    DividedTwice,
    Dropout,
    Faint,
    Flipped,
    Jpeg,
    KWinners,
    MajorityVote,
    NeverEval,
    NeverNormalised,
    NoisyInput,
    NoisyLogits,
    OpaqueJpeg,
    Purifier,
    Quantised,
    Ripple,
    RunningStatistics,
    Saturated,
    Sigmoid,
    Softmax,
    SquareRoot,
    Stage,
    Steps,
)
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.zoo.lenet import LeNet5

EPS = {
    "lenet-mnist": 0.1,
    "lenet-mnist-pgd": 0.3,
    "lenet-mnist-noise": 0.1,
}  # at which the honest network is worth something


@dataclass(frozen=True)
class Exhibit:
    """One fault.

    Args:
        name, fault: what it is called, and what is wrong in a sentence.
        base: the honest network of the zoo it is built into, which has the true figure.
        build: puts the fault into it.
        fires: the checks that must see it.
        related: checks that may fire too, since the fault has that consequence.
        labels: what is done to the labels.
        answered: whether an attack can answer the fault, and so bring the figure down to the true one.
        sound: the same network without the fault, where that is not the base.
    """

    name: str
    fault: str
    base: str
    build: Callable[[nn.Module], nn.Module]
    fires: frozenset[str]
    related: frozenset[str] = frozenset()
    labels: Callable[[Tensor], Tensor] = lambda y: y
    answered: bool = True
    sound: Callable[[nn.Module], nn.Module] | None = None

    def net(self) -> nn.Module:
        return self.build(honest(self.base)).eval()


def honest(name: str) -> LeNet5:
    net: LeNet5 = load_model(name, device="cpu", precision="fp32").net
    return net


@cache
def digits(count: int) -> tuple[Tensor, Tensor]:
    """The first held-out digits, the classes in turn: x [count, 1, 28, 28] and y."""
    model = load_model("lenet-mnist", device="cpu")
    batch = next(load_data("mnist-samples").batches(model, count, count))
    return batch.x, batch.y


def _exhibit(
    name: str,
    fault: str,
    build: Callable[[nn.Module], nn.Module],
    fires: str,
    related: str = "",
    base: str = "lenet-mnist",
    labels: Callable[[Tensor], Tensor] = lambda y: y,
    answered: bool = True,
    sound: Callable[[nn.Module], nn.Module] | None = None,
) -> Exhibit:
    checks = frozenset(fires.split()), frozenset(related.split())
    return Exhibit(name, fault, base, build, *checks, labels, answered, sound)


def shuffled(y: Tensor) -> Tensor:
    return y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).to(y.device)]


PGD_TRAINED = "lenet-mnist-pgd"

MUSEUM = (
    _exhibit("saturated", "logits times 1000", Saturated, "saturated"),
    _exhibit("faint", "logits divided by 10,000", Faint, "other-loss"),
    _exhibit("softmax", "probabilities in place of logits", Softmax, "probabilities"),
    _exhibit("sigmoid", "a sigmoid of each logit", Sigmoid, "probabilities"),
    _exhibit("cold", "a softmax at temperature 1e-3", Cold, "probabilities gradient-zero"),
    _exhibit(
        "quantised", "pixels rounded to twentieths", Quantised, "gradient-zero step-stage", "gradient-wrong leaps"
    ),
    _exhibit("steps", "activations in steps", Steps, "gradient-zero step-stage", "gradient-wrong leaps", PGD_TRAINED),
    _exhibit("k-winners", "the largest activations alone", KWinners, "leaps", "unstable gradient-wrong step-stage"),
    _exhibit("ripple", "a fast wave over the logits", Ripple, "unstable"),
    _exhibit("detached", "the gradient of a decoy", Detached, "gradient-wrong", base=PGD_TRAINED),
    _exhibit("flipped", "the gradient's sign turned round", Flipped, "gradient-wrong"),
    _exhibit("square-root", "a square root at 0", SquareRoot, "gradient-nan"),
    _exhibit("noisy-logits", "noise on the logits", NoisyLogits, "randomised"),
    _exhibit("noisy-input", "noise on the pixels", NoisyInput, "randomised"),
    _exhibit("dropout", "dropout while it is tested", Dropout, "randomised"),
    _exhibit("never-eval", "dropout that eval() does not reach", NeverEval, "training-mode randomised"),
    _exhibit(
        "batch-statistics",
        "batch norm without running statistics",
        BatchStatistics,
        "batch-dependent",
        sound=lambda net: RunningStatistics(net, digits(31)[0]),
    ),
    _exhibit("adapting", "a brightness learnt from queries", Adapting, "state-changes", "randomised batch-dependent"),
    _exhibit("jpeg", "a JPEG stage with a gradient of 0", Jpeg, "gradient-zero step-stage", "gradient-wrong leaps"),
    _exhibit("opaque-jpeg", "a JPEG stage outside autograd", OpaqueJpeg, "gradient-unavailable step-stage", "leaps"),
    _exhibit(
        "majority", "a majority vote over random copies", MajorityVote, "randomised gradient-zero", "step-stage leaps"
    ),
    _exhibit(
        "purifier",
        "an optimisation in the forward pass",
        Purifier,
        "optimises-inside gradient-zero",
        "gradient-wrong",
        PGD_TRAINED,
    ),
    _exhibit(
        "never-normalised",
        "a normalisation that was forgotten",
        NeverNormalised,
        "wrong-range",
        "chance",
        answered=False,
    ),
    _exhibit("divided-twice", "pixels divided by 255 twice", DividedTwice, "wrong-range", "chance", answered=False),
    _exhibit(
        "permuted",
        "labels in another order",
        Stage,
        "labels-permuted chance",
        labels=lambda y: (y + 1) % 10,
        answered=False,
    ),
    _exhibit("shuffled", "labels at random", Stage, "chance", labels=shuffled, answered=False),
)
