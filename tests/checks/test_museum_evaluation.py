"""The checks of a finished audit on broken evaluations, crippled attacks, and honest ones, where none may fail."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from museum import EPS, MUSEUM, digits, honest
from torch import nn

from robustkit import audit, load_data, load_model
from robustkit.attacks import APGD, BIM, FGSM, MIFGSM, PGD, Attack, GaussianNoise, Square
from robustkit.auditing.gates import apply_gates
from robustkit.checks import EVALUATION, PREFLIGHT, CheckResult
from robustkit.reports import AuditRecord

GRID = [0.1, 0.2, 0.3]
SUITE = (FGSM(), PGD(steps=20), Square(queries=200), GaussianNoise(draws=5))
ROWS = 32
# What must fire after the audit where the fault misleads or stops its attacks; more may, for the same reason.
AFTER = {
    "cold": {"black-box", "large-eps"},
    "quantised": {"black-box", "large-eps", "unbounded", "active-test"},
    "detached": {"active-test"},
    "flipped": {"black-box", "large-eps", "unbounded", "active-test"},
    "noisy-logits": {"single-step"},
    "purifier": {"large-eps", "unbounded", "active-test"},
    "ripple": {"black-box", "active-test"},
    "divided-twice": {"unbounded"},
}


def audited(net: nn.Module, attacks: Sequence[Attack], grid: Sequence[float] = GRID, rows: int = ROWS) -> AuditRecord:
    return audit(net, digits(rows), list(attacks), list(grid), checks=True)


def by_status(record: AuditRecord, *statuses: str) -> set[str]:
    return {check.id for check in record.checks if check.status in statuses}


def result(record: AuditRecord, name: str) -> CheckResult:
    return next(check for check in record.checks if check.id == name)


@pytest.mark.parametrize("name", AFTER)
def test_what_the_fault_does_to_the_figures_is_seen(name: str) -> None:
    exhibit = next(exhibit for exhibit in MUSEUM if exhibit.name == name)
    slow = name == "purifier"
    record = audited(exhibit.net(), SUITE[:2] if slow else SUITE, rows=10 if slow else 20)
    assert AFTER[name] <= by_status(record, "fail")
    assert exhibit.fires <= by_status(record, "fail", "warn")
    assert record.verdict == "do not trust"
    assert not apply_gates(record, {}, strict=True).passed
    assert apply_gates(record, {}).passed


@pytest.mark.parametrize("name", list(EPS))
def test_honest_audits_are_to_be_trusted(name: str) -> None:
    record = audited(honest(name), (FGSM(), PGD(), *SUITE[2:]), rows=100)
    assert [check.id for check in record.checks] == [check.id for check in (*PREFLIGHT, *EVALUATION)]
    assert not by_status(record, "fail", "warn")
    assert record.verdict == "trust"
    assert apply_gates(record, {}, strict=True).passed
    assert apply_gates(record, {0.3: ("0.3", 0.76)}).verdict == ("with reservations" if "pgd" in name else "trust")


@pytest.mark.parametrize(
    "attacks",
    [[APGD(steps=30, loss="dlr")], [MIFGSM()], [FGSM(), BIM()]],
    ids=lambda attacks: attacks[-1].name,
)
@pytest.mark.parametrize("grid", [[0.01], [0.1, 0.3]], ids=str)
def test_honest_attacks_pass_at_any_eps(attacks: list[Attack], grid: list[float]) -> None:
    record = audited(honest("lenet-mnist-pgd"), attacks, grid, rows=20)
    assert not by_status(record, "fail")
    assert by_status(record, "warn") <= {"incomplete"}
    assert result(record, "active-test").measured == 0


@pytest.mark.parametrize(("norm", "grid"), [("l2", [0.5, 1.0, 2.0]), ("l1", [5.0, 10.0])])
def test_honest_attacks_pass_in_other_norms(norm: str, grid: list[float]) -> None:
    record = audited(honest("lenet-mnist"), [FGSM(norm=norm), PGD(norm=norm, steps=30)], grid, rows=20)
    assert not by_status(record, "fail")
    assert by_status(record, "n/a") == {"black-box", "rounding", "few-samples"}


@pytest.mark.parametrize("name", list(EPS))
def test_a_crippled_attack_fails_the_active_test(name: str) -> None:
    record = audited(honest(name), [PGD(steps=2, step_size=1e-4)])
    assert by_status(record, "fail") == {"active-test"}
    assert result(record, "active-test").measured == 1
    single = audited(honest(name), [PGD(steps=1, step_size=1e-4)])
    assert by_status(single, "warn", "fail") == {"more-steps"}
    assert "no attack of many steps" in result(single, "more-steps").detail


def test_logits_too_small_for_the_cross_entropy_are_told() -> None:
    exhibit = next(exhibit for exhibit in MUSEUM if exhibit.name == "faint")
    record = audited(exhibit.net(), [PGD()], [0.1], rows=64)
    assert exhibit.fires <= by_status(record, "warn")
    assert by_status(record, "fail") == set()
    assert record.verdict == "with reservations"
    assert "On the margin PGD breaks" in result(record, "other-loss").detail
    assert result(audited(honest("lenet-mnist"), [PGD()], [0.1], rows=64), "other-loss").status == "pass"
    assert result(audited(honest("lenet-mnist"), [PGD(loss="dlr")], [0.1], rows=8), "other-loss").status == "n/a"


def test_too_few_steps_are_told() -> None:
    record = audited(honest("lenet-mnist-pgd"), [PGD(steps=8, step_size=0.01)], [0.3])
    assert {"incomplete", "more-steps"} & by_status(record, "warn")


def test_a_model_without_gradients_skips_what_needs_them() -> None:
    net = honest("lenet-mnist")
    with torch.no_grad():
        record = audit(lambda x: net(x).numpy(), digits(16), [Square(queries=100)], [0.1], checks=True)
    assert not by_status(record, "fail", "warn")
    assert {"large-eps", "unbounded", "more-steps", "incomplete", "active-test"} <= by_status(record, "n/a")


def test_without_checks_nobody_knows_and_with_them_the_figures_are_the_same() -> None:
    net = honest("lenet-mnist")
    plain = audit(net, digits(16), [PGD(steps=5)], GRID)
    checked = audited(net, [PGD(steps=5)], rows=16)
    assert (plain.checks, plain.verdict) == ([], "not checked")
    assert plain.worst_case == checked.worst_case
    assert plain.attacks[0].distances == checked.attacks[0].distances


@pytest.mark.real
def test_the_default_audit_of_the_imagenet_network_does_not_alarm() -> None:
    model = load_model("efficientnet-lite0", device="cpu", precision="fp32")
    record = audit(model, load_data("imagenet-samples"), [FGSM(), PGD()], [0.5 / 255, 2 / 255], checks=True)
    assert not by_status(record, "fail", "warn")
