"""What holds for every attack that sees scores or labels alone: its budget, its access, and its seeds."""

from __future__ import annotations

import pytest
import torch
from attack_models import Counting, Trained, plane, wrong
from torch import Tensor

from robustkit.attacks import NES, Attack, Boundary, Classifier, Foolbox, HopSkipJump, SimBA
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.registry import ATTACKS

BLIND = sorted(name for name, kind in ATTACKS.items() if kind.access != "gradient" and not kind.control)
MINE = {
    "hopskipjump-l2": HopSkipJump(),
    "hopskipjump-linf": HopSkipJump(norm="linf"),
    "boundary": Boundary(),
    "simba-pixel": SimBA(eps=0.05, basis="pixel"),
    "simba-dct-linf": SimBA(norm="linf", eps=0.005),
    "nes-linf": NES(eps=0.005, samples=10),
    "nes-l2": NES(norm="l2", eps=0.05, samples=10),
}


def resized(attack: Attack, **changes: object) -> Attack:
    return type(attack)(**{**attack.parameters(), **changes})


@pytest.mark.parametrize("queries", [1, 2, 7, 50, 333])
@pytest.mark.parametrize("name", MINE)
def test_the_budget_is_spent_to_the_query_and_never_overrun(trained: Trained, name: str, queries: int) -> None:
    x, y = trained.x[:12], trained.y[:12].clone()
    y[3] = (y[3] + 1) % 5  # wrong already
    already = wrong(trained.net, x, y)
    net, trace = Counting(trained.net), Trace(len(x))
    fewer = {"samples": NES.samples} if name.startswith("nes") and queries < 12 else {}  # which bow to the budget
    adv = resized(MINE[name], queries=queries, **fewer)(net, x, y, trace=trace)
    assert int(trace.forwards.max()) <= queries
    assert int(trace.forwards.sum()) == net.forwards
    assert net.backwards == 0
    assert torch.equal(trace.forwards[already], torch.ones_like(trace.forwards[already]))
    assert torch.equal(adv[already], x[already])
    busy = ~already if MINE[name].minimum_norm else ~wrong(trained.net, adv, y)
    assert bool((trace.forwards[busy] == queries).all())
    assert bool(busy.any())


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("outputs", ["probabilities", "labels"])
def test_every_black_box_attack_runs_on_a_plain_function(trained: Trained, name: str, outputs: str) -> None:
    net, x, y = trained.net, trained.x[:8], trained.y[:8]

    def answer(x: Tensor) -> Tensor:
        with torch.no_grad():
            return net(x).argmax(1) if outputs == "labels" else net(x).softmax(1)

    settings = {"queries": 60} if "queries" in ATTACKS[name]().parameters() else {}
    attack, model = ATTACKS[name](**settings), Classifier(answer, outputs=outputs, classes=5)
    if outputs == "labels" and attack.access != "labels":
        with pytest.raises(ValueError, match="labels alone"):
            attack(model, x, y)
        return
    adv = attack(model, x, y)
    assert adv.shape == x.shape
    assert model.backwards == 0
    if attack.minimum_norm:
        moved = (adv != x).flatten(1).any(1)
        assert torch.equal(wrong(net, adv, y), moved | wrong(net, x, y))


@pytest.mark.parametrize("name", MINE)
def test_labels_or_scores_say_the_same_as_the_network(trained: Trained, name: str) -> None:
    """What is behind the answers makes no difference: logits, or a function that gives labels or probabilities."""
    attack, x, y = resized(MINE[name], queries=60), trained.x[:6], trained.y[:6]
    outputs = attack.access if attack.access == "labels" else "probabilities"

    def answer(x: Tensor) -> Tensor:
        logits = trained.net(x).detach()
        return logits.argmax(1) if outputs == "labels" else logits.softmax(1)

    there = attack(Classifier(answer, outputs=outputs, classes=5), x, y, seed=2)
    here = attack(trained.net, x, y, seed=2)
    assert torch.equal(wrong(trained.net, there, y), wrong(trained.net, here, y))
    if outputs == "labels":
        torch.testing.assert_close(there, here, atol=0, rtol=0)


@pytest.mark.parametrize("name", MINE)
def test_a_row_is_the_same_in_any_batch_and_order(name: str) -> None:
    """Bit for bit on a model whose answer to a row is: in double precision, with labels or scores."""
    p = plane((1, 4, 4), 9, torch.float64, margin=0.5, middle=False)
    attack, ids = resized(MINE[name], queries=120), torch.arange(9) * 3
    whole = attack(p.net, p.x, p.y, ids=ids, seed=4)
    order = torch.randperm(9)
    shuffled = attack(p.net, p.x[order], p.y[order], ids=ids[order], seed=4)
    torch.testing.assert_close(shuffled, whole[order], atol=1e-9, rtol=0)
    for rows in (slice(0, 1), slice(4, 7)):
        part = attack(p.net, p.x[rows], p.y[rows], ids=ids[rows], seed=4)
        torch.testing.assert_close(part, whole[rows], atol=1e-9, rtol=0)
    few = resized(attack, queries=20)  # later they may agree: there is one optimum
    assert not torch.equal(few(p.net, p.x, p.y, ids=ids, seed=5), few(p.net, p.x, p.y, ids=ids, seed=4))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        *(
            (kind, {"queries": queries}, "queries")
            for kind in (HopSkipJump, Boundary, SimBA, NES)
            for queries in (0, 1.5)
        ),
        (HopSkipJump, {"norm": "l1"}, "HopSkipJump works in l2 and linf"),
        (HopSkipJump, {"probes": 0}, "probes"),
        (Boundary, {"norm": "linf"}, "Boundary works in l2"),
        (SimBA, {"norm": "l1"}, "SimBA works in l2 and linf"),
        (SimBA, {"basis": "fourier"}, "basis is one of pixel, dct"),
        (SimBA, {"step_size": 0}, "step_size"),
        (SimBA, {"eps": -1}, "eps"),
        (NES, {"norm": "l1"}, "NES works in linf and l2"),
        (NES, {"samples": 1}, "samples"),
        (NES, {"sigma": 2}, "sigma"),
        (NES, {"loss": "hinge"}, "loss is one of"),
    ],
)
def test_a_bad_parameter_is_named(kind: type[Attack], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    "attack",
    [HopSkipJump(queries=60), HopSkipJump(norm="linf", queries=60), Boundary(queries=60), Foolbox("BoundaryAttack")],
    ids=str,
)
def test_the_trace_tells_the_rows_without_a_start(attack: Attack) -> None:
    """Class 1 is any picture whose first pixel is bright, class 2 nearly none: a start towards it is not found."""

    def answer(x: Tensor) -> Tensor:
        first, rest = x.flatten(1)[:, 0], x.flatten(1)[:, 1:]
        hidden = (rest - 0.3).abs().amax(1) < 1e-6
        return torch.where(hidden, 2, (first > 0.6).long())

    x, y = torch.full((3, 1, 4, 4), 0.4), torch.zeros(3, dtype=torch.int64)
    model, trace = Classifier(answer, outputs="labels", classes=3), Trace(3)
    adv = attack(model, x, y, target=torch.tensor([1, 2, 1]), trace=trace, seed=1)
    assert attack.needs_start
    assert trace.unstarted.tolist() == [False, True, False]
    assert torch.equal(adv[1], x[1])
    assert answer(adv[[0, 2]]).tolist() == [1, 1]
    whole = Trace(5)
    whole.put(torch.tensor([4, 0, 2]), trace)
    assert whole.unstarted.tolist() == [True, False, False, False, False]


def test_a_row_that_is_wrong_already_has_its_start(trained: Trained) -> None:
    already, trace = wrong(trained.net, trained.x, trained.y + 0), Trace(len(trained.x))
    HopSkipJump(queries=1)(trained.net, trained.x, trained.y, trace=trace)
    assert torch.equal(trace.unstarted, ~already)
    assert not SimBA.needs_start
    assert not NES.needs_start
