"""Parameters that do not go with the model, the pictures or a target are refused before the model is asked anything."""

from __future__ import annotations

import dataclasses
import inspect
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import foolbox
import pytest
import torch
from attack_models import Counting, conv_net, linear
from torch import Tensor, nn

from robustkit.attacks import (
    APGD,
    EAD,
    FAB,
    FGSM,
    LBFGS,
    NES,
    PGD,
    Attack,
    AutoAttack,
    Classifier,
    DeepFool,
    Foolbox,
    HopSkipJump,
    Patch,
    SimBA,
    Spatial,
)
from robustkit.attacks.foolbox_bridge.attack import foolbox_attack

CLASSES, SHAPE = 5, (1, 8, 8)


def model(classes: int = CLASSES) -> tuple[Classifier, Counting]:
    counting = Counting(conv_net(classes))
    return Classifier(counting, labels=[str(number) for number in range(classes)]), counting


# What an attack is asked to do


REFUSED: dict[str, tuple[Attack, int, bool, str]] = {
    "more targets than classes": (PGD(targets=10_000), 5, False, "PGD: targets=10000.*5 classes: give at most 4"),
    "as many targets as classes": (APGD(targets=5), 5, False, "APGD: targets=5.*at most 4"),
    "targets of FAB": (FAB(targets=5), 5, False, "FAB: targets=5.*at most 4"),
    "targets of EAD": (EAD(targets=12), 5, False, "EAD: targets=12.*at most 4"),
    "targets and a target": (PGD(targets=3), 5, True, "PGD: targets=3 and a target both say.*give one"),
    "targets of FAB and a target": (FAB(targets=2), 5, True, "FAB: targets=2 and a target"),
    "ratio of two classes": (FGSM(loss="dlr"), 2, False, "dlr needs 3 classes, the model has 2"),
    "ratio of three with a target": (SimBA(loss="dlr"), 3, True, "dlr needs 4 classes with a target"),
    "ratio of three with targets": (PGD(loss="dlr", targets=2), 3, False, "dlr needs 4 classes with a target"),
    "patch towards no class": (Patch(towards=99), 5, False, "towards=99 is no class: the model has 5"),
    "patch towards and a target": (Patch(towards=3), 5, True, "towards=3 and a target both say"),
    "blur wider than the picture": (
        Foolbox("GaussianBlurAttack", max_sigma=1e9),
        5,
        False,
        "max_sigma=1000000000.0 is",
    ),
    "no targets": (Foolbox("FGSM"), 5, True, "^foolbox FGSM takes no targets$"),
    "no targets at the start": (
        Foolbox("BoundaryAttack", init_attack="NewtonFoolAttack"),
        5,
        True,
        "NewtonFoolAttack takes no targets",
    ),
}


@pytest.mark.parametrize(("attack", "classes", "targeted", "says"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_by_name_and_without_a_query(attack: Attack, classes: int, targeted: bool, says: str) -> None:
    subject, counting = model(classes)
    x, y = torch.rand(3, *SHAPE), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=says) as caught:
        attack.check_task(classes, SHAPE, targeted)
    with pytest.raises(ValueError, match=says):
        attack(subject, x, y, target=y + 1 if targeted else None)
    assert counting.forwards == 0
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attack", "shape", "says"),
    [
        (Patch(share=0.4), (1, 4, 16), "wider than a picture of 16x4 pixels"),
        (Patch(), (16,), r"needs pictures \[B, C, H, W\]"),
        (Spatial(), (16,), "needs pictures"),
        (Foolbox("SpatialAttack"), (16,), "needs pictures"),
        (Foolbox("GaussianBlurAttack"), (16,), "needs pictures"),
        (Foolbox("GenAttack", reduced_dims=(2, 2)), (16,), "needs pictures"),
        (Foolbox("BoundaryAttack", init_attack="GaussianBlurAttack"), (16,), "needs pictures"),
    ],
    ids=lambda each: each.name if isinstance(each, Attack) else None,
)
def test_pictures_of_another_shape_are_refused(attack: Attack, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        attack.check_task(2, shape, False)


@pytest.mark.parametrize(
    "attack",
    [FAB(), EAD(), DeepFool(), LBFGS(), AutoAttack(), AutoAttack(version="plus"), APGD(loss="margin"), Patch()],
    ids=lambda attack: attack.name,
)
@pytest.mark.parametrize("targeted", [False, True])
def test_defaults_bow_to_a_model_of_few_classes(attack: Attack, targeted: bool) -> None:
    attack.check_task(2, SHAPE, targeted)
    attack.check_task(None, SHAPE, targeted)


def test_the_start_of_an_attack_must_make_do_with_the_model_too() -> None:
    labels = Classifier(lambda x: x.flatten(1).argmax(1), outputs="labels", classes=64)
    Foolbox("BoundaryAttack").check_access(labels)
    with pytest.raises(ValueError, match="foolbox DDNAttack needs gradients"):
        Foolbox("BoundaryAttack", init_attack="DDNAttack").check_access(labels)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: NES(samples=51, queries=10), "51 samples needs 53 queries, there are 10: give more queries or fewer"),
        (lambda: NES(samples=9, queries=10), "needs 11 queries"),
        (lambda: HopSkipJump(probes=40, queries=50), "40 probes needs 58 queries, there are 50"),
    ],
)
def test_fewer_queries_than_an_estimate_needs_are_refused(make: Callable[[], Attack], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_default_probes_bow_to_a_small_budget() -> None:
    net, x = Counting(linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))), torch.tensor([[0.9, 0.1]])
    for attack in (NES(queries=10, eps=0.01), NES(queries=10, samples=8, eps=0.01), HopSkipJump(queries=30)):
        net.forwards = 0
        attack(net, x, torch.tensor([0]))
        assert net.forwards == attack.parameters()["queries"]


# Those of foolbox


NAMES = [
    source.__name__
    for source in vars(foolbox.attacks).values()
    if inspect.isclass(source)
    and issubclass(source, foolbox.attacks.Attack)
    and not inspect.isabstract(source)
    and "BrendelBethge" not in source.__name__  # numba takes a minute to compile them
]
FEW = {"steps": 3, "repeats": 2, "directions": 20, "binary_search_steps": 2, "random_steps": 3, "population": 3}
FEWER = {"initial_gradient_eval_steps": 4, "max_gradient_eval_steps": 8, "num_rotations": 2, "num_translations": 2}
VALUES = (0, 1, -1, 0.0, 0.5, 1.0, 1e9, float("inf"), "x", None, True, (1, 1))


class Binary(nn.Module):
    """What the binarization attack is for."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x >= 0.5).to(x))


@pytest.fixture
def limited() -> Iterator[None]:
    """A parameter with which an attack never ends is one that should have been refused."""

    def late(_: int, __: FrameType | None) -> None:
        raise RuntimeError("it takes for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_what_foolbox_would_stumble_over_is_refused_before_it_runs(name: str) -> None:
    torch.manual_seed(0)
    net = linear(torch.randn(3, 64), torch.zeros(3))
    counting = Counting(Binary(net) if name == "BinarizationRefinementAttack" else net)
    x = torch.rand(2, *SHAPE)
    y = counting(x).argmax(1)
    fields: list[Any] = [field for field in dataclasses.fields(foolbox_attack(name)) if field.init]
    few = {field.name: (FEW | FEWER)[field.name] for field in fields if field.name in FEW | FEWER}
    for parameter in (field.name for field in fields):
        for value in VALUES:
            counting.forwards = 0
            try:
                attack = Foolbox(name, **few | {parameter: value})
                attack.check_task(3, SHAPE, False)
            except ValueError as error:
                assert "\n" not in str(error), (parameter, value)  # noqa: PT017
                assert counting.forwards == 0
                continue
            try:
                points = attack(Classifier(counting), x, y)
            except Exception as error:
                if parameter == "threshold" and "does not match what is done by the model" in str(error):
                    continue  # which its answers alone show
                raise AssertionError(f"{parameter}={value!r} is taken and then fails") from error
            assert points.shape == x.shape
