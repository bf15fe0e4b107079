"""The checks of a certification: of the network under the noise, not of the vote, which is random by design."""

from __future__ import annotations

import pytest
from museum import MUSEUM, digits

from robustkit import Bounds, Smoothing, certify, load_data, load_model
from robustkit.attacks import FGSM, PGD, Square
from robustkit.checks import EVALUATION, PREFLIGHT
from robustkit.reports import AuditRecord

CHEAP = Smoothing(sigma=0.5, draws=100, eot=4)
BROKEN = [
    ("saturated", CHEAP),
    ("softmax", CHEAP),
    ("noisy-logits", CHEAP),
    ("batch-statistics", CHEAP),
    ("opaque-jpeg", CHEAP),
    ("never-normalised", CHEAP),
    ("permuted", CHEAP),
    ("permuted", Bounds(method="ibp")),
]


def fired(record: AuditRecord) -> set[str]:
    return {check.id for check in record.checks if check.status in ("warn", "fail")}


@pytest.mark.parametrize(
    ("name", "how"), BROKEN, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
def test_the_checks_of_the_fault_fire(name: str, how: Smoothing | Bounds) -> None:
    exhibit = next(exhibit for exhibit in MUSEUM if exhibit.name == name)
    x, y = digits(16)
    attacks = [Square(norm="l2" if isinstance(how, Smoothing) else how.norm, queries=2)]
    record = certify(exhibit.net(), (x, exhibit.labels(y)), how, [0.5], attacks=attacks, checks=True)
    assert exhibit.fires <= fired(record)
    assert record.verdict == "do not trust"
    assert AuditRecord.from_json(record.to_json()) == record


HONEST = [
    ("lenet-mnist-noise", Smoothing(sigma=0.5, draws=200, eot=8), [0.25, 0.5, 1.0]),
    ("lenet-mnist-pgd", Bounds(method="crown"), [0.02, 0.05]),
]


@pytest.mark.parametrize(("name", "how", "grid"), HONEST, ids=lambda value: value if isinstance(value, str) else "")
def test_none_fires_on_the_networks_of_the_zoo(name: str, how: Smoothing | Bounds, grid: list[float]) -> None:
    model = load_model(name, device="cpu", precision="fp32")
    norm = "l2" if isinstance(how, Smoothing) else how.norm
    attacks = [FGSM(norm=norm), PGD(norm=norm, steps=20), Square(norm=norm, queries=30)]
    data = load_data("mnist-samples")
    record = certify(model, data, how, grid, attacks=attacks, samples=20, checks=True)
    assert [check.id for check in record.checks] == [check.id for check in (*PREFLIGHT, *EVALUATION)]
    assert not fired(record)
    assert {check.status for check in record.checks[: len(PREFLIGHT)]} == {"pass"}
    assert record.verdict == "trust"


def test_without_checks_nobody_knows_and_with_them_the_figures_are_the_same() -> None:
    model, how = load_model("lenet-mnist-noise", device="cpu", precision="fp32"), CHEAP
    plain, checked = (
        certify(model, digits(4), how, [0.5], attacks=[PGD(norm="l2", steps=2)], checks=checks)
        for checks in (False, True)
    )
    assert (plain.checks, plain.verdict) == ([], "not checked")
    assert (plain.certified, plain.samples) == (checked.certified, checked.samples)
