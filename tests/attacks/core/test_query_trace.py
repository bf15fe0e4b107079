"""Queries in the trace against a network that counts; averaged draws; losses towards one runner-up class."""

from __future__ import annotations

import pytest
import torch
from attack_models import Counting, every_attack, label
from torch import Tensor, nn

from robustkit.attacks import APGD, FGSM, PGD, Classifier
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.core.losses import Aim
from robustkit.attacks.core.query_trace import Trace


@pytest.mark.parametrize("attack", every_attack(eps=0.05, steps=6), ids=label)
@pytest.mark.parametrize("targeted", [False, True])
def test_the_trace_adds_up_to_what_went_through_the_network(trained, attack, targeted: bool) -> None:
    net = Counting(trained.net)
    trace = Trace(len(trained.x))
    target = (trained.y + 1) % 5 if targeted else None
    model = Classifier(net)
    attack(model, trained.x, trained.y, target=target, trace=trace)
    assert int(trace.forwards.sum()) == net.forwards == model.forwards
    assert int(trace.backwards.sum()) == net.backwards == model.backwards


def test_a_row_has_arrived_when_it_first_reached_its_goal(trained) -> None:
    net, x, y = trained
    trace = Trace(len(x))
    adv = PGD(eps=0.1, steps=20)(net, x, y, trace=trace)
    with torch.no_grad():
        fooled = net(adv).argmax(1) != y
    assert torch.equal(trace.arrived[:, 0] >= 0, fooled)
    # early_stop lets a row go at that very evaluation
    assert torch.equal(trace.arrived[fooled, 0], trace.forwards[fooled])


class Noisy(nn.Module):
    """Logits of a linear model whose weights are seen through noise."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) + 5 * torch.randn(len(x), 1) * x.flatten(1).sum(1, keepdim=True) * torch.tensor(
            [[1.0] + [0.0] * (self.layer.out_features - 1)]
        )


def test_draws_are_averaged_and_counted() -> None:
    model = Classifier(Noisy(2))
    x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
    aim = Aim(Goal.of(y, False), "margin")
    torch.manual_seed(1)
    _, _, few = model.gradient(x, aim)
    _, _, many = model.gradient(x, aim, draws=400)
    weight = model.net.layer.weight.detach()  # type: ignore[union-attr]
    true = torch.stack([weight[1] - weight[0], weight[0] - weight[1]]).view_as(x)
    assert (many - true).abs().mean() < 0.2 * (few - true).abs().mean()
    assert (model.forwards, model.backwards) == (2 * 401, 2 * 401)
    model.logits(x, draws=3)
    assert model.forwards == 2 * 404


@pytest.mark.parametrize("attack", [FGSM(eot=3), PGD(steps=4, eot=3), APGD(steps=4, eot=3, early_stop=False)])
def test_eot_multiplies_the_queries(trained, attack) -> None:
    model, trace = Classifier(trained.net), Trace(len(trained.x))
    attack(model, trained.x, trained.y, trace=trace)
    assert model.forwards % 3 == 0
    assert int(trace.forwards.sum()) == model.forwards


def test_a_loss_towards_a_rival_is_the_formula() -> None:
    z = torch.tensor([[3.0, 1.0, 0.5, -2.0, 0.0]], dtype=torch.float64)
    goal, runner_up = Goal.of(torch.tensor([0]), False), torch.tensor([2])
    assert float(Aim(goal, "margin", runner_up)(z)) == pytest.approx(-2.5)
    # Croce & Hein 2020, equation 7: -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2)
    assert float(Aim(goal, "dlr", runner_up)(z)) == pytest.approx(-2.5 / (3 - (0.5 + 0.0) / 2))
    expected = -torch.nn.functional.cross_entropy(z, runner_up)
    ours = -torch.nn.functional.softplus(-Aim(goal, "ce", runner_up)(z))
    assert float(ours) == pytest.approx(float(expected))
    assert float(Aim(goal, "dlr")(z)) == pytest.approx(-2 / (3 - 0.5))


def test_climbing_towards_rivals_finds_what_the_nearest_one_hides() -> None:
    """Class 1 is closest in logits but cannot be reached; class 2 can."""

    class Trap(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            s = x.flatten(1).mean(1)
            flat = 0.9 - 0.1 * (s - 0.5).abs()
            return torch.stack([torch.ones_like(s), flat, 0.2 + 4 * (s - 0.5), torch.zeros_like(s)], 1)

    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    net = Trap()
    for kind in (APGD, PGD):
        adv = kind(eps=0.25, steps=30, targets=3, loss="margin")(net, x, y)
        assert (net(adv).argmax(1) == 2).all()
        model = Classifier(net)
        kind(eps=0.25, steps=5, targets=2, restarts=2, loss="margin", early_stop=False)(model, x, y)
        assert model.forwards == 3 * (1 + 2 * 2 * 6)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("kind", [PGD, APGD])
def test_every_loss_fools_the_small_net(trained, kind, loss: str) -> None:
    net, x, y = trained
    right = net(x).argmax(1) == y
    adv = kind(eps=0.25, steps=30, loss=loss)(net, x, y)
    with torch.no_grad():
        assert float((net(adv).argmax(1) != y)[right].float().mean()) > 0.9
