"""Every attack against a known optimum: on a linear model the best answer can be computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import NORMS, SHAPES, Plane, best_gain, dual, grow, linear, plane

from robustkit.attacks import BIM, FGSM, LBFGS, MIFGSM, PGD, Attack

DTYPES = (torch.float32, torch.float64)
# Of the optimum, what is reached in 100 steps: a random start leaves PGD a rest that no gradient points along.
BUDGETED = {"fgsm": 1e-4, "bim": 1e-3, "mifgsm": 1e-3, "pgd": 0.02}


def budgeted(kind: str, norm: str, eps: float) -> Attack:
    if kind == "fgsm":
        return FGSM(norm=norm, eps=eps)
    # MI-FGSM's own steps add up to eps exactly: enough for a straight way only, not for one along the box.
    settings = {"steps": 100, "step_size": eps / 40, "early_stop": False}
    return {"bim": BIM, "pgd": PGD, "mifgsm": MIFGSM}[kind](norm=norm, eps=eps, **settings)


def gains(p: Plane, adv: torch.Tensor) -> np.ndarray:
    """By how much the margin fell, per row."""
    return ((p.x - adv).flatten(1).double() @ p.w).numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.3), ("l1", 0.25)])
@pytest.mark.parametrize("kind", BUDGETED)
def test_away_from_the_box_the_margin_falls_by_eps_times_the_dual_norm(
    kind: str, norm: str, eps: float, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    p = plane(shape, 7, dtype, margin=20.0, middle=True)
    want = eps * dual(p.w, norm)
    got = gains(p, budgeted(kind, norm, eps)(p.net, p.x, p.y))
    assert (got >= want * (1 - BUDGETED[kind]) - 1e-5).all()
    assert (got <= want * (1 + 1e-5) + 1e-5).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 1.5), ("l1", 2.5)])
@pytest.mark.parametrize("kind", BUDGETED)
def test_at_the_edge_of_the_box_the_attack_finds_the_optimum_within_it(
    kind: str, norm: str, eps: float, shape: tuple[int, ...]
) -> None:
    p = plane(shape, 5, torch.float32, margin=3.0, middle=False)
    low, high = -p.x.flatten(1).double().numpy(), 1 - p.x.flatten(1).double().numpy()
    want = np.array([best_gain(-p.w.numpy(), eps, a, b, norm) for a, b in zip(low, high, strict=True)])
    assert want.min() < 0.99 * eps * dual(p.w, norm)  # the box does cost something
    got = gains(p, budgeted(kind, norm, eps)(p.net, p.x, p.y))
    assert (got >= want * (1 - BUDGETED[kind])).all()
    assert (got <= want + 1e-4).all()


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("kind", "slack"), [("fgsm", 1e-3), ("bim", 5e-3), ("mifgsm", 5e-3), ("pgd", 0.06)])
def test_an_eps_just_beyond_the_distance_fools_and_one_just_short_does_not(
    kind: str, slack: float, norm: str, rows: int
) -> None:
    p = plane((1, 4, 4), rows, torch.float32, margin=0.2, middle=True)
    distance = p.margin / dual(p.w, norm)
    for factor, fooled in ((1 + slack, True), (1 - slack, False)):
        adv = budgeted(kind, norm, distance * factor)(p.net, p.x, p.y)
        assert bool(((p.net(adv).argmax(1) == 1) == fooled).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("targeted", [False, True])
def test_lbfgs_goes_the_distance_to_the_boundary_and_no_farther(
    shape: tuple[int, ...], dtype: torch.dtype, rows: int, targeted: bool
) -> None:
    p = plane(shape, rows, dtype, margin=2.0, middle=True)
    adv = LBFGS()(p.net, p.x, p.y, target=torch.ones_like(p.y) if targeted else None)
    want = p.margin / dual(p.w, "l2")
    sizes = (adv - p.x).flatten(1).norm(dim=1)
    assert bool((p.net(adv).argmax(1) == 1).all())
    assert float(sizes.min()) >= want * (1 - 1e-3)
    assert float(sizes.max()) <= want * 1.02


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("confidence", "slack"), [(100, 0.02), (1, 0.15)])
def test_lbfgs_finds_the_nearest_point_within_the_box(shape: tuple[int, ...], confidence: float, slack: float) -> None:
    """The less the loss bends at the boundary, the more the size depends on c, which is only bracketed."""
    torch.manual_seed(0)
    w, x = torch.randn(int(np.prod(shape)), dtype=torch.float64), torch.rand(20, *shape, dtype=torch.float64)
    w, x = w * confidence, (1.8 * x - 0.4).clamp(0, 1)
    net = linear(torch.stack([w, -w]) / 2, torch.tensor([-w.sum() / 4, w.sum() / 4], dtype=torch.float64))
    y = net(x).argmax(1)
    want, free = [], []
    for row, wrong_way in zip(x.flatten(1).numpy(), 1 - 2 * y, strict=True):
        pull = w.numpy() * int(wrong_way)  # the margin is pull·(x + r), less a constant
        margin = float(pull @ row - pull.sum() / 2)
        r = grow(-pull, -row, 1 - row, lambda r, m=margin, p=pull: -m - p @ r)  # until the margin is 0
        want.append(np.linalg.norm(r))
        free.append(margin / np.linalg.norm(pull))
    assert max(a / b for a, b in zip(want, free, strict=True)) > 1.02  # the box does cost something
    adv = LBFGS()(net, x, y)
    sizes = (adv - x).flatten(1).norm(dim=1).numpy()
    assert bool((net(adv).argmax(1) != y).all())
    assert (sizes >= np.array(want) * (1 - 1e-3)).all()
    assert (sizes <= np.array(want) * (1 + slack)).all()


def test_lbfgs_finds_the_closest_of_many_classes() -> None:
    """Of a confident model: where all classes are about as likely, the cross-entropy pulls towards a mixture."""
    torch.manual_seed(0)
    weight = torch.randn(7, 48, dtype=torch.float64)
    weight *= 300 * torch.logspace(-0.5, 0.5, 7)[:, None]  # so that the likeliest class is often not the closest
    net, x = linear(weight, -0.5 * weight.sum(1)), 0.4 + 0.2 * torch.rand(40, 3, 4, 4, dtype=torch.float64)
    logits = net(x).detach()
    y = logits.argmax(1)
    distance = (logits.gather(1, y[:, None]) - logits) / (weight[y][:, None] - weight).norm(dim=2)
    distance = distance.scatter(1, y[:, None], torch.inf)
    likeliest = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    assert int((distance.argmin(1) != likeliest).sum()) > 5
    adv = LBFGS(candidates=6)(net, x, y)
    assert torch.equal(net(adv).argmax(1), distance.argmin(1))
    torch.testing.assert_close((adv - x).flatten(1).norm(dim=1), distance.amin(1), rtol=0.02, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_an_iterated_attack_beats_the_one_step_where_the_classes_are_many(norm: str) -> None:
    """The steepest direction mixes all runners_up; near the boundary one is left, and more steps see that."""
    torch.manual_seed(1)
    net, x = linear(torch.randn(6, 16), torch.zeros(6)), 0.4 + 0.2 * torch.rand(64, 1, 4, 4)
    y = net(x).argmax(1)
    eps = {"linf": 0.1, "l2": 0.3, "l1": 0.6}[norm]
    single, many = FGSM(norm=norm, eps=eps)(net, x, y), BIM(norm=norm, eps=eps, steps=40)(net, x, y)
    assert int((net(many).argmax(1) != y).sum()) >= int((net(single).argmax(1) != y).sum()) > 0
