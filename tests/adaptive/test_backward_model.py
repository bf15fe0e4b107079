"""Backward models: soft thresholds, the identity in place of a stage, bridges to the first and from the last layer.

The faults here sit in networks without modules inside, where only the functions that are called tell what is what.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from museum import digits, honest
from museum_faults import Stage
from torch import Tensor, nn
from torch.nn import functional as F

from robustkit import audit
from robustkit.adaptive.backward_model import FIRST, LAST, BackwardModel, SurrogateGradient, copies_of
from robustkit.adaptive.gradient_modes import OuterLayers, SoftThresholds
from robustkit.attacks import PGD, AutoAttack, Classifier

ROWS = 50
EPS = 0.2


@cache
def true_figure() -> float:
    x, y = digits(ROWS)
    model = Classifier(honest("lenet-mnist"))
    return float((model.logits(AutoAttack(eps=EPS)(model, x, y)).argmax(1) == y).float().mean())


class Functional(nn.Module):
    """LeNet-5 as functions of its weights: no module takes the picture or returns the logits."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in honest("lenet-mnist").state_dict().items():
            self.register_buffer(name.replace(".", "_"), value)

    def logits(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.conv2d(x, self.conv1_weight, self.conv1_bias, padding=2).relu(), 2)
        x = F.max_pool2d(F.conv2d(x, self.conv2_weight, self.conv2_bias).relu(), 2)
        x = F.linear(x.flatten(1), self.fc1_weight, self.fc1_bias).relu()
        return F.linear(F.linear(x, self.fc2_weight, self.fc2_bias).relu(), self.fc3_weight, self.fc3_bias)


class Hooked(Functional):
    """A hook takes the gradient away."""

    def forward(self, x: Tensor) -> Tensor:
        x = 1 * x
        if x.requires_grad:
            x.register_hook(torch.zeros_like)
        return self.logits(x)


class NoGraph(Functional):
    """The network runs without a graph; what has one is of no weight."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits = self.logits(x)
        return logits + 1e-6 * x.flatten(1)[:, :10]


class Whole(Functional):
    """Pixels as whole numbers of NumPy."""

    def forward(self, x: Tensor) -> Tensor:
        levels = (255 * x.detach().cpu().numpy()).round().astype("uint8")
        return self.logits(torch.from_numpy(levels).to(x) / 255)


class Chosen(Functional):
    """The class alone, as a vector."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        return F.one_hot(logits.argmax(1), 10).to(x) + 0 * logits


@pytest.mark.parametrize("kind", [Hooked, NoGraph, Whole, Chosen])
def test_a_network_without_modules_is_answered_too(kind: type[nn.Module]) -> None:
    record = audit(kind().eval(), digits(ROWS), [PGD(steps=20)], [EPS], adapt=True)
    assert record.adapted is not None
    assert record.verdict == "do not trust"
    assert record.adapted.after[0].robust.value == pytest.approx(true_figure(), abs=0.02)
    first = record.adapted.answers[0]
    assert first.attack is not None
    assert ("logits from the last layer" if kind is Chosen else "before the first layer bridged") in first.what


@pytest.mark.parametrize("kind", [Hooked, NoGraph, Whole])
def test_the_first_layer_gets_the_stage_s_value_and_the_gradient_of_the_identity(kind: type[Functional]) -> None:
    net, (x, _) = kind().eval(), digits(4)
    x = (255 * x).round() / 255
    backward = Classifier(BackwardModel(net, SurrogateGradient(entry=FIRST, exit=LAST)))
    logits, _, slope = backward.gradient(x, lambda out: out[:, 3])
    inner = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net.logits(inner)[:, 3].sum(), inner)
    torch.testing.assert_close(logits, net.logits(x))
    torch.testing.assert_close(slope, expected)


def test_pictures_that_need_no_gradient_get_no_graph() -> None:
    class Told(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return F.linear(x.flatten(1), torch.ones(3, 4))

    x = torch.rand(2, 1, 2, 2)
    with OuterLayers(x) as layers:
        out = Classifier(Told()).logits(x)
    assert layers.last is not None
    assert not out.requires_grad


def test_a_mask_of_infinite_values_stays_hard() -> None:
    x = torch.tensor([[0.2, 0.5, 0.8]], requires_grad=True)
    with SoftThresholds() as mode:
        out = x.masked_fill(x < 0.4, -torch.inf), torch.where(x > 0.4, x, torch.inf)
    assert mode.met == 0
    for each, empty in zip(out, (-torch.inf, torch.inf), strict=True):
        torch.testing.assert_close(each, torch.tensor([[empty, 0.5, 0.8]]))
    assert torch.equal(torch.autograd.grad(out[0].softmax(1)[0, 1], x)[0].isnan(), torch.zeros(1, 3).bool())


def test_activations_made_of_comparisons_are_answered() -> None:
    class Levels(Stage):
        """The first activations in steps of a tenth, each of them a comparison."""

        def forward(self, x: Tensor) -> Tensor:
            net, x = self.net, self.net.conv1(x)
            x = sum((x >= step / 10 - 0.05).to(x.dtype) / 10 for step in range(1, 60)) + 0 * x
            x = F.max_pool2d(net.conv2(F.max_pool2d(x, 2)).relu(), 2)
            return net.fc3(net.fc2(net.fc1(x.flatten(1)).relu()).relu())

    record = audit(Levels(honest("lenet-mnist")).eval(), digits(ROWS), [PGD(steps=20)], [0.2], adapt=True)
    assert record.adapted is not None
    assert record.adapted.before[0].robust.value > 0.9
    assert record.adapted.after[0].robust.value == pytest.approx(true_figure(), abs=0.02)
    assert "thresholds soft" in record.adapted.answers[0].what


def test_the_identity_bridges_a_stage_with_the_values_of_the_stage() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.inner((x * 3).round() / 3)

    net, x = Net().eval(), torch.rand(5, 1, 3, 3)
    backward = Classifier(BackwardModel(net, SurrogateGradient(entry="inner", exit="inner")))
    logits, _, slope = backward.gradient(x, lambda out: out[:, 2])
    torch.testing.assert_close(logits, net(x))
    torch.testing.assert_close(slope, net.inner[1].weight[2].detach().view(1, 1, 3, 3).expand(5, -1, -1, -1))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_copies_are_found_in_either_order() -> None:
    x = torch.rand(3, 1, 2, 2)
    assert torch.equal(copies_of(x, x.repeat(2, 1, 1, 1)), x.repeat(2, 1, 1, 1))
    assert torch.equal(copies_of(x, x.repeat_interleave(2, 0)), x.repeat_interleave(2, 0))


def spelt(x: Tensor, way: str) -> Tensor:
    """x where it is 0.5 or more, and 0 elsewhere."""
    match way:
        case "where":
            return torch.where(x >= 0.5, x, 0)
        case "method":
            return x.where(x >= 0.5, torch.zeros(()))
        case "factor":
            return (x >= 0.5) * x
        case "number":
            return x * (x >= 0.5).float()
        case "type":
            return x * (x >= 0.5).to(x.dtype)
        case "not":
            return torch.where(~(x < 0.5), x, 0)
        case _:
            return x.masked_fill(x < 0.5, 0)


@pytest.mark.parametrize("way", ["where", "method", "factor", "number", "type", "not", "mask"])
def test_a_threshold_is_soft_however_it_is_spelt(way: str) -> None:
    x = torch.linspace(0.45, 0.55, 11)[None].requires_grad_()
    with SoftThresholds() as mode:
        soft = spelt(x, way)
    share = ((x - 0.5) / (0.05 * x.std(1, unbiased=False, keepdim=True))).sigmoid()
    torch.testing.assert_close(soft, share * x)
    (slope,) = torch.autograd.grad(soft[0, 5], x)
    assert float(slope[0, 5]) > 10
    assert mode.met == 1
    torch.testing.assert_close(spelt(x, way), torch.where(x >= 0.5, x, 0))


def test_what_compares_no_numbers_of_a_row_is_left_as_it_is() -> None:
    x, whole = torch.rand(3, 4), torch.arange(12).view(3, 4)
    with SoftThresholds() as mode:
        out = torch.where(whole > 5, x, 0), x * (whole > 5), x * (whole[0] > 1), torch.where(x == 0, x, 1), x >= 0.5
        assert out[-1].sum() == (x >= 0.5).int().sum()
    torch.testing.assert_close(out[0], x * (whole > 5).float())
    assert out[-1].dtype is torch.bool
    assert mode.met == 0


def test_a_torchscript_program_is_answered_too(tmp_path: Path) -> None:
    class Levels(Stage):
        def enter(self, x: Tensor) -> Tensor:
            return (20 * x).round() / 20

    file = tmp_path / "levels.pt"
    torch.jit.trace(Levels(honest("lenet-mnist")).eval(), digits(2)[0]).save(file)
    record = audit(torch.jit.load(file), digits(12), [PGD(steps=10)], [EPS], adapt=True)
    assert record.adapted is not None
    assert record.status == "complete"
    assert record.adapted.after[0].robust.count < record.adapted.before[0].robust.count
