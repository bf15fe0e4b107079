"""HopSkipJump and the Boundary attack, on labels alone: the known distance of a plane, and foolbox's figures."""

from __future__ import annotations

import pytest
import torch
from attack_models import dual, plane
from torch import Tensor

from robustkit import load_data, load_model
from robustkit.attacks import Attack, Boundary, Classifier, HopSkipJump
from robustkit.attacks.geometry import norms as norms_module


def labelled(net: torch.nn.Module, classes: int = 2) -> Classifier:
    return Classifier(lambda x: net(x).detach().argmax(1), outputs="labels", classes=classes)


@pytest.mark.parametrize(("shape", "dtype"), [((16,), torch.float64), ((3, 5, 7), torch.float32)], ids=str)
@pytest.mark.parametrize(
    ("attack", "slack"),
    [
        (HopSkipJump(queries=2000), 1.06),
        (HopSkipJump(norm="linf", queries=2000), 1.12),
        (Boundary(queries=2000), 1.05),
    ],
    ids=["hopskipjump-l2", "hopskipjump-linf", "boundary"],
)
def test_the_distance_of_a_plane_is_found(attack: Attack, slack: float, shape: tuple[int, ...], dtype) -> None:
    p = plane(shape, 5, dtype, margin=0.3, middle=True)
    model = labelled(p.net)
    adv = attack(model, p.x, p.y)
    assert model.forwards == 5 * attack.queries
    found = norms_module.get(attack.norm).size((adv - p.x).double())
    least = p.margin / dual(p.w, attack.norm)
    assert float(found.min()) >= least * (1 - 1e-4)
    assert float(found.max()) <= slack * least
    assert bool((p.net(adv).argmax(1) != p.y).all())


@pytest.mark.parametrize("attack", [HopSkipJump(queries=150), Boundary(queries=150)], ids=["hsj", "boundary"])
def test_a_row_without_a_start_comes_back_unchanged(attack: Attack) -> None:
    x, y = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64)
    model = Classifier(lambda x: torch.zeros(len(x), dtype=torch.int64), outputs="labels", classes=3)
    assert torch.equal(attack(model, x, y), x)
    assert model.forwards == 3 * 150  # it goes on looking to the end
    assert torch.equal(attack(model, x, y, target=y + 1), x)


@pytest.mark.parametrize("attack", [HopSkipJump(queries=400), Boundary(queries=400)], ids=["hsj", "boundary"])
def test_a_target_is_reached_where_a_start_shows_it(attack: Attack) -> None:
    """Three classes by brightness: black, grey and white are the starts."""
    x = torch.full((2, 1, 4, 4), 0.5) + 0.02 * torch.rand(2, 1, 4, 4)
    mean = x.flatten(1).mean(1)

    def answer(x: Tensor) -> Tensor:
        level = x.flatten(1).mean(1)
        return (level > 0.3).long() + (level > 0.7).long()

    adv = attack(Classifier(answer, outputs="labels", classes=3), x, torch.ones(2).long(), target=torch.tensor([0, 2]))
    assert answer(adv).tolist() == [0, 2]
    least = 4 * torch.stack([mean[0] - 0.3, 0.7 - mean[1]])  # L2 distance of a plane of equal weights
    assert bool(((adv - x).flatten(1).norm(dim=1) <= 1.12 * least).all())


# Median distance of the first 50 digits of lenet-mnist; foolbox 3.3.4's HopSkipJumpAttack(constraint) and
# BoundaryAttack, both from the points that our own search for a start gives, have FIGURE after as many queries more.
@pytest.mark.parametrize(
    ("attack", "figure"),
    [
        (HopSkipJump(queries=300), 5.54),
        (HopSkipJump(norm="linf", queries=300), 0.242),
        (Boundary(queries=300), 6.70),
    ],
    ids=["hopskipjump-l2", "hopskipjump-linf", "boundary"],
)
def test_nearer_than_foolbox_after_as_many_queries(attack: Attack, figure: float) -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 50, 50))
    adv = attack(model, batch.x, batch.y)
    assert bool((model.logits(adv).argmax(1) != batch.y).all())
    assert float(norms_module.get(attack.norm).size(adv - batch.x).median()) <= figure
