"""BPDA: a stage without a gradient hides the network from PGD, and no longer does."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from attack_models import Trained, wrong
from PIL import Image
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import BPDA, PGD, Classifier


def rounded(x: Tensor) -> Tensor:
    return (x * 7).round() / 7


def stepped(x: Tensor) -> Tensor:
    return (x > 0.5).to(x.dtype)


def jpeg(x: Tensor) -> Tensor:
    """By way of Pillow, one grey picture after the other."""
    out = []
    for picture in (x * 255).round().to(torch.uint8).numpy()[:, 0]:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=75)
        out.append(torch.from_numpy(np.array(Image.open(buffer))))
    return torch.stack(out)[:, None].to(x) / 255


def steep(x: Tensor) -> Tensor:
    return torch.sigmoid(12 * (x - 0.5))


@pytest.mark.parametrize("stage", [rounded, jpeg])
def test_it_uncovers_what_a_stage_without_gradient_hides(stage) -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 100, 100))
    x, y = batch.x, batch.y
    attack = PGD(eps=0.15, steps=20)

    def left(net: nn.Module, attacked: nn.Module) -> int:
        adv = attack(attacked, x, y)
        with torch.no_grad():
            return int((net(adv).argmax(1) == y).sum())

    undefended = left(model.net, model.net)
    honest = nn.Sequential(BPDA(stage), model.net)
    defended = left(honest, honest)
    assert defended <= undefended + 5  # of 200 digits: 21 undefended, 28 rounded, 27 as JPEG
    if stage is rounded:  # torch's gradient of rounding is 0: PGD stays at its random start
        blind = nn.Sequential(Function(stage), model.net)
        assert left(blind, blind) > defended + 50


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def test_a_stage_without_a_graph_can_be_attacked_at_all(trained: Trained) -> None:
    net, x, y = trained
    defended = nn.Sequential(Function(stepped), net)
    attack = PGD(eps=0.15, steps=20)
    with pytest.raises(ValueError, match="gives no gradient"):
        attack(defended, x, y)
    for backward in (None, steep):
        adv = attack(nn.Sequential(BPDA(stepped, backward), net), x, y)
        assert int(wrong(defended, adv, y).sum()) > 5 * int(wrong(defended, x, y).sum())


def test_forward_is_the_stage_and_backward_the_stand_in() -> None:
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    for backward, slope in ((None, torch.ones_like(x)), (steep, 12 * steep(x) * (1 - steep(x)))):
        out = BPDA(stepped, backward)(x)
        assert torch.equal(out, stepped(x))
        (gradient,) = torch.autograd.grad((out * weight).sum(), x)
        torch.testing.assert_close(gradient, weight * slope)


def test_without_a_graph_the_stand_in_is_not_asked() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError

    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    with torch.no_grad():
        assert torch.equal(BPDA(rounded, never)(x), rounded(x))
    assert torch.equal(BPDA(rounded, never)(x.detach()), rounded(x))


def test_modules_inside_are_part_of_the_network() -> None:
    stage, backward = nn.Linear(4, 4), nn.Linear(4, 4)
    net = nn.Sequential(BPDA(stage, backward), nn.Linear(4, 2)).double()
    assert stage.weight.dtype == backward.weight.dtype == torch.float64
    x = torch.rand(3, 4, dtype=torch.float64)
    before = [p.requires_grad for p in net.parameters()]
    adv = PGD(eps=0.1)(Classifier(net), x, torch.zeros(3, dtype=torch.int64))
    assert adv.shape == x.shape
    assert [p.requires_grad for p in net.parameters()] == before


def test_shapes_that_do_not_agree_are_refused() -> None:
    def smaller(x: Tensor) -> Tensor:
        return x[..., ::2]

    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    with pytest.raises(ValueError, match=r"returned shape \(2, 1, 4, 2\), its backward shape \(2, 1, 4, 4\)"):
        BPDA(smaller)(x)
    assert BPDA(smaller, smaller)(x).shape == (2, 1, 4, 2)
    with pytest.raises(ValueError, match="the stage of BPDA returned a ndarray, not a tensor"):
        BPDA(lambda points: points.numpy())(x)
    with pytest.raises(ValueError, match="its backward a int"):
        BPDA(rounded, lambda points: 3)(x)


@pytest.mark.parametrize(
    ("stage", "backward", "name"), [(3, None, "stage"), (rounded, "x", "backward"), (nn.ReLU, None, "stage")]
)
def test_what_is_no_function_is_refused(stage, backward, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} of BPDA is a function or a module"):
        BPDA(stage, backward)
