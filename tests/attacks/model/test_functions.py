"""Plain functions as models: logits, probabilities or labels, as tensors or arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robustkit.attacks import APGD, FAB, LBFGS, NES, PGD, CarliniWagner, Classifier, DeepFool, SimBA, Spatial, Square


def answers(trained, kind: str):
    def function(x: Tensor) -> np.ndarray:
        assert not x.requires_grad
        with torch.no_grad():
            logits = trained.net(x)
        out = {"logits": logits, "probabilities": logits.softmax(1), "labels": logits.argmax(1)}[kind]
        return out.numpy()

    return function


@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
def test_a_function_is_asked_like_a_network(trained, kind: str) -> None:
    model = Classifier(answers(trained, kind), outputs=kind, classes=5)
    logits = model.logits(trained.x)
    assert logits.dtype == torch.float32
    assert torch.equal(logits.argmax(1), trained.net(trained.x).argmax(1))
    assert model.forwards == len(trained.x)
    assert model.access == ("labels" if kind == "labels" else "scores")
    if kind == "probabilities":
        assert torch.allclose(logits, trained.net(trained.x).log_softmax(1), atol=1e-4)


def test_probabilities_of_a_network_keep_their_gradient(trained) -> None:
    net = torch.nn.Sequential(trained.net, torch.nn.Softmax(1))
    model = Classifier(net, outputs="probabilities")
    assert model.access == "gradient"
    adv = PGD(eps=0.25, steps=20)(model, trained.x, trained.y)
    assert float((trained.net(adv).argmax(1) != trained.y).float().mean()) > 0.8


@pytest.mark.parametrize("attack", [PGD(), APGD(), LBFGS()])
@pytest.mark.parametrize("kind", ["logits", "labels"])
def test_attacks_that_need_gradients_refuse_it_in_one_line(trained, attack, kind: str) -> None:
    model = Classifier(answers(trained, kind), outputs=kind, classes=5)
    with pytest.raises(ValueError, match=f"{attack.title} needs gradients, this model gives") as caught:
        attack(model, trained.x, trained.y)
    assert "\n" not in str(caught.value)
    assert model.forwards == 0


@pytest.mark.parametrize(
    ("outputs", "answer", "pattern"),
    [
        ("labels", torch.zeros(64, 5), "labels, are needed"),
        ("labels", torch.full((64,), 5), "outside 0 to 4"),
        ("labels", torch.full((64,), -1), "outside 0 to 4"),
        ("probabilities", torch.randn(64, 5), "no probabilities"),
        ("probabilities", torch.zeros(64, dtype=torch.int64), "logits of shape"),
        ("logits", {"scores": 1}, "not a tensor"),
        ("logits", torch.zeros(3, 5), "logits of shape"),
    ],
)
def test_answers_that_are_not_what_was_said(outputs: str, answer, pattern: str, trained) -> None:
    model = Classifier(lambda x: answer, outputs=outputs, classes=5)
    with pytest.raises(ValueError, match=pattern):
        model.logits(trained.x)


def test_what_cannot_be_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="how many classes"):
        Classifier(lambda x: x, outputs="labels")
    with pytest.raises(ValueError, match="outputs is one of"):
        Classifier(lambda x: x, outputs="scores")
    with pytest.raises(ValueError, match="not type"):
        Classifier(torch.nn.Linear)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_answers_of_another_dtype_become_that_of_the_pictures(trained, dtype: str) -> None:
    """NumPy answers in float64 unless told otherwise."""
    model = Classifier(lambda x: answers(trained, "logits")(x).astype(dtype))
    assert model.logits(trained.x).dtype == torch.float32
    for attack in (
        Square(eps=0.2, queries=30),
        NES(eps=0.2, queries=30),
        SimBA(queries=30),
        Spatial(angles=3, shifts=1),
    ):
        assert attack(model, trained.x, trained.y).dtype == torch.float32

    class Double(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return trained.net(x).double()

    for attack in (PGD(eps=0.2, steps=3), DeepFool(steps=3), FAB(steps=3), CarliniWagner(steps=5, searches=2)):
        assert attack(Double(), trained.x, trained.y).dtype == torch.float32
