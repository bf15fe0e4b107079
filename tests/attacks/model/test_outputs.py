"""Answers in every form that networks give them, and threads that take turns."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import GoogLeNetOutputs
from transformers.modeling_outputs import ImageClassifierOutput

from robustkit.attacks import PGD, Classifier

X = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Answers(nn.Module):
    """Five classes of 3×4×4 pictures; `form` shapes the answer."""

    def __init__(self, form: Callable[[Tensor], object], classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head, self.form = nn.Sequential(nn.Flatten(), nn.Linear(48, classes)), form

    def forward(self, x: Tensor) -> object:
        return self.form(self.head(x))


@dataclass
class Scored:
    features: Tensor
    scores: Tensor


def features(z: Tensor) -> Tensor:
    return torch.cat([z, z], 1)


@pytest.mark.parametrize(
    "form",
    [
        lambda z: {"logits": z},
        lambda z: {"features": features(z), "out": z, "aux": 2 * z},
        lambda z: ImageClassifierOutput(logits=z, hidden_states=(features(z),)),
        lambda z: GoogLeNetOutputs(z, 2 * z, 3 * z),
        lambda z: Scored(features(z), z),
        lambda z: (z,),
        lambda z: [z],
        lambda z: (features(z)[:, :, None, None], z),
        lambda z: (z.argmax(1), z),
    ],
)
def test_the_logits_are_taken_where_they_are_certain(form: Callable[[Tensor], object]) -> None:
    plain, other = Classifier(Answers(lambda z: z)), Classifier(Answers(form))
    assert torch.equal(other.logits(X), plain.logits(X))
    for ours, theirs in zip(*(m.gradient(X, lambda z: z[:, 1] ** 2) for m in (other, plain)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "form",
    [
        lambda z: (features(z), z),
        lambda z: {"features": features(z)},
        lambda z: {"features": features(z), "classes": z},
        lambda z: (z, z),
        lambda z: (),
        lambda z: "five",
    ],
)
def test_where_they_are_not_certain_it_is_refused(form: Callable[[Tensor], object]) -> None:
    with pytest.raises(ValueError, match=r"returned a \w+.*not a tensor of logits"):
        Classifier(Answers(form)).logits(X)


def test_the_number_of_classes_makes_it_certain() -> None:
    net = Answers(lambda z: (features(z), z))
    assert torch.equal(Classifier(net, classes=5).logits(X), net.head(X))


def test_a_sigmoid_head_is_undone() -> None:
    logits = Classifier(Answers(lambda z: z))
    head = Classifier(Answers(torch.sigmoid), outputs="sigmoid")
    torch.testing.assert_close(head.logits(X), logits.logits(X), rtol=1e-4, atol=1e-5)
    ours, theirs = (m.gradient(X, lambda z: torch.logsumexp(z, 1) - z[:, 2])[2] for m in (head, logits))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    sure = Classifier(Answers(lambda z: torch.sigmoid(60 * z)), outputs="sigmoid").logits(X)
    assert torch.isfinite(sure).all()
    with pytest.raises(ValueError, match="which no sigmoid returns: say outputs='logits'"):
        Classifier(Answers(lambda z: z), outputs="sigmoid").logits(X)
    with pytest.raises(ValueError, match=r"no probabilities.*outputs='sigmoid'"):
        Classifier(Answers(torch.sigmoid), outputs="probabilities").logits(X)


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_a_single_number_is_the_second_of_two_classes(shape: tuple[int, ...]) -> None:
    net = Answers(lambda z: z, classes=1)
    z = net.head(X)[:, 0]
    logit = Classifier(Answers(lambda z: z.reshape(shape), classes=1), classes=2)
    torch.testing.assert_close(logit.logits(X), torch.stack([torch.zeros_like(z), z], 1))
    for kind in ("sigmoid", "probabilities"):
        head = Classifier(Answers(lambda z: torch.sigmoid(z).reshape(shape), classes=1), outputs=kind, classes=2)
        torch.testing.assert_close(head.logits(X).softmax(1)[:, 1], torch.sigmoid(z))
    with pytest.raises(ValueError, match="at least two classes, or classes=2 and outputs="):
        Classifier(net).logits(X)


class Around(nn.Module):
    """A defence of the user's around a model that was loaded."""

    def __init__(self, model: Classifier, ask: str) -> None:
        super().__init__()
        self.model, self.ask = model, ask

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model, self.ask)(x.flip(-1))


def test_logits_inside_a_module_of_the_users_are_differentiable() -> None:
    inner = Classifier(Answers(lambda z: z), mean=0.5, std=0.25)
    around, graph = (Classifier(Around(inner, ask)) for ask in ("logits", "graph"))
    ours, theirs = (m.gradient(X, lambda z: z[:, 1] ** 2)[2] for m in (around, graph))
    assert ours.abs().max() > 0
    assert torch.equal(ours, theirs)
    before = inner.backwards
    around.gradient(X, lambda z: z[:, 1])
    assert inner.backwards == before + len(X)
    assert not around.logits(X).requires_grad
    assert not inner.logits(X).requires_grad
    with torch.no_grad():
        assert not inner.logits(X.clone().requires_grad_()).requires_grad


class Slow(nn.Module):
    """A network that notices whether its weights are in the graph, or its mode is changed, while it is asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.conv, self.head, self.seen = nn.Conv2d(3, 8, 3), nn.Linear(32, 5), []

    def forward(self, x: Tensor) -> Tensor:
        z = torch.relu(self.conv(x))
        threading.Event().wait(0.001)
        self.seen.append((self.training, self.conv.weight.requires_grad))
        return self.head(nn.functional.dropout(z.flatten(1), 0.5, self.training))


def test_two_threads_on_one_network_do_not_disturb_each_other() -> None:
    net = Slow().train()
    y = net.head(torch.relu(net.conv(X)).flatten(1)).argmax(1)
    attack = PGD(eps=0.1, steps=12, restarts=1, early_stop=False)
    alone = [attack(Classifier(copy.deepcopy(net)), X, y, seed=seed) for seed in range(4)]
    shared, together = Classifier(net), {}

    def run(seed: int) -> None:
        # Two of the threads share a classifier as well.
        together[seed] = attack(shared if seed < 2 else Classifier(net), X, y, seed=seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(net.seen) == {(False, False)}
    for seed in range(4):
        assert torch.equal(together[seed], alone[seed])
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_threads_that_wait_for_each_other_are_told() -> None:
    nets, errors, meet = [Answers(lambda z: z), Answers(lambda z: z)], [], threading.Barrier(2, timeout=60)

    def run(first: int) -> None:
        with Classifier(nets[first]).frozen():
            meet.wait()
            try:
                Classifier(nets[1 - first]).logits(X)
            except RuntimeError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(errors) == 1
    assert "one after the other" in errors[0]
