"""AutoAttack beside the published algorithm on the two LeNets of the zoo."""

from __future__ import annotations

import pytest

from robustkit import load_data, load_model
from robustkit.attacks import AutoAttack
from robustkit.attacks.geometry import norms

# Digits that the reference leaves right of the first so many of mnist-samples: torchattacks 3.5.1 on torch 2.14, its
# APGD(loss="ce"), APGDT, FAB(multi_targeted=True) with steps=100 and Square(n_queries=5000) one after the other by its
# MultiAttack, n_restarts=1, n_classes=10, seed=0. (Its own AutoAttack takes 10 steps instead of the paper's 100: on
# lenet-mnist at 0.1 it leaves 88 of 200 right where this cascade leaves 76.) Ours left 10, 34, 44 and 13; at 0.3
# of 200 digits, which takes minutes, ours left 144 and the reference 143.
REFERENCE = [
    ("lenet-mnist-pgd", "linf", 0.35, 200, 11),
    ("lenet-mnist", "linf", 0.1, 100, 34),
    ("lenet-mnist-pgd", "linf", 0.3, 60, 44),
    ("lenet-mnist-pgd", "l2", 2.0, 100, 16),
]


@pytest.mark.parametrize(("name", "norm", "eps", "samples", "reference"), REFERENCE)
def test_as_strong_as_the_reference(name: str, norm: str, eps: float, samples: int, reference: int) -> None:
    """Random starts differ, so give or take a row; three below in L2, where Square uses more of the ball."""
    model = load_model(name, device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, samples, samples))
    adv = AutoAttack(norm=norm, eps=eps)(model, batch.x, batch.y)
    assert float(norms.get(norm).size((adv - batch.x).double()).max()) <= eps + 1e-6
    left = int((model.logits(adv).argmax(1) == batch.y).sum())
    assert reference - (3 if norm == "l2" else 1) <= left <= reference + 1
