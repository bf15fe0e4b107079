"""AutoAttack: its stages, what it never asks twice, models of few classes, and each part beside the whole."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from attack_models import Counting, Trained, conv_net, wrong
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import APGD, PGD, AutoAttack, Classifier, Square
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.minimum_norm.fab import FAB


def outline(attack: AutoAttack, classes: int = 10, **settings: bool) -> list[tuple[object, ...]]:
    """(loss, restarts, targets, eot) of APGD, (restarts, targets) of FAB, (queries,) of Square, in their order."""
    found: list[tuple[object, ...]] = []
    for stage in attack.stages(classes, **settings):
        assert stage.norm == attack.norm
        if isinstance(stage, FAB):
            assert stage.steps == 100
            found.append((stage.restarts, stage.targets))
        else:
            assert stage.eps == attack.eps
            if isinstance(stage, Square):
                found.append((stage.queries,))
            else:
                assert stage.steps == 100
                found.append((stage.loss, stage.restarts, stage.targets, stage.eot))
    return found


def test_the_stages_are_the_papers() -> None:
    standard = [("ce", 1, 0, 1), ("dlr", 1, 9, 1), (1, 9), (5000,)]
    assert outline(AutoAttack()) == outline(AutoAttack(norm="l2")) == standard
    assert outline(AutoAttack(norm="l1", eps=12)) == [("ce", 5, 0, 1), ("dlr", 1, 5, 1), (1, 9), (5000,)]
    away = [("ce", 5, 0, 1), ("dlr", 5, 0, 1), (5, 0), (5000,)]
    assert outline(AutoAttack(version="plus")) == [*away, ("dlr", 1, 9, 1), (1, 9)]
    assert outline(AutoAttack(version="plus"), targeted=True) == away
    assert outline(AutoAttack(version="rand")) == [("ce", 1, 0, 20), ("dlr", 1, 0, 20)]


def test_what_few_classes_change_is_said() -> None:
    assert AutoAttack().notes(10) == AutoAttack(version="plus").notes(1000) == AutoAttack(version="rand").notes(3) == ()
    assert AutoAttack().notes(5) == ("The model has 5 classes: AutoAttack has 4 targets, not 9.",)
    assert AutoAttack(norm="l1", eps=12).notes(9) == ("The model has 9 classes: AutoAttack has 8 targets, not 9.",)
    for classes in (2, 3):
        first, second = AutoAttack().notes(classes)
        assert first == (
            f"The model has {classes} classes, too few for the logit ratio: AutoAttack climbs the margin instead."
        )
        assert second.endswith(f"AutoAttack has {classes - 1} targets, not 9.")
        assert outline(AutoAttack(), classes)[1] == ("margin", 1, 9, 1)
    assert outline(AutoAttack(version="plus"), 3)[1][0] == "dlr"
    assert outline(AutoAttack(version="rand"), 2)[1][0] == "margin"


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("targeted", [False, True])
def test_models_of_few_classes_are_attacked(version: str, classes: int, targeted: bool) -> None:
    net, x = conv_net(classes=classes).eval(), torch.rand(6, 1, 8, 8)
    y = net(x).argmax(1)
    target = (y + 1) % classes if targeted else None
    for norm, eps in (("linf", 0.5), ("l2", 3.0), ("l1", 16.0)):
        reached = []
        for attack in (AutoAttack(norm, eps, version, steps=5, queries=20), PGD(norm, eps, steps=5)):
            answers = net(attack(net, x, y, target=target)).argmax(1)
            reached.append(int((answers == target if targeted else answers != y).sum()))
        assert reached[0] >= max(reached[1], 1)


def test_each_part_on_its_own_leaves_at_least_the_rows_that_the_cascade_leaves() -> None:
    """Row by row, for the parts draw the same numbers there; and no weaker than PGD-40."""
    model = load_model("lenet-mnist-pgd", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 40, 40))
    x, y = batch.x, batch.y
    whole = AutoAttack(eps=0.35, steps=15, queries=80)
    left = model.logits(whole(model, x, y)).argmax(1) == y
    assert int(left.sum()) > 0
    for part in whole.stages(10):
        adv = part(model, x, y)
        fooled = (model.logits(adv).argmax(1) != y) & ((adv - x).flatten(1).abs().amax(1) <= 0.35)
        assert not bool((fooled & left).any())
    for kind in (PGD(eps=0.35, steps=40), APGD(eps=0.35, steps=15)):
        assert int(left.sum()) <= int((model.logits(kind(model, x, y)).argmax(1) == y).sum())


def test_nothing_is_asked_twice(trained: Trained) -> None:
    """Every stage's own queries and one look at the picture, which serves the targets of two stages as well."""
    net, x, y = Counting(trained.net), trained.x[:6], trained.y[:6]
    right = ~wrong(trained.net, x, y)
    attack = AutoAttack(eps=1e-4, steps=7, queries=11, early_stop=False)
    whole, parts = Trace(6), [Trace(6) for _ in range(4)]
    attack(net, x, y, trace=whole)
    assert net.forwards == int(whole.forwards.sum())
    assert net.backwards == int(whole.backwards.sum())
    for part, trace in zip(attack.stages(5), parts, strict=True):
        part(net, x, y, trace=trace)
    # On their own, two of the four look at the picture first, to choose their targets.
    alone = torch.stack([trace.forwards for trace in parts]).sum(0)
    assert torch.equal(whole.forwards[right], 1 + (alone - 2)[right])
    assert torch.equal(whole.backwards[right], torch.stack([trace.backwards for trace in parts]).sum(0)[right])
    assert set(parts[1].forwards.tolist()) == {1 + 4 * 8}  # 4 targets for the 5 classes


def test_a_row_leaves_with_the_stage_that_fools_it(trained: Trained) -> None:
    net, x, y = trained
    y = y.clone()
    y[:3] = (y[:3] + 1) % 5
    trace = Trace(len(x))
    adv = AutoAttack(eps=0.15, steps=20, queries=50)(net, x, y, trace=trace)
    before, after = wrong(net, x, y), wrong(net, adv, y)
    assert bool(before[:3].all())
    assert torch.equal(adv[before], x[before])
    assert trace.forwards[before].tolist() == [1] * int(before.sum())
    assert torch.equal(trace.arrived[:, 0] >= 0, after)
    assert int((after & (trace.forwards <= 22)).sum()) > 10
    assert bool((trace.forwards[~after] > 150).all())


def test_a_row_that_survives_comes_back_at_its_best_margin(trained: Trained) -> None:
    net, x, y = trained

    def margin(points: Tensor) -> Tensor:
        logits = net(points).detach()
        return logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)

    whole = AutoAttack(eps=0.05, steps=15, queries=60)
    adv = whole(net, x, y)
    assert float((adv - x).abs().max()) <= 0.05 + 1e-6
    left = margin(adv) > 0
    assert int(left.sum()) > 10
    for part in whole.stages(5):
        if not isinstance(part, FAB):
            assert bool((margin(adv) <= margin(part(net, x, y)) + 1e-5)[left].all())


class BlindFold(nn.Module):
    """Rounds its input: no gradient gets through, so only Square finds anything."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.detach() + 0 * x)


def test_square_finds_what_gradients_do_not(trained: Trained) -> None:
    net, x, y = BlindFold(trained.net), trained.x, trained.y
    whole = AutoAttack(eps=0.2, steps=5, queries=300)
    fooled = [wrong(net, attack(net, x, y), y) for attack in (whole, whole.stages(5)[0])]
    assert int(fooled[0].sum()) > int(fooled[1].sum()) + 10
    assert bool((fooled[1] <= fooled[0]).all())


class Noisy(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.05 * torch.randn_like(x))


def test_a_model_that_answers_at_random_is_asked_twenty_times(trained: Trained) -> None:
    model, trace = Classifier(Noisy(trained.net)), Trace(20)
    adv = AutoAttack(eps=0.2, steps=8, version="rand")(model, trained.x[:20], trained.y[:20], trace=trace)
    assert bool((trace.forwards % 20 == 0).all())
    assert bool((trace.backwards % 20 == 0).all())
    assert int(wrong(trained.net, adv, trained.y[:20]).sum()) > 10


def test_the_settings_are_checked() -> None:
    for settings, message in (
        ({"version": "custom"}, "version is one of standard, plus, rand"),
        ({"norm": "l0"}, "norm is one of"),
        ({"eps": 0}, "eps must be a positive number"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"queries": True}, "queries must be a whole number"),
        ({"early_stop": "no"}, "early_stop is True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            AutoAttack(**settings)
    assert dataclasses.replace(AutoAttack(), eps=0.1) == AutoAttack().at(0.1)
