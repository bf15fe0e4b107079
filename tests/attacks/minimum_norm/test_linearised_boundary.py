"""DeepFool and FAB against exact optima of linear models, and beside foolbox's and torchattacks' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import NORMS, SHAPES, Counting, Trained, dual, linear, plane, wrong
from exact_planes import shortest
from torch import Tensor

from robustkit import load_data, load_model
from robustkit.attacks import FAB, Attack, Classifier, DeepFool
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.geometry import norms
from robustkit.attacks.minimum_norm.fab import search_fab

DTYPES = (torch.float32, torch.float64)
KINDS = {
    "deepfool": lambda norm: DeepFool(norm=norm),
    "fab": lambda norm: FAB(norm=norm, steps=20, targets=0),
    "fab-t": lambda norm: FAB(norm=norm, steps=20, targets=9),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
each_norm = pytest.mark.parametrize("norm", NORMS)


def sizes(norm: str, adv: Tensor, x: Tensor) -> np.ndarray:
    return norms.get(norm).size(adv.double() - x.double()).numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 7])
@each_norm
@each_kind
def test_in_the_open_the_distance_is_the_margin_over_the_dual_norm(
    kind: str, norm: str, rows: int, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    p = plane(shape, rows, dtype, margin=0.4, middle=True)
    for settings in ({}, {"target": 1 - p.y}):
        adv = KINDS[kind](norm)(p.net, p.x, p.y, **settings)
        assert adv.dtype == dtype
        assert bool(wrong(p.net, adv, p.y).all())
        np.testing.assert_allclose(sizes(norm, adv, p.x), 0.4 / dual(p.w, norm), rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@each_norm
@each_kind
def test_at_the_edge_of_the_box_it_is_the_exact_optimum_within_it(
    kind: str, norm: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    p = plane(shape, 7, dtype, margin=2.0, middle=False)
    adv = KINDS[kind](norm)(p.net, p.x, p.y)
    w, x = p.w.numpy(), p.x.flatten(1).double().numpy()
    want = np.array([shortest(-w, row @ w, -row, 1 - row, norm) for row in x])
    assert shape != (3, 5, 7) or want.max() > 1.05 * 2 / dual(p.w, norm)  # the box does cost something
    # Shortened straight back from up to 5 % beyond, which is not quite the way within the box.
    np.testing.assert_allclose(sizes(norm, adv, p.x), want, rtol=1e-3 if kind == "deepfool" else 1.5e-3)


@each_norm
@each_kind
def test_of_several_classes_it_is_the_nearest(kind: str, norm: str) -> None:
    torch.manual_seed(5)
    net = linear(torch.randn(6, 20, dtype=torch.float64), torch.randn(6, dtype=torch.float64))
    x = (1.6 * torch.rand(12, 20, dtype=torch.float64) - 0.3).clamp(0, 1)
    y = net(x).argmax(1)
    weight, bias = (value.detach().numpy() for value in net[1].parameters())
    want = []
    for row, own in zip(x.numpy(), y.tolist(), strict=True):
        logits = weight @ row + bias
        want.append(
            min(
                shortest(weight[k] - weight[own], logits[own] - logits[k], -row, 1 - row, norm)
                for k in range(6)
                if k != own
            )
        )
    np.testing.assert_allclose(sizes(norm, KINDS[kind](norm)(net, x, y), x), want, rtol=2e-3)


@each_kind
def test_rows_already_there_and_rows_without_a_way_come_back_unchanged(kind: str, trained: Trained) -> None:
    net, x = trained.net, trained.x[:12]
    y = net(x).argmax(1)
    y[::3] = (y[::3] + 1) % 5
    adv = KINDS[kind]("l2")(net, x, y)
    moved = (adv != x).flatten(1).any(1)
    assert not bool(moved[::3].any())
    assert bool(wrong(net, adv, y).all())
    # The second class never wins, wherever in the box.
    never = linear(torch.stack([torch.zeros(16), torch.ones(16)]), torch.tensor([20.0, 0.0]))
    x, y = torch.rand(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64)
    assert torch.equal(KINDS[kind]("linf")(never, x, y), x)


@each_norm
@each_kind
def test_targets_are_reached(kind: str, norm: str, trained: Trained) -> None:
    net, x, y = trained
    target = (y + 1) % 5
    attack = FAB(norm=norm) if kind != "deepfool" else KINDS[kind](norm)
    adv = attack(net, x[:32], y[:32], target=target[:32])
    assert float((net(adv).argmax(1) == target[:32]).float().mean()) >= 0.95


@each_norm
def test_more_restarts_only_help_and_do_not_mind_the_batch(norm: str, trained: Trained) -> None:
    net, x, y = trained.net, trained.x[:24], trained.y[:24]
    once, thrice = (FAB(norm=norm, steps=30, restarts=n)(net, x, y, seed=3) for n in (1, 3))
    first, third = (sizes(norm, adv, x) for adv in (once, thrice))
    assert (third <= first).all()
    assert (third < 0.999 * first).sum() >= 2
    alone = FAB(norm=norm, steps=30, restarts=3)(net, x[9:11], y[9:11], ids=torch.tensor([9, 10]), seed=3)
    np.testing.assert_allclose(sizes(norm, alone, x[9:11]), third[9:11], rtol=1e-3)


def test_a_row_is_let_go_once_it_is_within(trained: Trained) -> None:
    net, x, y = trained
    right = ~wrong(net, x, y)
    x, y = x[right], y[right]
    model, rows, within = Classifier(net), torch.arange(len(x)), 1.0

    def found(**names: float) -> tuple[Tensor, int]:
        before = model.backwards
        best = search_fab(
            model, Problem(x, Goal.of(y, False), rows, 0, rows), norms.get("l2"), steps=30, targets=4, **names
        )
        return best.score, model.backwards - before

    (whole, cost), (hasty, cheap) = found(), found(within=within)
    assert 5 < int((whole <= within).sum()) < len(x)
    assert torch.equal(whole <= within, hasty <= within)
    assert cheap < 0.7 * cost


@each_kind
def test_gradients_are_counted_one_by_one(kind: str, trained: Trained) -> None:
    counting, trace = Counting(trained.net), Trace(12)
    model = Classifier(counting)
    KINDS[kind]("l2")(model, trained.x[:12], trained.y[:12], trace=trace)
    assert (model.forwards, model.backwards) == (counting.forwards, counting.backwards)
    assert (int(trace.forwards.sum()), int(trace.backwards.sum())) == (model.forwards, model.backwards)


def test_a_column_of_the_objective_has_a_gradient_of_its_own(trained: Trained) -> None:
    model, x = Classifier(trained.net), trained.x[:3]
    logits, value, slopes = model.gradient(x, lambda out: out[:, 1:4])
    assert slopes.shape == (3, 3, 1, 8, 8)
    assert (model.forwards, model.backwards) == (3, 9)
    torch.testing.assert_close(value, logits[:, 1:4])
    for column in range(3):
        one = model.gradient(x, lambda out, column=column: out[:, 1 + column])[2]
        torch.testing.assert_close(slopes[:, column], one)


@pytest.fixture(scope="module", params=["lenet-mnist", "lenet-mnist-pgd"])
def digits(request):
    model = load_model(request.param, device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 100, 100))
    right = model.logits(batch.x).argmax(1) == batch.y
    return request.param, model, batch.x[right], batch.y[right]


def median(attack: Attack, digits) -> tuple[float, float, int]:
    """Median and mean distance, which is inf where nothing was found, and gradients a row."""
    _, model, x, y = digits
    before = model.backwards
    adv = attack(model, x, y)
    size = norms.get(attack.norm).size(adv - x)
    size = torch.where(model.logits(adv).argmax(1) != y, size, torch.inf)
    return float(size.median()), float(size.mean()), round((model.backwards - before) / len(x))


# foolbox 3.3.4's L2DeepFoolAttack and LinfDeepFoolAttack (steps=20, candidates=10, overshoot=0.02) on the first 100
# digits, those that are classified right: median distance; mean of those fooled; gradients a row.
FOOLBOX = {
    ("lenet-mnist", "l2"): (1.4325, 1.5054, 118),
    ("lenet-mnist", "linf"): (0.1137, 0.1183, 73),
    ("lenet-mnist-pgd", "l2"): (3.3805, 3.1866, 450),  # and 7 % not fooled
    ("lenet-mnist-pgd", "linf"): (0.4241, 0.4610, 64),
}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_is_nearer_than_foolboxs(digits, norm: str) -> None:
    middle, mean, gradients = median(DeepFool(norm=norm), digits)
    theirs = FOOLBOX[digits[0], norm]
    assert middle < 0.95 * theirs[0]
    assert mean < theirs[1]
    assert gradients <= 1.15 * theirs[2]


# torchattacks 3.5.1's FAB (steps=20, alpha_max .1, eta 1.05, beta .9, towards the 9 other classes one by one, best of
# them): median and mean distance at 180 gradients a row.
FABS = {
    ("lenet-mnist", "linf"): (0.0967, 0.0981),
    ("lenet-mnist", "l2"): (1.2009, 1.2351),
    ("lenet-mnist", "l1"): (6.2290, 6.7672),
    ("lenet-mnist-pgd", "linf"): (0.3486, 0.3267),
    ("lenet-mnist-pgd", "l2"): (1.9897, 2.0115),
    ("lenet-mnist-pgd", "l1"): (13.8916, 15.1879),
}


@each_norm
def test_fab_is_nearer_than_torchattacks_with_no_more_gradients(digits, norm: str) -> None:
    hard = (digits[0], norm) == ("lenet-mnist-pgd", "l1")
    middle, mean, gradients = median(FAB(norm=norm, steps=20, targets=9 if hard else 4), digits)
    theirs = FABS[digits[0], norm]
    assert middle <= theirs[0]
    assert mean <= theirs[1]
    assert gradients <= (180 if hard else 80)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [DeepFool, FAB])
def test_a_model_in_bf16_is_fooled_as_far_as_one_in_full_precision(trained, kind, norm: str) -> None:
    """A boundary seen in bf16 lies elsewhere: steps onto it ended on the wrong side, and stayed there."""
    net, x, y = trained
    attack = kind(norm=norm, steps=20)
    whole, half = (attack(Classifier(net, precision=precision), x, y) for precision in ("fp32", "bf16"))
    assert torch.equal(wrong(net, whole, y), wrong(net, half, y))
    torch.testing.assert_close(half, whole, atol=1e-4, rtol=0)
