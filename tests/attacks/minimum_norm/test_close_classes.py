"""Where logits lie close together, and where the shortest way ends on the plane itself: still the nearest point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import Scaled, linear
from torch import Tensor, nn

from robustkit.attacks import DDN, FAB, FMN, LBFGS, Attack, DeepFool
from robustkit.attacks.geometry import norms

ATTACKS = (FMN(norm="linf"), FMN(norm="l2"), DDN(), DDN(steps=30), LBFGS(), LBFGS(candidates=1))
each = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name}-{attack.norm}")


def close_classes(seed: int, rows: int, dtype: torch.dtype) -> tuple[nn.Module, Tensor, Tensor, Tensor, Tensor]:
    """Five classes whose logits are equal on the grey picture: net, x, y, weights and logits in double precision."""
    torch.manual_seed(seed)
    weight = nn.Linear(192, 5).weight.detach().double()
    # Rounded first, so that the distances of what the attack is given are known.
    x = (0.5 + 0.03 * torch.randn(rows, 3, 8, 8)).clamp(0, 1).double()
    net = linear(weight, -0.5 * weight.sum(1))
    logits = net(x).detach()
    return net.to(dtype), x.to(dtype), logits.argmax(1), weight, logits


def ratios(attack: Attack, adv: Tensor, x: Tensor, distance: Tensor) -> np.ndarray:
    return (norms.get(attack.norm).size((adv - x).double()) / distance).numpy()


def distances(norm: str, weight: Tensor, logits: Tensor, y: Tensor) -> Tensor:
    """From each row to each class [B, 5], 0 to its own."""
    order = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[norm]
    slopes = torch.linalg.vector_norm(weight[y][:, None] - weight, order, dim=2)
    return ((logits.gather(1, y[:, None]) - logits) / slopes).nan_to_num(nan=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@each
def test_classes_that_are_about_as_likely_are_left_by_the_shortest_way(
    attack: Attack, scale: float, dtype: torch.dtype
) -> None:
    """The cross-entropy's gradient is there a mean over all of them: it led up to a third farther."""
    for seed in range(4):
        net, x, y, weight, logits = close_classes(seed, 10, dtype)
        adv = attack(Scaled(net, scale), x, y)
        distance = distances(attack.norm, weight, logits, y).scatter(1, y[:, None], torch.inf).amin(1)
        assert bool((net(adv).argmax(1) != y).all())
        off = ratios(attack, adv, x, distance)
        assert off.min() >= 1 - 1e-3
        assert np.median(off) <= 1.01
        assert off.max() <= 1.05


@pytest.mark.parametrize("scale", [1.0, 100.0])
@each
def test_a_target_among_close_classes_is_reached_and_not_by_much_more(attack: Attack, scale: float) -> None:
    """The way to a class may lead past others, so its own boundary is a lower bound, not the optimum."""
    net, x, y, weight, logits = close_classes(0, 20, torch.float32)
    target = logits.topk(2, dim=1).indices[:, 1]
    adv = attack(Scaled(net, scale), x, y, target=target)
    assert torch.equal(net(adv).argmax(1), target)
    own = distances(attack.norm, weight, logits, y).gather(1, target[:, None]).squeeze(1)
    off = ratios(attack, adv, x, own)
    assert off.min() >= 1 - 1e-3
    assert np.median(off) <= 1.01


@each
def test_a_row_of_close_classes_does_not_mind_the_others(attack: Attack) -> None:
    net, x, y, *_ = close_classes(1, 9, torch.float64)
    together = attack(net, x, y)
    for i in (0, 4, 8):
        torch.testing.assert_close(attack(net, x[i : i + 1], y[i : i + 1])[0], together[i], atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("attack", [DeepFool(norm="l1"), FAB(norm="l1", steps=20), FMN(norm="l1", steps=20)])
def test_a_way_that_ends_at_the_edge_of_the_box_leads_across(
    attack: Attack, targeted: bool, dtype: torch.dtype
) -> None:
    """The two steepest pixels, driven to black, end in a tie to the last bit: an overshoot of theirs is cut off."""
    pull = torch.tensor([1.0, 0.5, 0.25, 0.125], dtype=dtype)
    net = linear(torch.stack([pull, torch.zeros_like(pull)]), torch.tensor([-0.1875, 0.0], dtype=dtype))
    x, y = torch.full((3, 1, 2, 2), 0.5, dtype=dtype), torch.zeros(3, dtype=torch.int64)
    assert float(net(x).detach()[0, 0]) == 0.75  # of which the two steepest pixels give .5 + .25
    adv = attack(net, x, y, target=1 - y if targeted else None)
    assert bool((net(adv).argmax(1) == 1).all())
    size = norms.get("l1").size((adv - x).double())
    assert float(size.min()) > 1
    assert float(size.max()) <= 1.05
