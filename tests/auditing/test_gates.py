"""Baselines that cannot be compared with are refused before the run; attacks that run twice are told apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit import audit
from robustkit.attacks import FGSM, PGD
from robustkit.auditing.gates import apply_gates, check_baseline
from robustkit.errors import ConfigError

GRID = [0.01, 0.05]


def record_of(*attacks, target: int | None = None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.rand(12, 1, 4, 4)
    return audit(net, (x, net(x).argmax(1)), list(attacks), GRID, target=target)


def test_the_same_audit_is_accepted_and_passes() -> None:
    attacks = [FGSM(), PGD(steps=5)]
    record = record_of(*attacks)
    check_baseline(record, "linf", record.data.name, 12, GRID, attacks, None)
    gates = apply_gates(record, {}, record, 0.0).gates
    assert len(gates) == 3
    assert all(gate.passed for gate in gates)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"attacks": [FGSM()]}, "--attack"),
        ({"attacks": [FGSM(), PGD(steps=6)]}, "--attack"),
        ({"target": "1"}, "--target"),
        ({"norm": "l2"}, "--norm"),
        ({"data": "other"}, "--data"),
        ({"samples": 11}, "--samples"),
        ({"grid": [0.02]}, "--eps"),
    ],
)
def test_another_audit_is_refused(change: dict, word: str) -> None:
    record = record_of(FGSM(), PGD(steps=5))
    asked = {
        "norm": "linf",
        "data": record.data.name,
        "samples": 12,
        "grid": GRID,
        "attacks": [FGSM(), PGD(steps=5)],
        "target": None,
    }
    with pytest.raises(ConfigError, match=word) as caught:
        check_baseline(record, **(asked | change))
    assert "\n" not in str(caught.value)


def test_an_attack_that_runs_twice_is_named_by_what_differs() -> None:
    record = record_of(PGD(steps=5), PGD(steps=9), FGSM())
    assert [attack.title for attack in record.attacks] == ["PGD steps=5", "PGD steps=9", "FGSM"]


def test_the_worst_case_counts_what_a_smaller_radius_broke() -> None:
    record = record_of(FGSM(), PGD(steps=5))
    first, second = record.worst_case
    assert (first.inherited, second.inherited) == (0, first.success.count)
