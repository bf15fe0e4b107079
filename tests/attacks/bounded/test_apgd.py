"""APGD beside PGD, and beside the figures of the reference algorithm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit import load_data, load_model
from robustkit.attacks import APGD, PGD, Attack


@pytest.fixture(scope="module")
def digits():
    model = load_model("lenet-mnist-pgd", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 200, 200))
    return model, batch.x, batch.y


def robust(attack: Attack, digits) -> int:
    model, x, y = digits
    return int((model.logits(attack(model, x, y)).argmax(1) == y).sum())


# What torchattacks 3.5.1's APGD (norm, eps, steps=100, n_restarts=1, loss) leaves right of the same 200 digits.
@pytest.mark.parametrize(
    ("norm", "eps", "loss", "reference"),
    [("linf", 0.3, "ce", 148), ("linf", 0.3, "dlr", 150), ("linf", 0.35, "ce", 21), ("l2", 2.0, "ce", 111)],
)
def test_as_strong_as_the_reference(digits, norm: str, eps: float, loss: str, reference: int) -> None:
    assert robust(APGD(norm=norm, eps=eps, loss=loss), digits) <= reference + 2  # random starts differ


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 2.0), ("l1", 10.0)])
def test_stronger_than_pgd_at_the_same_number_of_gradients(digits, norm: str, eps: float) -> None:
    assert robust(APGD(norm=norm, eps=eps), digits) < robust(PGD(norm=norm, eps=eps, steps=100), digits)


def test_the_ratio_needs_three_classes_and_four_if_targeted() -> None:
    x, y = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="needs 3 classes"):
        APGD(loss="dlr")(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), x, y)
    with pytest.raises(ValueError, match="needs 4 classes"):
        APGD(loss="dlr")(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), x, y, target=1 - y)
    with pytest.raises(ValueError, match="loss is one of ce, margin, dlr"):
        APGD(loss="hinge")


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_the_ratio_does_not_care_about_the_scale_of_the_logits(digits, scale: float) -> None:
    model, x, y = digits

    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scale * model.net(x)

    attack = APGD(eps=0.3, steps=30, loss="dlr")
    adv = attack(Scaled(), x[:60], y[:60])
    plain = attack(model, x[:60], y[:60])
    right = [int((model.logits(points).argmax(1) == y[:60]).sum()) for points in (adv, plain)]
    assert abs(right[0] - right[1]) <= 2
