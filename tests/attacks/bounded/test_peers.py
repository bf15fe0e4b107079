"""Against the papers' formulas, foolbox and SciPy."""

from __future__ import annotations

import foolbox
import numpy as np
import pytest
import torch
from attack_models import Scaled, Trained, conv_net, wrong
from scipy.optimize import minimize
from torch import Tensor, nn

from robustkit.attacks import BIM, FGSM, LBFGS, PGD, Classifier
from robustkit.attacks.minimum_norm.lbfgs import _CLOSE, _FACTOR, _first_guess
from robustkit.attacks.minimum_norm.penalty_search import PenaltySearch

STEPS = 20


def by_foolbox(
    kind: str, net: nn.Module, x: Tensor, y: Tensor, eps: float, seed: int = 0, **settings: object
) -> Tensor:
    torch.manual_seed(seed)
    attack = getattr(foolbox.attacks, kind)(**settings)
    wrapped = foolbox.PyTorchModel(net.eval(), bounds=(0, 1), device="cpu")
    return attack(wrapped, x, foolbox.criteria.Misclassification(y), epsilons=eps)[1]


def fooled(net: nn.Module, x: Tensor, y: Tensor) -> int:
    return int(wrong(net, x, y).sum())


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_fgsm_is_the_textbook_formula_and_foolbox_agrees(trained: Trained, eps: float) -> None:
    net, x, y = conv_net().double().eval(), trained.x.double(), trained.y
    net.load_state_dict(trained.net.state_dict())
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(leaf), y, reduction="sum"), leaf)
    adv = FGSM(eps=eps)(net, x, y)
    torch.testing.assert_close(adv, (x + eps * slope.sign()).clamp(0, 1), atol=1e-12, rtol=0)
    theirs = by_foolbox("LinfFastGradientAttack", net, x, y, eps)
    torch.testing.assert_close(adv, theirs, atol=1e-6, rtol=0)


def test_targeted_fgsm_descends_on_the_target_instead(trained: Trained) -> None:
    net, x, target = conv_net().double().eval(), trained.x.double(), (trained.y + 1) % 5
    net.load_state_dict(trained.net.state_dict())
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(net(leaf), target, reduction="sum"), leaf)
    adv = FGSM(eps=0.1)(net, x, trained.y, target=target)
    torch.testing.assert_close(adv, (x - 0.1 * slope.sign()).clamp(0, 1), atol=1e-12, rtol=0)


def test_l2_fgsm_away_from_the_box_is_foolboxs_and_at_its_edge_uses_more_of_the_budget(trained: Trained) -> None:
    net, y = trained.net, trained.y
    middle, eps = trained.x * 0.2 + 0.4, 0.3
    theirs = by_foolbox("L2FastGradientAttack", net, middle, y, eps)
    torch.testing.assert_close(FGSM(norm="l2", eps=eps)(net, middle, y), theirs, atol=1e-5, rtol=0)
    for eps in (0.5, 1.0, 2.0):
        ours, theirs = (
            FGSM(norm="l2", eps=eps)(net, trained.x, y),
            by_foolbox("L2FastGradientAttack", net, trained.x, y, eps),
        )
        assert fooled(net, ours, y) >= fooled(net, theirs, y)
        size = (ours - trained.x).flatten(1).norm(dim=1)
        assert float(size.min()) > 0.999 * eps
        assert bool((size >= (theirs - trained.x).flatten(1).norm(dim=1) - 1e-5).all())


@pytest.mark.parametrize(
    ("peer", "norm", "eps"),
    [
        *(("LinfBasicIterativeAttack", "linf", eps) for eps in (0.05, 0.1, 0.15, 0.2)),
        *(("L2BasicIterativeAttack", "l2", eps) for eps in (0.5, 1.0, 1.5, 2.0)),
    ],
)
def test_bim_is_not_weaker_than_foolboxs(trained: Trained, peer: str, norm: str, eps: float) -> None:
    net, x, y = trained
    ours = BIM(norm=norm, eps=eps, steps=STEPS, step_size=eps / 8)(net, x, y)
    theirs = by_foolbox(peer, net, x, y, eps, rel_stepsize=1 / 8, steps=STEPS, random_start=False)
    assert fooled(net, ours, y) >= fooled(net, theirs, y)


@pytest.mark.parametrize(
    ("peer", "norm", "eps"),
    [
        *(("LinfPGD", "linf", eps) for eps in (0.1, 0.15, 0.2)),
        *(("L2PGD", "l2", eps) for eps in (0.5, 1.0, 1.5)),
        *(("L1PGD", "l1", eps) for eps in (2.0, 3.0)),
    ],
)
def test_pgd_is_not_weaker_than_foolboxs(trained: Trained, peer: str, norm: str, eps: float) -> None:
    """Each breaks a row more or less with every draw of the starts, so over four draws, give or take one row."""
    net, x, y = trained
    attack = PGD(norm=norm, eps=eps, steps=STEPS, step_size=eps / 8)
    ours = [fooled(net, attack(net, x, y, seed=seed), y) for seed in range(4)]
    theirs = [
        fooled(net, by_foolbox(peer, net, x, y, eps, seed, rel_stepsize=1 / 8, steps=STEPS), y) for seed in range(4)
    ]
    assert np.mean(ours) >= np.mean(theirs) - 1
    assert min(ours) > 0


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 1.2), ("l1", 3.0)])
def test_a_random_start_costs_little(trained: Trained, norm: str, eps: float) -> None:
    net, x, y = trained
    still, thrown = (PGD(norm=norm, eps=eps, steps=40, random_start=random)(net, x, y) for random in (False, True))
    assert fooled(net, thrown, y) >= 0.9 * fooled(net, still, y) > 5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_confident_logits_do_not_hide_the_gradient(trained: Trained, norm: str) -> None:
    """Times 1e4 the cross-entropy is exactly 0 and so is its gradient: foolbox stands still, we do not."""
    net, x, y = trained
    loud, eps = Scaled(net, 1e4), {"linf": 0.15, "l2": 1.5}[norm]
    attack = PGD(norm=norm, eps=eps, steps=STEPS)
    plain, ours = fooled(net, attack(net, x, y), y), fooled(net, attack(loud, x, y), y)
    theirs = fooled(net, by_foolbox("LinfPGD" if norm == "linf" else "L2PGD", loud, x, y, eps, steps=STEPS), y)
    assert plain > 10
    assert ours >= 0.95 * plain
    assert theirs < 0.5 * ours


def test_fgsm_breaks_a_two_class_model_alike_at_any_scale() -> None:
    torch.manual_seed(0)
    net, x = conv_net(classes=2).eval(), torch.rand(32, 1, 8, 8)
    y = net(x).argmax(1)
    plain = FGSM(eps=0.2)(net, x, y)
    for scale in (1e-6, 1e4, 1e8):
        same = (FGSM(eps=0.2)(Scaled(net, scale), x, y) - plain).abs() < 1e-6
        assert float(same.float().mean()) > 0.999  # but for gradients that are all rounding


def scipy_lbfgs(net: nn.Module, x: Tensor, label: int, aim: int, *, targeted: bool) -> tuple[float, int]:
    """Size of the smallest adversarial perturbation of one picture that SciPy finds, and gradients taken."""
    start, best, best_point, count = x.flatten().double().numpy(), np.inf, None, 0
    goal = torch.tensor([aim])
    hit = False

    def evaluate(point: np.ndarray, c: float) -> tuple[float, np.ndarray]:
        nonlocal best, best_point, count, hit
        count += 1
        leaf = torch.from_numpy(point).to(x.dtype).view(1, *x.shape).requires_grad_()
        logits = net(leaf)
        value = nn.functional.cross_entropy(logits, goal)
        (slope,) = torch.autograd.grad(value, leaf)
        loss = value.item()
        r = point - start
        reached = int(logits.argmax()) == aim if targeted else int(logits.argmax()) != label
        hit = hit or reached
        if reached and np.linalg.norm(r) < best:
            best, best_point = np.linalg.norm(r), point.copy()
        return c * (r @ r) + loss, 2 * c * r + slope.flatten().double().numpy()

    loss, slope = evaluate(start, 0.0)
    search = PenaltySearch.start(_first_guess(torch.tensor([loss]), torch.from_numpy(slope)[None]))
    attack, yes = LBFGS(), torch.ones(1, dtype=torch.bool)
    point = start
    while int(search.tried) < attack.searches and not bool(search.high < _CLOSE * search.low):
        hit = False
        options = {"maxfun": attack.steps, "maxcor": attack.memory}
        found = minimize(
            evaluate,
            point,
            args=(float(search.c),),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * len(start),
            options=options,
        )
        point = found.x if best_point is None else best_point
        search.update(yes, yes & hit, _FACTOR)
    return best, count


@pytest.mark.parametrize("targeted", [True, False])
def test_lbfgs_is_as_good_as_scipys_with_no_more_gradients(trained: Trained, targeted: bool) -> None:
    net, x, y = trained.net, trained.x[:10], trained.y[:10]
    aims = (y + 2) % 5 if targeted else net(x).detach().scatter(1, y[:, None], -torch.inf).argmax(1)
    theirs = [
        scipy_lbfgs(net, row, int(label), int(aim), targeted=targeted)
        for row, label, aim in zip(x, y, aims, strict=True)
    ]
    model = Classifier(net)
    adv = LBFGS(candidates=1)(model, x, y, target=aims if targeted else None)
    assert bool((net(adv).argmax(1) == aims if targeted else net(adv).argmax(1) != y).all())
    mean = float((adv - x).flatten(1).norm(dim=1).mean())
    assert mean <= 1.02 * np.mean([size for size, _ in theirs])
    assert model.backwards <= sum(count for _, count in theirs)
