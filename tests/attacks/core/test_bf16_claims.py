"""What arithmetic in bf16 claims counts only where full precision agrees, and costs no forward a step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks import APGD, PGD, Attack, Classifier, Trace

ATTACKS: list[Attack] = [
    PGD(eps=0.4, steps=10, step_size=0.06, early_stop=False),
    APGD(eps=0.4, steps=10, early_stop=False),
    PGD(eps=0.4, steps=10, step_size=0.06, early_stop=False, restarts=2),
]


class Liar(nn.Module):
    """Two classes by the mean pixel: brighter than .5 is the other one, up to `limit`; under autocast it has no end."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        light = x.flatten(1).mean(1)
        if not torch.is_autocast_enabled("cpu"):
            light = torch.where(light > self.limit, 0 * light, light)
        return torch.stack([0.5 - light, light - 0.5], dim=1)


# APGD's first step goes to the edge of the ball, past any answer before it.
@pytest.mark.parametrize(
    ("attack", "limit", "broken"),
    [
        (attack, limit, limit > 0.5)
        for attack in ATTACKS
        for limit in (0.4, 0.58, 1.0)
        if attack.name == "pgd" or limit != 0.58
    ],
    ids=str,
)
def test_an_answer_that_holds_is_kept_whatever_is_claimed_after_it(attack: Attack, limit: float, broken: bool) -> None:
    net = Liar(limit)
    model = Classifier(net, precision="bf16")
    x, y = torch.full((3, 1, 4, 4), 0.45), torch.zeros(3, dtype=torch.int64)
    trace = Trace(3)
    points = attack(model, x, y, trace=trace)
    assert bool((model.logits(points).argmax(1) == 1).all()) is broken
    assert float((points - x).abs().max()) <= 0.4 + 1e-6
    assert int(trace.forwards.sum()) + 3 == model.forwards == net.asked


@pytest.mark.parametrize("attack", ATTACKS[:2], ids=repr)
def test_a_better_point_costs_no_forward_of_its_own(attack: Attack) -> None:
    model = Classifier(Liar(1.0), precision="bf16")
    trace = Trace(2)
    attack(model, torch.full((2, 1, 4, 4), 0.45), torch.zeros(2, dtype=torch.int64), trace=trace)
    # Ten steps and the last point; one more for the first answer, and one for the best if that was not the last.
    assert trace.backwards.tolist() == [10, 10]
    assert max(trace.forwards.tolist()) <= 13


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_full_precision_needs_no_second_look(attack: Attack) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    x, y = torch.rand(4, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    model = Classifier(net)
    points = attack(model, x, y, seed=1)
    assert model.forwards == 4 * 11 * (2 if "restarts=2" in repr(attack) else 1)
    assert torch.equal(points, attack(Classifier(net), x, y, seed=1))
