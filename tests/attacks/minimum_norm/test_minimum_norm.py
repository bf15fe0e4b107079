"""C&W, DDN, FMN and EAD against what is known: closed forms, linear programmes, foolbox's attacks of the same name."""

from __future__ import annotations

from typing import Any

import foolbox
import numpy as np
import pytest
import torch
from attack_models import SHAPES, Counting, Trained, dual, grow, linear, plane, wrong
from scipy.optimize import linprog
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import DDN, EAD, FMN, Attack, CarliniWagner, Classifier
from robustkit.attacks.core.method import Evaluation
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.geometry import norms
from robustkit.attacks.minimum_norm import fmn as fmn_module

DTYPES = (torch.float32, torch.float64)
ATTACKS = (
    CarliniWagner(steps=50, searches=6),
    DDN(),
    EAD(),
    *(FMN(norm=norm) for norm in ("linf", "l2", "l1")),
)
SLACK = {"cw": 1.02, "ddn": 1.01, "ead": 1.01, "fmn": 1.01}  # times the optimum
# Of several classes, for the row that is off the most: all but EAD follow the likeliest class, not the nearest.
FARTHEST = {"cw-l2": 1.3, "ddn-l2": 1.3, "ead-l1": 1.01, "fmn-linf": 1.3, "fmn-l2": 1.3, "fmn-l1": 1.5}
each = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name}-{attack.norm}")


def sizes(attack: Attack, adv: Tensor, x: Tensor) -> np.ndarray:
    return norms.get(attack.norm).size((adv - x).double()).numpy()


def least_size(pull: np.ndarray, margin: float, x: np.ndarray, norm: str) -> float:
    """The smallest r within the box with pull·r = margin: a linear programme, or a bisection in l2."""
    n = len(x)
    if norm == "l2":
        return float(np.linalg.norm(grow(pull, -x, 1 - x, lambda r: pull @ r - margin)))
    if norm == "l1":  # r = p - q, both at least 0
        bounds = np.concatenate([np.stack([np.zeros(n), 1 - x], 1), np.stack([np.zeros(n), x], 1)])
        found = linprog(np.ones(2 * n), A_ub=[np.concatenate([-pull, pull])], b_ub=[-margin], bounds=bounds)
    else:  # the last variable caps the others
        rows = np.block(
            [[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))], [-pull[None], np.zeros((1, 1))]]
        )
        bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
        found = linprog([*np.zeros(n), 1], A_ub=rows, b_ub=[*np.zeros(2 * n), -margin], bounds=bounds)
    return float(found.fun)


# Known optima


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("rows", "targeted"), [(1, True), (7, False)])
@each
def test_on_a_plane_it_goes_the_distance_and_no_farther(
    attack: Attack, rows: int, targeted: bool, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    p = plane(shape, rows, dtype, margin=1.5, middle=True)
    adv = attack(p.net, p.x, p.y, target=torch.ones_like(p.y) if targeted else None)
    want = p.margin / dual(p.w, attack.norm)
    assert adv.dtype == dtype
    assert adv.shape == p.x.shape
    assert bool((p.net(adv).argmax(1) == 1).all())
    assert sizes(attack, adv, p.x).min() >= want * (1 - 1e-3)
    assert sizes(attack, adv, p.x).max() <= want * SLACK[attack.name]


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
@each
def test_at_the_edge_of_the_box_it_finds_the_nearest_point_within(attack: Attack, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    w = torch.randn(int(np.prod(shape)), dtype=torch.float64)
    x = torch.rand(12, *shape, dtype=torch.float64)
    x = (1.8 * x - 0.4).clamp(0, 1)
    net = linear(torch.stack([w, -w]) / 2, torch.tensor([-w.sum() / 4, w.sum() / 4], dtype=torch.float64))
    y = net(x).argmax(1)
    want, free = [], []
    for row, wrong_way in zip(x.flatten(1).numpy(), 1 - 2 * y, strict=True):
        pull = w.numpy() * int(wrong_way)  # the margin is pull·(x + r), less a constant
        margin = float(pull @ row - pull.sum() / 2)
        want.append(least_size(-pull, margin, row, attack.norm))
        free.append(margin / dual(w, attack.norm))
    assert max(a / b for a, b in zip(want, free, strict=True)) > 1.02  # the box does cost something
    adv = attack(net, x, y)
    assert bool((net(adv).argmax(1) != y).all())
    assert float(adv.min()) >= 0
    assert float(adv.max()) <= 1
    ratios = sizes(attack, adv, x) / np.array(want)
    assert ratios.min() >= 1 - 1e-3
    assert ratios.max() <= SLACK[attack.name]


@each
def test_of_several_classes_it_finds_the_nearest(attack: Attack) -> None:
    torch.manual_seed(0)
    weight = 40 * torch.randn(5, 48, dtype=torch.float64)
    x = 0.45 + 0.1 * torch.rand(20, 3, 4, 4, dtype=torch.float64)
    net = linear(weight, -0.5 * weight.sum(1))
    logits = net(x).detach()
    y = logits.argmax(1)
    order = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}[attack.norm]
    slopes = torch.linalg.vector_norm(weight[y][:, None] - weight, order, dim=2)
    distance = ((logits.gather(1, y[:, None]) - logits) / slopes).scatter(1, y[:, None], torch.inf).amin(1).numpy()
    adv = attack(net, x, y)
    assert bool((net(adv).argmax(1) != y).all())
    ratios = sizes(attack, adv, x) / distance
    assert ratios.min() >= 1 - 1e-3
    assert np.median(ratios) <= 1.02
    assert ratios.max() <= FARTHEST[f"{attack.name}-{attack.norm}"]


# Rows


class Steady(nn.Module):
    """The same logits for every picture, with a gradient of zero."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) * 0 + torch.tensor([0.0, 1.0, 2.0])


@each
def test_what_cannot_be_fooled_comes_back_unchanged(attack: Attack) -> None:
    x, y = torch.rand(5, 1, 4, 4), torch.full((5,), 2)
    assert torch.equal(attack(Steady(), x, y), x)
    assert torch.equal(attack(Steady(), x, y, target=torch.zeros_like(y)), x)


@each
def test_every_row_is_fooled_and_one_already_wrong_left_alone(attack: Attack, trained: Trained) -> None:
    net, x, y = trained.net, trained.x[:24], trained.net(trained.x[:24]).argmax(1)
    y[::3] = (y[::3] + 1) % 5
    adv = attack(net, x, y)
    assert torch.equal(adv[::3], x[::3])
    assert bool(wrong(net, adv, y).all())
    assert (np.delete(sizes(attack, adv, x), np.arange(0, 24, 3)) > 0).all()


@each
def test_every_target_is_reached(attack: Attack, trained: Trained) -> None:
    x, y = trained.x[:16], trained.net(trained.x[:16]).argmax(1)
    target = (y + 2) % 5
    assert torch.equal(trained.net(attack(trained.net, x, y, target=target)).argmax(1), target)
    assert torch.equal(attack(trained.net, x, (y + 1) % 5, target=y), x)


@each
def test_the_gradients_are_no_more_than_the_steps(attack: Attack, trained: Trained) -> None:
    counting = Counting(trained.net)
    attack(counting, trained.x[:8], trained.y[:8])
    runs = {"cw": "searches", "ead": "targets"}.get(attack.name, "")
    assert 0 < counting.backwards <= 8 * getattr(attack, "steps") * getattr(attack, runs, 1)  # noqa: B009
    # One to judge each last point, and those that shorten the perturbation.
    assert counting.forwards <= counting.backwards + 8 * (8 + 2 * 5)


def test_a_confidence_is_passed_and_costs_distance(trained: Trained) -> None:
    net, x, y = trained.net, trained.x[:16], trained.net(trained.x[:16]).argmax(1)
    attack = CarliniWagner(steps=40, searches=6)
    sure = CarliniWagner(steps=40, searches=6, confidence=2.0)
    adv = sure(net, x, y)
    logits = net(adv).detach()
    margin = logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)
    assert float(margin.max()) < -2
    assert float(margin.mean()) > -2.5
    assert (sizes(sure, adv, x) > sizes(attack, attack(net, x, y), x)).all()


@pytest.mark.parametrize("constant", [1e-3, 1.0, 1e3])
def test_the_first_constant_hardly_matters(constant: float, trained: Trained) -> None:
    net, x, y = trained.net, trained.x[:16], trained.net(trained.x[:16]).argmax(1)
    attack = CarliniWagner(steps=40)
    fixed = CarliniWagner(steps=40, constant=constant)
    assert sizes(fixed, fixed(net, x, y), x).mean() <= 1.1 * sizes(attack, attack(net, x, y), x).mean()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fmn_never_leaves_the_ball_of_its_radius(norm: str, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """foolbox 3.3.4's L2 projection does."""
    advance, seen = fmn_module._Fmn.advance, []

    def watched(self: Any, problem: Problem, state: Any, answer: Evaluation) -> None:
        advance(self, problem, state, answer)
        size = norms.get(norm).size((state.point - problem.x).double())
        seen.append(float((size - state.radius).max()))
        assert float(state.point.min()) >= 0
        assert float(state.point.max()) <= 1

    monkeypatch.setattr(fmn_module._Fmn, "advance", watched)
    FMN(norm=norm, steps=30)(trained.net, trained.x[:16], trained.y[:16])
    assert len(seen) == (30 if norm == "linf" else 18)  # the others are tangent steps
    assert max(seen) <= 1e-6


# foolbox's attacks of the same name, at no fewer gradients


class Pixels(nn.Module):
    """A classifier of the zoo for foolbox."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model, self.net = model, model.net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.model._normalised(x))


PEERS = {
    "cw": (
        CarliniWagner(steps=30, searches=5),
        foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=5, steps=30, stepsize=0.1, abort_early=False),
    ),
    "ddn": (DDN(steps=50), foolbox.attacks.DDNAttack(steps=50)),
    "ead": (
        EAD(steps=60, targets=5),
        foolbox.attacks.EADAttack(binary_search_steps=5, steps=60, decision_rule="L1", abort_early=False),
    ),
    "fmn-linf": (FMN(norm="linf", steps=100), foolbox.attacks.LInfFMNAttack(steps=100)),
    "fmn-l2": (FMN(norm="l2", steps=100), foolbox.attacks.L2FMNAttack(steps=100)),
    "fmn-l1": (FMN(norm="l1", steps=100), foolbox.attacks.L1FMNAttack(steps=100)),
}


@pytest.mark.parametrize("name", ["lenet-mnist", "lenet-mnist-pgd"])
@pytest.mark.parametrize("peer", PEERS)
def test_it_is_at_least_as_tight_as_foolboxs(peer: str, name: str) -> None:
    model = load_model(name, device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 24, 24))
    x, y = batch.x, model.logits(batch.x).argmax(1)
    attack, other = PEERS[peer]
    theirs = other(foolbox.PyTorchModel(Pixels(model).eval(), bounds=(0, 1)), x, y, epsilons=None)[0]

    def distances(adv: Tensor) -> np.ndarray:
        return np.where(model.logits(adv).argmax(1) != y, sizes(attack, adv, x), np.inf)

    ours = distances(attack(model, x, y))
    both = np.isfinite(ours) & np.isfinite(distances(theirs))
    assert np.isfinite(ours).all()
    assert both.mean() > 0.5
    for figure in (np.median, np.mean):  # of what both break
        assert figure(ours[both]) <= 1.01 * figure(distances(theirs)[both])


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (CarliniWagner, {"norm": "linf"}),
        (CarliniWagner, {"steps": 0}),
        (CarliniWagner, {"searches": 1.5}),
        (CarliniWagner, {"step_size": -1}),
        (CarliniWagner, {"constant": 0}),
        (CarliniWagner, {"confidence": -0.1}),
        (CarliniWagner, {"confidence": "high"}),
        (DDN, {"norm": "l1"}),
        (DDN, {"steps": True}),
        (DDN, {"radius": 0}),
        (DDN, {"gamma": 1}),
        (EAD, {"norm": "l2"}),
        (EAD, {"steps": 0}),
        (EAD, {"searches": 0}),
        (EAD, {"targets": 0}),
        (EAD, {"beta": 0}),
        (EAD, {"step_size": float("nan")}),
        (FMN, {"norm": "l0"}),
        (FMN, {"steps": 0}),
        (FMN, {"step_size": 0}),
        (FMN, {"gamma": 0.6}),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(kind: type[Attack], bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        kind(**bad)


def test_cw_finds_the_nearest_of_many_classes_on_a_linear_model() -> None:
    """The likeliest class is often not the nearest; in the middle of the box the distance is known in closed form."""
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn(10, 64, generator=draw)
        net, x = linear(weight, torch.zeros(10)), torch.rand(16, 1, 8, 8, generator=draw) * 0.2 + 0.4
        z = (x.flatten(1) @ weight.T).detach()
        y = z.argmax(1)
        slopes = (weight[y][:, None] - weight).norm(dim=2)
        least = ((z.gather(1, y[:, None]) - z) / slopes).nan_to_num(nan=torch.inf).amin(1)
        assert float(((CarliniWagner()(net, x, y) - x).flatten(1).norm(dim=1) / least).max()) < 1.03
