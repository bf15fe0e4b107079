"""L-BFGS row by row: who is moved, who is left alone, and that no row minds the others."""

from __future__ import annotations

import copy

import pytest
import torch
from attack_models import Scaled, Trained, wrong
from torch import Tensor, nn

from robustkit.attacks import LBFGS, Classifier


class Steady(nn.Module):
    """The same logits for every picture, with a gradient of zero."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) * 0 + self.logits


class Unreachable(nn.Module):
    """A third class that never wins, though its logit does rise with the input."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).mean(1)
        return torch.stack([total, 1 - total, total / 4 - 1], dim=1)


def sizes(adv: Tensor, x: Tensor) -> Tensor:
    return (adv - x).flatten(1).norm(dim=1)


def test_every_row_that_can_be_fooled_is_fooled(trained: Trained) -> None:
    net, x, y = trained
    right = ~wrong(net, x, y)
    adv = LBFGS()(net, x, y)
    assert bool(wrong(net, adv, y)[right].all())
    assert float(sizes(adv, x)[right].min()) > 0
    assert float(adv.min()) >= 0
    assert float(adv.max()) <= 1


def test_every_target_is_reached(trained: Trained) -> None:
    target = (trained.y + 1) % 5
    adv = LBFGS()(trained.net, trained.x, trained.y, target=target)
    assert torch.equal(trained.net(adv).argmax(1), target)


def test_rows_already_wrong_come_back_unchanged(trained: Trained) -> None:
    net, x = trained.net, trained.x
    y = net(x).argmax(1)
    y[::3] = (y[::3] + 1) % 5
    adv = LBFGS()(net, x, y)
    assert torch.equal(adv[::3], x[::3])
    assert not torch.equal(adv[1], x[1])


def test_rows_already_at_their_target_come_back_unchanged(trained: Trained) -> None:
    net, x = trained.net, trained.x
    guess = net(x).argmax(1)
    assert torch.equal(LBFGS()(net, x, (guess + 1) % 5, target=guess), x)


@pytest.mark.parametrize("target", [None, torch.zeros(6, dtype=torch.int64)], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("searches", [1, 6, 60])
def test_a_model_without_a_gradient_gives_the_rows_back(target: Tensor | None, searches: int) -> None:
    x, y = torch.rand(6, 1, 4, 4), torch.full((6,), 2)
    assert torch.equal(LBFGS(searches=searches)(Steady(0.0, 1.0, 2.0), x, y, target=target), x)


def test_a_target_that_is_never_reached_gives_the_rows_back() -> None:
    x, y = torch.rand(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64)
    assert torch.equal(LBFGS()(Unreachable(), x, y, target=torch.full((6,), 2)), x)


@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1e-15, 1e-6, 1e4, 1e15, 1e25, 1e35])
def test_logits_of_any_scale_give_points_in_the_box(trained: Trained, scale: float) -> None:
    net, x, y = trained.net, trained.x[:4], trained.y[:4]
    adv = LBFGS(candidates=2)(Scaled(net, scale), x, y)
    assert bool(((adv >= 0) & (adv <= 1)).all())
    if 1e-6 <= scale <= 1e15:
        assert bool(wrong(net, adv, y).all())


def test_a_tie_counts_as_not_fooled_and_is_broken() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    adv = LBFGS()(net, x, y)
    logits = net(adv)[0].detach()
    assert float(logits[0]) > float(logits[1])
    assert float(sizes(adv, x)) < 1e-3


@pytest.mark.parametrize("targeted", [False, True])
def test_rows_do_not_mind_each_other(trained: Trained, targeted: bool) -> None:
    net, x, y = copy.deepcopy(trained.net).double(), trained.x[:12].double(), trained.y[:12].clone()
    y[9] = (y[9] + 1) % 5  # one that is done at once
    x[6] = 0.0
    target = (y + 2) % 5 if targeted else None
    together = LBFGS()(net, x, y, target=target)
    for i in range(0, 12, 2 if targeted else 3):
        alone = LBFGS()(net, x[i : i + 1], y[i : i + 1], target=None if target is None else target[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=0)


def test_more_searches_never_make_a_row_of_a_batch_worse(trained: Trained) -> None:
    net, x, y = trained.net, trained.x[:16], trained.y[:16]
    target = (y + 1) % 5
    few, many = (sizes(LBFGS(searches=n)(net, x, y, target=target), x) for n in (2, 8))
    assert bool((many <= few + 1e-6).all())
    assert float(many.mean()) < float(few.mean())


@pytest.mark.parametrize("targeted", [False, True])
def test_more_searches_never_make_a_row_worse_in_double(trained: Trained, targeted: bool) -> None:
    # In double precision, since what kernels round depends on how many rows are left.
    net, x, y = copy.deepcopy(trained.net).double(), trained.x[:16].double(), trained.y[:16]
    target = (y + 1) % 5 if targeted else None
    few, some, many = (sizes(LBFGS(searches=n)(net, x, y, target=target), x) for n in (2, 3, 8))
    assert bool((some <= few + 1e-6).all())
    assert bool((many <= some + 1e-6).all())
    assert float(many.mean()) < float(few.mean())


@pytest.mark.parametrize("targeted", [False, True])
def test_more_searches_never_make_a_row_by_itself_worse_by_a_bit(trained: Trained, targeted: bool) -> None:
    for i in range(0, 16, 3 if targeted else 6):
        x, y = trained.x[i : i + 1], trained.y[i : i + 1]
        target = (y + 1) % 5 if targeted else None
        last = torch.inf
        for searches in (1, 2, 4, 8):
            size = float(sizes(LBFGS(searches=searches)(trained.net, x, y, target=target), x))
            assert size <= last, (i, searches)
            last = size


def test_what_fewer_searches_would_have_ended_with_costs_forwards_alone(trained: Trained) -> None:
    target = (trained.y + 1) % 5
    model = Classifier(trained.net)
    LBFGS(steps=10, searches=4)(model, trained.x, trained.y, target=target)
    assert model.backwards <= 10 * 4 * 64
    assert model.forwards - model.backwards <= 8 * 4 * 64


def test_more_candidates_help_or_keep(trained: Trained) -> None:
    # In double precision: float32 kernels round by the size of the batch, which the candidates change.
    net, x, y = copy.deepcopy(trained.net).double(), trained.x[:16].double(), trained.y[:16]
    one, four = (sizes(LBFGS(candidates=n)(net, x, y), x) for n in (1, 4))
    assert bool((four <= one + 1e-6).all())


def test_the_budget_of_gradients_is_kept(trained: Trained) -> None:
    model = Classifier(trained.net)
    LBFGS(steps=4, searches=3, candidates=2)(model, trained.x, trained.y)
    assert 0 < model.backwards <= 4 * 3 * 2 * 64
