"""The checks that need the record alone, on records made for them, and the parts of those that need the model."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from museum import digits, honest
from report_factory import Columns, build, comparison, gate
from torch import Tensor

from robustkit.attacks import PGD, Attack, Classifier
from robustkit.attacks.core.problem import Problem
from robustkit.checks import EVALUATION, CheckResult, evaluation, with_gates
from robustkit.checks.active import found_by, plant
from robustkit.reports import AuditRecord

EPS = {0.1: "0.1", 0.2: "0.2", 0.4: "0.4"}
TRAITS = {"FGSM": {"parameters": {}}, "PGD": {"parameters": {"steps": 40}}}


def record(n: int, distances: dict[str, Columns], **fields: object) -> AuditRecord:
    return build([True] * n, distances, eps=EPS, traits=TRAITS, **fields)  # type: ignore[arg-type]


def found(made: AuditRecord) -> dict[str, CheckResult]:
    return {check.id: check for check in evaluation(made)}


def first(n: int, count: int, eps: float = 0.1) -> Columns:
    return [eps if i < count else None for i in range(n)]


def test_a_record_alone_gets_the_checks_of_its_figures() -> None:
    results = evaluation(record(100, {"FGSM": first(100, 20), "PGD": first(100, 60)}))
    assert [check.id for check in results] == [check.id for check in EVALUATION]
    assert all(check.title and check.source and check.remedy and check.detail for check in results)
    json.dumps([dataclasses.asdict(check) for check in results], allow_nan=False)
    for check in results[-6:]:
        assert check.status == "n/a"
    with pytest.raises(ValueError, match="did not finish"):
        evaluation(record(4, {"PGD": first(4, 1)}, status="incomplete"))


@pytest.mark.parametrize(
    ("n", "only", "status"),
    [(100, 0, "pass"), (100, 2, "pass"), (20, 2, "pass"), (20, 3, "fail"), (100, 4, "warn"), (100, 6, "fail")],
)
@pytest.mark.parametrize(
    ("weak", "check"), [("FGSM", "single-step"), ("Square", "black-box"), ("Gaussian noise", "black-box")]
)
def test_what_a_weaker_attack_breaks_alone_alarms_beyond_luck(
    n: int, only: int, status: str, weak: str, check: str
) -> None:
    strong: Columns = [None if i < only else 0.1 if i < n // 2 else 0.4 for i in range(n)]
    result = found(record(n, {weak: first(n, only, 0.2), "PGD": strong}))[check]
    assert result.status == status
    assert result.measured == only / n


def test_comparing_needs_both_kinds_and_no_target() -> None:
    assert found(record(9, {"PGD": first(9, 4)}))["single-step"].status == "n/a"
    assert found(record(9, {"PGD": first(9, 4)}))["black-box"].status == "n/a"
    assert found(record(9, {"FGSM": first(9, 4), "Square": first(9, 9)}))["black-box"].status == "n/a"
    aimed = found(record(9, {"FGSM": first(9, 4), "PGD": first(9, 4)}, target="otter"))
    assert aimed["single-step"].status == aimed["eps-growth"].status == "n/a"


@pytest.mark.parametrize(
    ("counts", "status"),
    [((30, 30, 30), "fail"), ((30, 60, 90), "pass"), ((2, 2, 2), "pass"), ((95, 95, 95), "pass"), ((0, 0, 0), "n/a")],
)
def test_success_that_does_not_grow_with_eps_alarms(counts: tuple[int, int, int], status: str) -> None:
    column: Columns = [next((e for e, c in zip(EPS, counts, strict=True) if i < c), None) for i in range(100)]
    assert found(record(100, {"PGD": column}))["eps-growth"].status == status


def test_points_outside_and_undone_pictures_are_told() -> None:
    made = record(9, {"PGD": first(9, 4)}, comparisons=[comparison(1, "PGD"), comparison(2, "PGD", undone=True)])
    made = dataclasses.replace(made, attacks=[dataclasses.replace(made.attacks[0], outside=3)])
    results = found(made)
    assert (results["outside"].status, results["outside"].measured) == ("warn", 3)
    assert (results["rounding"].status, results["rounding"].measured) == ("warn", 0.5)
    # The smallest change lies just over the boundary: rounding undoes it as a matter of course.
    smallest = record(9, {"PGD": first(9, 4)}, comparisons=[comparison(1, "L-BFGS", undone=True)])
    assert found(smallest)["rounding"].status == "n/a"


@pytest.mark.parametrize(("floor", "status"), [(0.2, "pass"), (0.5, "warn"), (0.6, "warn"), (0.9, "pass")])
def test_a_floor_inside_the_interval_asks_for_more_samples(floor: float, status: str) -> None:
    made = record(20, {"PGD": first(20, 10, 0.4)})
    assert found(made)["few-samples"].status == "n/a"
    made = dataclasses.replace(made, gates=[gate("floor", 0.4, 0.5, floor)], checks=evaluation(made))
    checks = {check.id: check for check in with_gates(made)}
    assert checks["few-samples"].status == status
    assert len(checks) == len(made.checks)


@dataclass(frozen=True)
class Forgetful(Attack):
    """Returns the picture itself, whatever it has found."""

    name: ClassVar[str] = "pgd"
    title: ClassVar[str] = "Forgetful"
    paper: ClassVar[str] = "none"

    norm: str = "linf"
    eps: float = 0.3
    steps: int = 20

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        attack = PGD(eps=self.eps, steps=self.steps, early_stop=False)
        attack.run(model, problem)
        return problem.x.clone()


def test_an_attack_that_loses_what_it_found_is_told() -> None:
    from robustkit import audit

    made = audit(honest("lenet-mnist"), digits(16), [Forgetful()], [0.2], checks=True)
    results = {check.id: check for check in made.checks}
    assert results["silent-success"].status == "fail"
    assert results["large-eps"].status == results["unbounded"].status == "fail"


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_planted_point_is_in_the_ball_beyond_the_boundary_and_the_picture_is_not(norm: str) -> None:
    eps = {"linf": 0.1, "l2": 1.0, "l1": 8.0}[norm]
    model, (x, _) = Classifier(honest("lenet-mnist")), digits(4)
    planted = plant(model, x[:1], eps, norm, 0, 0)
    assert planted is not None
    change = (planted.beyond - x[:1]).flatten().double()
    size = {"linf": change.abs().max(), "l2": change.norm(), "l1": change.abs().sum()}[norm]
    assert float(size) <= eps + 1e-6
    score = model.logits(torch.cat([x[:1], planted.beyond])) @ planted.weight + planted.bias
    assert float(score[0]) < 0 < float(score[1]) == pytest.approx(1, abs=1e-3)
    assert found_by(PGD(norm=norm, eps=eps), model, planted, x[:1], 0, 0)
    assert not found_by(PGD(norm=norm, eps=eps, steps=1, step_size=1e-4), model, planted, x[:1], 0, 0)
    assert plant(Classifier(torch.nn.Sequential(torch.nn.Flatten(), _Flat())), x[:1], eps, norm, 0, 0) is None


class _Flat(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x[:, :3]
