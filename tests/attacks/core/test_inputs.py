"""What is refused, with a ValueError of one line that says which input it was."""

from __future__ import annotations

import doctest
import importlib
import math
import pkgutil
from collections.abc import Callable

import pytest
import torch
from attack_models import conv_net
from torch import Tensor, nn

import robustkit.attacks
from robustkit.attacks import APGD, BIM, FGSM, LBFGS, MIFGSM, PGD, Attack, Classifier, Transfer
from robustkit.attacks.registry import ATTACKS

X, Y = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])


def changed(**at: float) -> Tensor:
    x = X.clone()
    x[1, 2, 3, 4] = next(iter(at.values()))
    return x


def refused(pattern: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        call()
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=2), LBFGS(steps=2, searches=1)], ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("pattern", "inputs"),
    [
        (r"x must lie in \[0,1\]", {"x": changed(v=1.001)}),
        (r"x must lie in \[0,1\]", {"x": changed(v=-0.001)}),
        (r"x must lie in \[0,1\]", {"x": changed(v=math.inf)}),
        ("x holds NaN", {"x": changed(v=math.nan)}),
        ("x must be float32 or float64, got torch.uint8", {"x": (X * 255).byte()}),
        ("x must be float32 or float64, got torch.float16", {"x": X.half()}),
        ("x is torch.float64 but the model's weights are torch.float32", {"x": X.double()}),
        ("x must have shape", {"x": X[:, 0]}),
        ("x must have shape", {"x": X[None]}),
        ("x has an empty axis", {"x": X[:, :, :0]}),
        ("must be tensors", {"x": X.numpy()}),
        ("must be tensors", {"y": [0, 1, 2, 3]}),
        (r"y must be int64 of shape \[4\]", {"y": Y[:3]}),
        (r"y must be int64 of shape \[4\]", {"y": Y[:, None]}),
        (r"y must be int64 of shape \[4\].*int32", {"y": Y.int()}),
        (r"y must be int64 of shape \[4\].*float32", {"y": Y.float()}),
        (r"y must be int64 of shape \[4\].*bool", {"y": Y.bool()}),
        ("class 5 asked of a model that has 5 classes", {"y": Y + 2}),
        ("y holds a negative number", {"y": Y - 1}),
        ("target equals the label in 1 rows, first in row 2", {"target": torch.tensor([1, 2, 2, 4])}),
        ("class 9 asked of a model that has 5 classes", {"target": torch.tensor([9, 2, 3, 4])}),
        ("target holds a negative", {"target": torch.tensor([-1, 2, 3, 4])}),
        (r"target must be int64 of shape \[4\]", {"target": torch.tensor([1])}),
        (r"target must be int64 of shape \[4\]", {"target": 3}),
        (r"ids must be int64 of shape \[4\]", {"ids": torch.arange(3)}),
        (r"ids must be int64 of shape \[4\]", {"ids": torch.arange(4).float()}),
        ("ids holds a negative", {"ids": torch.arange(4) - 1}),
        ("seed must be a whole number of at least 0", {"seed": -1}),
        ("seed must be a whole number", {"seed": 1.5}),
        ("seed must be a whole number", {"seed": True}),
        ("seed must be a whole number of at most 18446744073709551615", {"seed": 2**64}),
    ],
)
def test_bad_inputs_are_refused(attack: Attack, pattern: str, inputs: dict[str, object]) -> None:
    given = {"x": X, "y": Y, **inputs}
    refused(pattern, lambda: attack(conv_net(channels=3), given.pop("x"), given.pop("y"), **given))


@pytest.mark.parametrize("labels", [[2, 3, 4, 5], [0, 1, 2, 5], [10**6, 1, 1, 0]], ids=str)
def test_a_label_out_of_range_is_refused_when_a_target_is_given_too(labels: list[int]) -> None:
    y, target = torch.tensor(labels), torch.tensor([4, 0, 0, 1])
    refused("class .* asked of a model", lambda: FGSM()(conv_net(channels=3), X, y, target=target))


@pytest.mark.parametrize("kind", [FGSM, BIM, PGD, MIFGSM])
@pytest.mark.parametrize("eps", [0, -0.1, math.nan, math.inf, "0.1", None, True, torch.tensor(0.1)], ids=repr)
def test_a_wrong_eps_is_refused(kind: type[Attack], eps: object) -> None:
    refused("eps must be a positive number", lambda: kind(eps=eps))


@pytest.mark.parametrize("kind", [FGSM, BIM, PGD, MIFGSM])
def test_an_eps_in_255ths_is_refused_in_linf_alone(kind: type[Attack]) -> None:
    refused("at most 1 in linf", lambda: kind(eps=8))
    assert kind(eps=1).eps == 1
    assert kind(norm="l2", eps=8).eps == 8


@pytest.mark.parametrize(
    ("pattern", "make"),
    [
        ("norm is one of", lambda: FGSM(norm="l3")),
        ("norm is one of", lambda: PGD(norm=2)),
        ("norm is one of", lambda: BIM(norm=["l2"])),
        ("L-BFGS works in l2, not in 'linf'", lambda: LBFGS(norm="linf")),
        ("steps must be a whole number", lambda: PGD(steps=0)),
        ("steps must be a whole number of at most 2147483647", lambda: PGD(steps=10**21)),
        ("restarts must be a whole number of at most 2147483647", lambda: PGD(restarts=10**5000)),
        ("step_size must be a positive number", lambda: PGD(step_size=10**400)),
        ("step_size must be a positive number", lambda: PGD(step_size=math.inf)),
        ("steps must be a whole number", lambda: BIM(steps=2.5)),
        ("steps must be a whole number", lambda: MIFGSM(steps="3")),
        ("steps must be a whole number", lambda: LBFGS(steps=0)),
        ("searches must be a whole number", lambda: LBFGS(searches=0)),
        ("memory must be a whole number", lambda: LBFGS(memory=0)),
        ("candidates must be a whole number", lambda: LBFGS(candidates=True)),
        ("restarts must be a whole number", lambda: PGD(restarts=0)),
        ("restarts without random_start", lambda: PGD(restarts=2, random_start=False)),
        ("step_size must be a positive", lambda: PGD(step_size=-0.1)),
        ("step_size must be a positive", lambda: BIM(step_size=0)),
        ("step_size must be a positive", lambda: MIFGSM(step_size=math.nan)),
        ("step_size must be a positive", lambda: PGD(step_size=True)),
        ("decay must be", lambda: MIFGSM(decay=-1)),
        ("decay must be", lambda: MIFGSM(decay=math.nan)),
        ("wraps a torch.nn.Module or a function, not str", lambda: Classifier("resnet50")),
        ("FGSM needs gradients, this model gives logits", lambda: FGSM()(lambda x: x, X, Y)),
        ("std must be positive", lambda: Classifier(nn.Flatten(), std=(0.2, 0.0, 0.2))),
        ("mean needs one finite number", lambda: Classifier(nn.Flatten(), mean=(0.2, math.nan))),
        ("mean needs one finite number", lambda: Classifier(nn.Flatten(), mean=())),
        ("precision is one of fp32, bf16", lambda: Classifier(nn.Flatten(), precision="fp16")),
        ("2 channels, the pictures 3", lambda: Classifier(nn.Flatten(), mean=(0.5, 0.5)).logits(X)),
        ("5 classes, but 2 labels", lambda: Classifier(conv_net(channels=3), labels=["a", "b"]).logits(X)),
    ],
)
def test_wrong_settings_are_refused(pattern: str, make: Callable[[], object]) -> None:
    refused(pattern, make)


class Answers(nn.Module):
    """A model whose output is made from proper logits by a function."""

    def __init__(self, spoil: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.head, self.spoil = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), spoil

    def forward(self, x: Tensor) -> object:
        return self.spoil(self.head(x))


@pytest.mark.parametrize("attack", [FGSM(), LBFGS(steps=2, searches=1)], ids=lambda a: a.name)
@pytest.mark.parametrize(
    ("pattern", "spoil"),
    [
        (r"returned a tuple \(0: .*\), not a tensor", lambda out: (out, out)),
        (r"returned a dict \(features: .*\), not a tensor", lambda out: {"features": out}),
        (r"shape \(4,\)", lambda out: out[:, 0]),
        (r"shape \(4, 1\)", lambda out: out[:, :1]),
        (r"shape \(3, 5\) for 4 pictures", lambda out: out[:3]),
        (r"shape \(4, 5, 1\)", lambda out: out[..., None]),
        ("torch.int64", lambda out: out.long()),
        ("returned NaN", lambda out: out / 0 * 0),
        ("gives no gradient", lambda out: out.detach()),
    ],
)
def test_a_model_that_gives_no_logits_is_refused(attack: Attack, pattern: str, spoil: Callable[..., object]) -> None:
    refused(pattern, lambda: attack(Answers(spoil), X, Y))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_empty_batch_comes_back_empty(name: str) -> None:
    model = Classifier(conv_net(channels=3))
    adv = ATTACKS[name]()(model, X[:0], Y[:0], target=Y[:0], ids=Y[:0])
    assert adv.shape == (0, 3, 8, 8)
    assert model.forwards == 0


@pytest.mark.parametrize("name", ATTACKS)
def test_the_registry_and_the_classes_agree(name: str) -> None:
    kind = ATTACKS[name]
    assert kind.name == name
    assert issubclass(kind, Attack)
    assert kind.__name__ in robustkit.attacks.__all__
    assert kind.title
    assert kind.paper in kind.__doc__
    assert kind(**kind().parameters()) == kind()
    assert ("eps" in kind().parameters()) == (kind.ball and not kind.minimum_norm)


def test_every_attack_is_registered() -> None:
    found = {getattr(robustkit.attacks, name) for name in robustkit.attacks.__all__}
    kinds = {kind for kind in found if isinstance(kind, type) and issubclass(kind, Attack) and kind is not Attack}
    assert kinds == {*ATTACKS.values(), Transfer}  # which needs a model to make its points on


MODULES = [m.name for m in pkgutil.walk_packages(robustkit.attacks.__path__, "robustkit.attacks.")]


@pytest.mark.parametrize("module", ["robustkit.attacks", *MODULES])
def test_the_examples_in_the_docstrings_are_true(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_there_are_examples_to_run() -> None:
    assert len(MODULES) > 50
    for kind in ATTACKS.values():
        assert ">>>" in kind.__doc__


@pytest.mark.parametrize("kind", [BIM, PGD, MIFGSM, APGD])
@pytest.mark.parametrize("value", [1, "false", None])
def test_a_switch_is_true_or_false(kind, value) -> None:
    with pytest.raises(ValueError, match="early_stop is True or False"):
        kind(early_stop=value)
