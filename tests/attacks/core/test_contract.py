"""What holds for every attack: budget, batches, seeds, counts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from attack_models import NORMS, Counting, Trained, conv_net, dual, every_attack, label, plane, wrong
from torch import Tensor, nn

from robustkit.attacks import BIM, FGSM, LBFGS, MIFGSM, PGD, Attack, Classifier
from robustkit.attacks.geometry import norms as norms_module
from robustkit.attacks.registry import ATTACKS

ATTACKS_AT_TENTH = every_attack(0.1, steps=5)
each_attack = pytest.mark.parametrize("attack", ATTACKS_AT_TENTH, ids=label)


def size(attack: Attack, r: Tensor) -> Tensor:
    return norms_module.get(attack.norm).size(r.double())


# Budget and box


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("norm", "eps"),
    [(norm, eps) for norm in NORMS for eps in (1e-4, 0.3, 1.0, 50.0) if norm != "linf" or eps <= 1],
)
@pytest.mark.parametrize("corners", [False, True])
def test_no_attack_leaves_ball_or_box(norm: str, eps: float, dtype: torch.dtype, corners: bool) -> None:
    net, x = conv_net(channels=3).eval().to(dtype), torch.rand(9, 3, 8, 8, dtype=dtype)
    x = x.round() if corners else x
    y = net(x).argmax(1)
    for attack in every_attack(eps, (norm,), steps=5):
        for settings in ({}, {"target": (y + 1) % 5}):
            adv = attack(net, x, y, **settings)
            assert adv.shape == x.shape
            assert adv.dtype == dtype
            assert float(adv.min()) >= 0
            assert float(adv.max()) <= 1
            if attack.ball and not attack.minimum_norm:
                assert float(size(attack, adv.double() - x.double()).max()) <= eps + 1e-6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [FGSM, BIM, PGD, MIFGSM])
def test_an_unbounded_attack_fools_every_row(trained: Trained, kind: type[Attack], norm: str) -> None:
    eps = {"linf": 1.0, "l2": 8.0, "l1": 64.0}[norm]
    adv = kind(norm=norm, eps=eps)(trained.net, trained.x, trained.y)
    least = 0.5 if kind is FGSM else 1.0  # one step overshoots
    assert float(wrong(trained.net, adv, trained.y).float().mean()) >= least


@pytest.mark.parametrize("kind", [FGSM, BIM, PGD, MIFGSM])
@pytest.mark.parametrize("norm", NORMS)
def test_one_step_moves_and_the_result_is_not_the_clean_picture(kind: type[Attack], norm: str) -> None:
    net, x = conv_net().eval(), torch.rand(5, 1, 8, 8)
    y = net(x).argmax(1)
    attack = FGSM(norm=norm, eps=0.01) if kind is FGSM else kind(norm=norm, eps=0.01, steps=1)
    assert float(size(attack, attack(net, x, y) - x).min()) > 0.001


@pytest.mark.parametrize("kind", [FGSM, BIM, PGD, MIFGSM, LBFGS])
def test_targets_are_reached_on_an_easy_model(trained: Trained, kind: type[Attack]) -> None:
    """The nearer of two classes, far inside what is allowed."""
    net, x, y = trained
    runners_up = net(x).detach().scatter(1, y[:, None], -torch.inf)
    target = runners_up.argmax(1)
    adv = (LBFGS() if kind is LBFGS else kind(eps=0.3))(net, x, y, target=target)
    reached = net(adv).argmax(1) == target
    assert float(reached.float().mean()) >= (0.8 if kind is FGSM else 1.0)


def test_bf16_gradients_change_nothing_about_the_verdict(trained: Trained) -> None:
    """What an attack lets go as fooled is fooled in full precision, and L-BFGS returns nothing else."""
    net, x, y = trained
    model = Classifier(net, precision="bf16")
    adv = LBFGS()(model, x, y)
    moved = (adv != x).flatten(1).any(1)
    assert torch.equal(wrong(net, adv, y), moved | wrong(net, x, y))
    assert float(moved.float().mean()) > 0.9
    for attack in (BIM(eps=0.15), PGD(eps=0.15), MIFGSM(eps=0.15)):
        half, full = (int(wrong(net, attack(m, x, y), y).sum()) for m in (model, Classifier(net)))
        assert abs(half - full) <= 3
        assert half > 10


def test_a_row_that_is_fooled_in_bf16_alone_is_not_let_go() -> None:
    """So near the boundary that rounding decides; a few more small steps fool every row in earnest."""
    p = plane((3, 5, 7), 64, torch.float32, margin=0.004, middle=True)
    step = 0.001 / dual(p.w, "linf")
    model = Classifier(p.net, precision="bf16")
    logits, _, _ = model.gradient(p.x, lambda out: out.sum(1))
    assert 10 < int((logits[:, 0] < logits[:, 1]).sum()) < 54
    assert not bool(wrong(p.net, p.x, p.y).any())
    for kind in (BIM, MIFGSM):
        adv = kind(eps=20 * step, steps=12, step_size=step)(model, p.x, p.y)
        assert bool(wrong(p.net, adv, p.y).all())


def test_the_clean_answer_of_a_bf16_model_is_full_precision(trained: Trained) -> None:
    model = Classifier(trained.net, precision="bf16")
    torch.testing.assert_close(model.logits(trained.x), trained.net(trained.x).detach(), atol=1e-5, rtol=1e-5)
    logits, _, _ = model.gradient(trained.x, lambda out: out.sum(1))
    assert not torch.equal(logits, model.logits(trained.x))  # and the gradient's forward pass is not


# Batches and seeds


@each_attack
def test_batch_size_and_order_change_no_verdict(trained: Trained, attack: Attack) -> None:
    net, x, y = trained
    ids = torch.arange(100, 164)
    attack = attack.fitted(Classifier(net), lambda: [(x, y, ids)], 3)  # else one change for all is another per batch
    whole = attack(net, x, y, ids=ids, seed=3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = attack(net, x[order], y[order], ids=ids[order], seed=3)
    assert torch.equal(wrong(net, shuffled, y[order]), wrong(net, whole, y)[order])
    for rows in (7, 1):
        parts = [slice(i, i + rows) for i in range(0, 64 if rows == 7 else 8, rows)]
        pieces = torch.cat([attack(net, x[p], y[p], ids=ids[p], seed=3) for p in parts])
        assert torch.equal(wrong(net, pieces, y[: len(pieces)]), wrong(net, whole, y)[: len(pieces)])


class Recorder(nn.Module):
    """Keeps the first batch of points that it is asked about."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.first = net, None

    def forward(self, x: Tensor) -> Tensor:
        if self.first is None:
            self.first = x.detach().clone()
        return self.net(x)


def starts(x: Tensor, y: Tensor, norm: str, **names: object) -> Tensor:
    net = Recorder(conv_net())
    PGD(norm=norm, eps=0.2, steps=1)(net, x, y, **names)
    return net.first


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_bit_for_bit_a_matter_of_seed_and_id(norm: str) -> None:
    x, y = torch.rand(64, 1, 8, 8), torch.zeros(64, dtype=torch.int64)
    ids = torch.arange(64) * 7
    whole = starts(x, y, norm, ids=ids, seed=5)
    order = torch.randperm(64)
    assert torch.equal(starts(x[order], y[order], norm, ids=ids[order], seed=5), whole[order])
    for rows in (slice(0, 1), slice(9, 16)):
        assert torch.equal(starts(x[rows], y[rows], norm, ids=ids[rows], seed=5), whole[rows])
    for other in (starts(x, y, norm, ids=ids, seed=6), starts(x, y, norm, ids=ids + 1, seed=5)):
        assert not bool((other == whole).flatten(1).all(1).any())


def test_the_callers_random_state_is_neither_read_nor_moved(trained: Trained) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = PGD(steps=3)(trained.net, trained.x, trained.y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(PGD(steps=3)(trained.net, trained.x, trained.y), first)


def test_equal_pictures_with_other_ids_start_elsewhere() -> None:
    x, y = torch.full((3, 1, 8, 8), 0.5), torch.zeros(3, dtype=torch.int64)
    first = starts(x, y, "linf")
    assert not torch.equal(first[0], first[1])
    assert float((first - x).abs().max()) <= 0.2 + 1e-6


def test_another_restart_starts_elsewhere_and_only_helps(trained: Trained) -> None:
    net, x, y = trained
    fooled = [wrong(net, PGD(eps=0.12, steps=4, restarts=n)(net, x, y), y) for n in (1, 2, 6)]
    assert bool((fooled[0] <= fooled[1]).all())
    assert bool((fooled[1] <= fooled[2]).all())
    assert int(fooled[2].sum()) > int(fooled[0].sum())


@pytest.mark.parametrize("norm", NORMS)
def test_without_early_stop_the_best_margin_is_at_least_as_good(trained: Trained, norm: str) -> None:
    net, x, y = trained
    eps = {"linf": 0.15, "l2": 1.2, "l1": 3.0}[norm]

    def margin(early_stop: bool) -> Tensor:
        logits = net(PGD(norm=norm, eps=eps, steps=10, early_stop=early_stop)(net, x, y)).detach()
        return logits.gather(1, y[:, None])[:, 0] - logits.scatter(1, y[:, None], -torch.inf).amax(1)

    stopped, whole = margin(True), margin(False)
    assert bool((whole <= stopped + 1e-4).all())
    assert float(whole.mean()) < float(stopped.mean())


# Counting


class Viewing(nn.Module):
    """Its forward fails on the channels_last layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(len(x), -1))


NETS: dict[str, Callable[[], nn.Module]] = {"plain": lambda: conv_net(channels=3), "view": Viewing}


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ATTACKS)
def test_forwards_and_backwards_are_what_went_through_the_network(name: str, net: str, early_stop: bool) -> None:
    torch.manual_seed(0)
    counting, x = Counting(NETS[net]()), torch.rand(11, 3, 8, 8)
    y = counting.net.eval()(x).argmax(1)
    y[0] = (y[0] + 1) % 5
    small = {"early_stop": early_stop, "steps": 10, "queries": 100}
    settings = {key: value for key, value in small.items() if key in ATTACKS[name]().parameters()}
    attack, model = ATTACKS[name](**settings), Classifier(counting)
    for _ in range(2):
        attack(model, x, y)
        model.logits(x)
        assert (model.forwards, model.backwards) == (counting.forwards, counting.backwards)
    assert model.backwards > 0 or attack.access != "gradient"


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("steps", [1, 6])
def test_steps_and_restarts_are_the_gradients_a_row_costs(steps: int, restarts: int) -> None:
    net, x = conv_net().eval(), torch.rand(4, 1, 8, 8)
    model, y = Classifier(net), net(x).argmax(1)
    PGD(steps=steps, restarts=restarts, early_stop=False)(model, x, y)
    assert model.backwards == 4 * steps * restarts
    assert model.forwards == 4 * (steps + 1) * restarts


def test_fgsm_costs_one_gradient_and_one_more_look() -> None:
    model = Classifier(conv_net())
    FGSM()(model, torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    assert (model.forwards, model.backwards) == (8, 4)


def test_a_fooled_row_costs_no_further_gradients(trained: Trained) -> None:
    hasty, patient = Classifier(trained.net), Classifier(trained.net)
    BIM(eps=0.5)(hasty, trained.x, trained.y)
    BIM(eps=0.5, early_stop=False)(patient, trained.x, trained.y)
    assert hasty.backwards < 0.6 * patient.backwards


def test_a_network_that_needs_the_default_layout_gives_the_same_answer() -> None:
    torch.manual_seed(0)
    viewing, x = Viewing(), torch.rand(6, 3, 8, 8)
    same = nn.Sequential(viewing.conv, nn.Flatten(), viewing.head)
    y = same(x).argmax(1)
    torch.testing.assert_close(BIM(norm="l2")(viewing, x, y), BIM(norm="l2")(same, x, y), atol=1e-5, rtol=0)


# On the GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("norm", NORMS)
def test_cuda_has_the_cpus_random_starts(norm: str) -> None:
    x, y = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.int64)
    net = Recorder(conv_net().cuda())
    PGD(norm=norm, eps=0.2, steps=1)(net, x.cuda(), y.cuda())
    torch.testing.assert_close(net.first.cpu(), starts(x, y, norm), atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@each_attack
def test_cuda_fools_as_many_rows_as_the_cpu(trained: Trained, attack: Attack) -> None:
    there = copy.deepcopy(trained.net).cuda()
    y = trained.y.clone()
    y[0] = (y[0] + 1) % 5  # wrong from the start: done at once, while the batch is packed seldom
    adv = attack(there, trained.x.cuda(), y.cuda())
    assert adv.device.type == "cuda"
    here = wrong(trained.net, attack(trained.net, trained.x, y), y)
    assert abs(int(wrong(trained.net, adv.cpu(), y).sum()) - int(here.sum())) <= 2
    if attack.minimum_norm:
        assert torch.equal(adv[0].cpu(), trained.x[0])
