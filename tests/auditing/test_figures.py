"""The figures of an audit against what can be computed without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from audit_tools import Counting, lenet, plane
from torch import Tensor, nn

from robustkit import audit, load_data, reports
from robustkit.attacks import FGSM, LBFGS, PGD, Attack, Classifier
from robustkit.attacks.core.problem import Problem
from robustkit.errors import AuditFailed, ModelError

ROWS = 12
Act = Callable[[Attack, Classifier, Problem], Tensor]


def scripted(act: Act, named: str = "Scripted", minimum: bool = False) -> Attack:
    """An attack that does just this."""

    @dataclass(frozen=True)
    class Scripted(Attack):
        name: ClassVar[str] = "scripted"
        title: ClassVar[str] = named
        paper: ClassVar[str] = "none"
        minimum_norm: ClassVar[bool] = minimum
        norm: str = "linf"
        eps: float = 0.1

        def run(self, model: Classifier, problem: Problem) -> Tensor:
            return act(self, model, problem)

    return Scripted()


def grid_between(distances: Tensor, right: Tensor) -> list[float]:
    """Four ε, each halfway between two neighbouring distances."""
    ordered = distances[right].sort().values
    return [float(a + b) / 2 for a, b in list(pairwise(ordered.tolist()))[1::2][:4]]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", [FGSM, PGD, LBFGS])
def test_robust_accuracy_of_a_linear_model_is_the_closed_form(kind: type[Attack], norm: str) -> None:
    given = plane(ROWS, even=kind is LBFGS)
    right, exact = given.margins > 0, given.distances(norm)
    grid = grid_between(exact, right)
    attack = LBFGS() if kind is LBFGS else kind(norm=norm)
    record = audit(given.net, (given.x, given.y), [attack], grid, norm=norm, batch_size=5)

    assert (record.clean.count, record.clean.total) == (int(right.sum()), ROWS)
    assert int(right.sum()) == ROWS - 3
    for eps, point, worst in zip(grid, record.attacks[0].curve, record.worst_case, strict=True):
        held = int((right & (exact > eps)).sum())
        assert (point.robust.count, point.robust.total) == (held, ROWS)
        assert (point.success.count, point.success.total) == (int(right.sum()) - held, int(right.sum()))
        assert worst.robust == point.robust
    for row, (found, best) in enumerate(zip(record.attacks[0].distances, exact.tolist(), strict=True)):
        if not right[row]:
            assert found is None
        elif kind is LBFGS:
            assert found == pytest.approx(best, rel=0.02)
        else:  # found at the first ε whose ball reaches over the boundary
            at = next((eps for eps in grid if eps > best), None)
            assert (found is None) if at is None else (best - 1e-6 <= found <= at + 1e-6)
    size = record.attacks[0]
    assert size.distortion.median == pytest.approx(float(torch.tensor([d for d in size.distances if d]).quantile(0.5)))
    if norm == "l2":
        each = [d / 4 for d in size.distances if d]  # 16 input values
        assert [r for r in size.rms_each if r] == pytest.approx(each, rel=1e-5)


def test_what_is_wrong_already_is_counted_once_and_never_attacked() -> None:
    given = plane(ROWS)
    asked: list[int] = []

    def note(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        asked.extend(problem.ids.tolist())
        return problem.x

    net = Counting(given.net)
    record = audit(net, (given.x, given.y), [scripted(note), PGD(steps=3)], [0.001, 0.03], batch_size=5)
    wrong = [row for row in range(ROWS) if given.margins[row] < 0]
    assert len(wrong) == 3
    assert sorted(set(asked)) == [row for row in range(ROWS) if row not in wrong]
    assert len(asked) == 2 * (ROWS - 3)  # nothing broken, so at both ε
    for row in wrong:
        seen = sum(int((batch == given.x[row]).flatten(1).all(1).sum()) for batch in net.seen)
        assert seen == 1 + (row == 0)  # the first sample is also asked how many classes there are
        assert record.samples.distances[row] == 0.0
        assert [a.distances[row] for a in record.attacks] == [None, None]
        assert [a.predictions[row] for a in record.attacks] == [None, None]
    assert record.worst_case[0].robust.count == ROWS - 3


@pytest.mark.parametrize("kind", [FGSM(), PGD(steps=4, restarts=2), LBFGS(steps=3, searches=2)])
def test_queries_per_sample_are_those_that_reach_the_model(kind: Attack) -> None:
    given = plane(ROWS)
    net = Counting(given.net)
    record = audit(net, (given.x, given.y), [kind], [0.004, 0.01, 0.02], batch_size=5)
    result, attacked = record.attacks[0], record.clean.count
    assert result.backwards * attacked == pytest.approx(net.backwards)
    judged = attacked if kind.minimum_norm else sum(attacked - point.inherited for point in result.curve)
    # Besides the attack: the number of classes, the clean answers, and a verdict on each point.
    assert result.forwards * attacked == pytest.approx(net.forwards - 1 - ROWS - judged)
    if isinstance(kind, FGSM):
        assert net.backwards == judged
        assert judged < 3 * attacked


def test_broken_at_one_eps_is_inherited_by_the_next() -> None:
    given = plane(ROWS)
    asked: dict[float, int] = {}

    def jump(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        """Breaks what lies within half of its ε."""
        asked[attack.eps] = len(problem.x)
        return FGSM(eps=attack.eps / 2)(model, problem.x, problem.goal.classes)

    exact, right = given.distances("linf"), given.margins > 0
    grid = [2 * eps for eps in grid_between(exact, right)[:3]]
    record = audit(given.net, (given.x, given.y), [scripted(jump)], grid)
    within = [int((right & (exact < eps / 2)).sum()) for eps in grid]
    assert 0 < within[0] < within[1] < within[2]
    assert [point.inherited for point in record.attacks[0].curve] == [0, within[0], within[1]]
    assert asked == {eps: ROWS - 3 - before for eps, before in zip(grid, [0, *within], strict=False)}
    # A distance of half an ε counts as broken at every ε of the grid that holds it, not only where it was found.
    robust = [point.robust.count for point in record.attacks[0].curve]
    found = [d for d in record.attacks[0].distances if d is not None]
    assert robust == [ROWS - 3 - sum(d <= eps + 1e-6 for d in found) for eps in grid]
    assert robust == sorted(robust, reverse=True)


def test_the_worst_case_is_per_sample() -> None:
    given = plane(ROWS)

    def half(rest: int) -> Act:
        def act(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
            broken = FGSM(eps=attack.eps)(model, problem.x, problem.goal.classes)
            mine = (problem.ids % 2 == rest).view(-1, 1, 1, 1)
            return torch.where(mine, broken, problem.x)

        return act

    record = audit(given.net, (given.x, given.y), [scripted(half(0), "Even"), scripted(half(1), "Odd")], [0.2])
    even, odd = (result.curve[0].robust.count for result in record.attacks)
    assert even + odd == ROWS - 3
    assert min(even, odd) > 0
    assert record.worst_case[0].robust.count == 0
    for row in range(ROWS):
        found = [result.distances[row] for result in record.attacks if result.distances[row] is not None]
        assert record.samples.distances[row] == (0.0 if given.margins[row] < 0 else min(found))


@pytest.fixture(scope="module")
def by_batch() -> dict[int, reports.AuditRecord]:
    model, data = lenet(), load_data("mnist-samples")
    attacks = [FGSM(), PGD(steps=4), LBFGS(steps=3, searches=2, candidates=2)]
    return {size: audit(model, data, attacks, [0.03, 0.1, 0.2], samples=20, batch_size=size) for size in (1, 7, 64)}


@pytest.mark.parametrize("size", [1, 7])
def test_the_figures_do_not_depend_on_the_batch(by_batch: dict[int, reports.AuditRecord], size: int) -> None:
    one, other = by_batch[64], by_batch[size]
    assert (one.clean, one.samples.ids) == (other.clean, other.samples.ids)
    assert [p.robust for p in one.worst_case] == [p.robust for p in other.worst_case]
    assert 0 < one.worst_case[1].robust.count < 20
    for a, b in zip(one.attacks, other.attacks, strict=True):
        assert [(p.robust, p.inherited) for p in a.curve] == [(p.robust, p.inherited) for p in b.curve]
        assert a.predictions == b.predictions
        slack = 0.02 if a.kind == "minimum" else 1e-5  # the same random draws: any others differ by far more
        pairs = [(d, e) for d, e in zip(a.distances, b.distances, strict=True) if d is not None and e is not None]
        assert pairs
        assert all(d == pytest.approx(e, rel=slack) for d, e in pairs)


def test_random_draws_depend_on_the_seed() -> None:
    given = plane(ROWS)
    runs = [audit(given.net, (given.x, given.y), [PGD(norm="l2", steps=2)], [0.3], seed=seed) for seed in (0, 0, 1)]
    first, again, other = (run.attacks[0].distances for run in runs)
    assert first == again
    assert first != other


def ball(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
    return problem.x + 1.001 * attack.eps


def box(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
    return problem.x + torch.linspace(-0.9, 0.9, problem.x[0].numel()).view_as(problem.x[:1])


def own_input(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
    problem.x.sub_(0.4)  # so that the distance from its input is none
    return problem.x


@pytest.mark.parametrize(
    ("act", "minimum", "reason"),
    [
        (ball, False, r"Scripted left the ball: 0\.1001.* ε is 0\.1"),
        (own_input, False, r"left the ball: 0\.4"),
        (box, True, r"left the box \[0,1\]"),
        (lambda attack, model, problem: problem.x * math.nan, False, "NaN"),
        (lambda attack, model, problem: problem.x[:, :, :3], False, "wrong shape"),
        (lambda attack, model, problem: problem.x[:2], False, "wrong shape"),
        (lambda attack, model, problem: None, False, "wrong shape"),
        (lambda attack, model, problem: problem.x.double(), False, "."),
        (lambda attack, model, problem: {}["missing"], False, "missing"),
    ],
)
def test_an_attack_that_cheats_fails_the_audit(act: Act, minimum: bool, reason: str) -> None:
    given = plane(ROWS)
    with pytest.raises(AuditFailed, match=reason) as caught:
        audit(given.net, (given.x, given.y), [FGSM(), scripted(act, minimum=minimum)], [0.1], batch_size=6)
    record = caught.value.record
    assert record is not None
    assert record.status == "incomplete"
    assert [result.judged for result in record.attacks] == [6, 0]
    assert reports.AuditRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("minimum", [True, False])
def test_a_false_claim_counts_for_nothing(minimum: bool) -> None:
    given = plane(ROWS)

    def claim(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        return problem.x + 1e-4 * torch.sign(problem.x - 0.5)

    record = audit(given.net, (given.x, given.y), [scripted(claim, minimum=minimum)], [0.1])
    result = record.attacks[0]
    assert result.success.count == result.distortion.count == 0
    assert record.worst_case[0].robust.count == record.clean.count
    assert result.distances == [None] * ROWS


def three_classes() -> tuple[Classifier, Tensor, Tensor]:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(3, 4))
        net[1].bias.zero_()
    x = torch.full((6, 1, 2, 2), 0.4)
    y = torch.arange(6) % 3
    x.view(6, 4)[range(6), y] = 0.6
    x.view(6, 4)[range(6), (y + 1) % 3] = 0.5  # so the class after next is the least likely
    return Classifier(net, labels=["ant", "bee", "cicada"]), x, y


@pytest.mark.parametrize(
    ("target", "aims", "named"),
    [(1, [1] * 6, "bee"), ("Bee", [1] * 6, "bee"), ("cic", [2] * 6, "cicada"), ("least-likely", [2, 0, 1] * 2, None)],
)
def test_targets(target: int | str, aims: list[int], named: str | None) -> None:
    model, x, y = three_classes()
    seen: dict[int, tuple[bool, int]] = {}

    def note(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        for row, goal in zip(problem.ids.tolist(), problem.goal.classes.tolist(), strict=True):
            seen[row] = (problem.goal.targeted, goal)
        return problem.x

    record = audit(model, (x, y), [scripted(note), FGSM()], [0.02, 0.3], target=target)
    assert record.target == (named or "least-likely")
    # Whose label is the target is attacked untargeted.
    assert seen == {row: (aim != int(y[row]), aim) for row, aim in enumerate(aims)}
    fgsm, aimed = record.attacks[1], sum(aim != int(y[row]) for row, aim in enumerate(aims))
    assert fgsm.targeted is not None
    assert (fgsm.targeted.count, fgsm.targeted.total) == (aimed, aimed)
    assert record.attacks[0].targeted is not None
    assert record.attacks[0].targeted.count == 0
    assert fgsm.curve[1].robust.count == 0
    assert [p for row, p in enumerate(fgsm.predictions) if aims[row] != y[row]] == [
        aim for row, aim in enumerate(aims) if aim != y[row]
    ]


def test_missing_the_target_is_still_a_wrong_answer() -> None:
    model, x, y = three_classes()

    def elsewhere(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        out = problem.x.clone()
        out.view(len(out), 4)[:, 2] = 0.9
        return out

    record = audit(model, (x, y), [scripted(elsewhere, minimum=True)], [0.5], target=1)
    assert record.attacks[0].targeted is not None
    assert record.attacks[0].targeted.count == 0
    assert record.worst_case[0].robust.count == int((y == 2).sum())


def test_what_is_wrong_but_not_at_its_target_is_attacked_again_at_the_next_eps() -> None:
    model, x, y = three_classes()
    asked: dict[float, list[int]] = {}

    def slowly(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        """Class 2 at first, the target at the larger ε."""
        asked.setdefault(attack.eps, []).extend(problem.ids.tolist())
        reached, by = (2, 0.29) if attack.eps < 0.3 else (1, 0.45)
        return problem.x - 0.1 + by * torch.eye(3, 4)[reached].view(1, 1, 2, 2)

    record = audit(model, (x, y), [scripted(slowly)], [0.2, 0.4], target=1)
    result = record.attacks[0]
    # Class 1 is attacked untargeted: done once it is wrong. Class 2 is not broken by being called 2.
    assert {eps: sorted(ids) for eps, ids in asked.items()} == {0.2: [0, 1, 2, 3, 4, 5], 0.4: [0, 2, 3, 5]}
    assert result.targeted is not None
    assert (result.targeted.count, result.targeted.total) == (4, 4)
    assert [point.robust.count for point in result.curve] == [2, 0]
    assert result.predictions == [2, 2, 1, 2, 2, 1]  # of the first point that was wrong


def test_confidences_are_the_models_own() -> None:
    model, x, y = three_classes()

    def known(attack: Attack, model: Classifier, problem: Problem) -> Tensor:
        flipped = (problem.ids < 4).view(-1, 1, 1, 1)
        return torch.where(flipped, problem.x.flip(2).flip(3), problem.x)

    record = audit(model, (x, y), [scripted(known, minimum=True)], [1.0])
    result = record.attacks[0]
    with torch.no_grad():
        before = model.net(x).softmax(1).max(1)
        after = model.net(torch.cat([x[:4].flip(2).flip(3), x[4:]])).softmax(1).max(1)
    assert record.samples.confidences == pytest.approx(before.values.tolist())
    broken = (after.indices != y).nonzero().squeeze(1).tolist()
    assert 0 < len(broken) < 6
    for row in range(6):
        if row in broken:
            assert result.confidences[row] == pytest.approx(float(after.values[row]))
            assert result.predictions[row] == int(after.indices[row])
        else:
            assert result.confidences[row] is result.predictions[row] is None
    assert result.confidence_before.mean == pytest.approx(float(before.values[broken].mean()))
    assert result.confidence_after.mean == pytest.approx(float(after.values[broken].mean()))


@pytest.mark.parametrize("rows", ["all wrong", "one"])
def test_small_and_hopeless_data(rows: str, tmp_path: Path) -> None:
    given = plane(ROWS)
    x, y = (given.x, (given.margins < 0) ^ given.y.bool()) if rows == "one" else (given.x, given.y)
    y = y.long()
    if rows == "one":
        x, y = x[:1], y[:1]
    else:
        with torch.no_grad():
            y = 1 - given.net(x).argmax(1)
    record = audit(given.net, (x, y), [FGSM(), LBFGS(steps=2)], [0.1])
    assert record.clean.count == (1 if rows == "one" else 0)
    if rows == "all wrong":
        assert record.attacks[0].forwards == record.attacks[0].backwards == 0
        assert record.attacks[0].success.value is None
        assert record.worst_case[0].robust.value == 0.0
    assert "0.1" in reports.write(record, tmp_path / "report").read_text("utf-8")


def test_minimum_norm_attacks_need_no_grid(tmp_path: Path) -> None:
    given = plane(ROWS, even=True)
    record = audit(given.net, (given.x, given.y), [LBFGS(steps=5)])
    assert record.norm == "l2"
    assert record.eps == record.worst_case == record.attacks[0].curve == []
    assert record.worst_distance.count == ROWS - 3
    assert reports.write(record, tmp_path / "report").is_file()


def test_a_record_survives_json_and_becomes_a_report(tmp_path: Path) -> None:
    given = plane(ROWS)
    out = tmp_path / "report"
    record = audit(given.net, (given.x, given.y), [FGSM(), PGD(steps=3), LBFGS(steps=3)], [0.02, 0.05], out=out)
    assert reports.AuditRecord.from_json(record.to_json()) == record
    assert reports.write(record, out) == out / "index.html"
    assert reports.read(out / "report.json") == record
    assert {path.name for path in out.iterdir()} >= {"report.json", "index.html", "junit.xml", "summary.md"}
    assert 0 < len(record.comparisons) <= 6
    for comparison in record.comparisons:
        for file in (comparison.original.file, comparison.perturbation, comparison.adversarial.file):
            assert (out / file).is_file()


def test_without_out_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = plane(ROWS)
    assert audit(given.net, (given.x, given.y), [FGSM()], [0.05]).comparisons == []
    assert list(tmp_path.iterdir()) == []


def test_the_answer_is_the_largest_logit_where_the_softmax_has_ties() -> None:
    class Tiny(nn.Module):
        """Says the row of largest brightness, in logits that float32's softmax cannot tell apart."""

        def forward(self, x: Tensor) -> Tensor:
            return x.mean(3).flatten(1) * 1e-12

    x = torch.rand(16, 1, 4, 4)
    record = audit(Tiny(), (x, x.mean(3).flatten(1).argmax(1)), [PGD(steps=1)], [1e-9])
    assert record.clean.count == 16
    assert record.worst_case[0].robust.count == 16


def test_weights_of_another_type_are_refused_before_any_work() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    with pytest.raises(ModelError, match=r"weights are torch.float64, the pictures torch.float32: call .float\(\)"):
        audit(net, (torch.rand(2, 1, 4, 4), torch.tensor([0, 1])), [PGD()], [0.1])
