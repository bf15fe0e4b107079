"""Checks that raise: an "error" that the verdict, the gate, the page and the doctor tell, never a silent "n/a"."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest
import torch
from museum import digits
from report_factory import realistic
from torch import Tensor, nn

from robustkit import audit
from robustkit.attacks import FGSM
from robustkit.auditing.gates import apply_gates
from robustkit.auditing.stages.checks import again
from robustkit.checks import PREFLIGHT, Check, CheckResult, preflight
from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.cli.commands.doctor import exit_status, show_checks
from robustkit.reports import AuditRecord
from robustkit.reports.formats import junit
from robustkit.reports.record.verdicts import verdict_of


def ending(outcome: Exception | None, name: str = "made-up") -> Check[object]:
    @check(id=name, title="It holds.", paper="none", threshold=0.0, severity="fail", remedy="Mend it.")
    def measured(_: object) -> Finding:
        if outcome is not None:
            raise outcome
        return Finding(0.0, "It holds.")

    return measured


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit\nat all"), ZeroDivisionError(), AssertionError("no")]
)
def test_a_check_that_raises_is_an_error_with_one_line_of_the_exception(error: Exception) -> None:
    result = ending(error).run(None)
    said = str(error).splitlines()[0] if str(error) else "ZeroDivisionError"
    assert (result.status, result.measured, result.detail) == ("error", None, f"could not be made: {said}")
    assert "by hand" in result.remedy
    assert verdict_of([result, ending(None, "sound").run(None)]) == "with reservations"


def test_a_check_that_does_not_apply_says_why_and_costs_no_trust() -> None:
    result = ending(NotApplicable("There is one sample.")).run(None)
    assert (result.status, result.detail, result.remedy) == ("n/a", "There is one sample.", "Mend it.")
    assert verdict_of([result]) == "not checked"
    assert verdict_of([result, ending(None, "sound").run(None)]) == "trust"


def test_a_failed_check_outweighs_an_error() -> None:
    results = [ending(ValueError("x")).run(None), dataclasses.replace(ending(None, "sound").run(None), status="fail")]
    assert verdict_of(results) == "do not trust"


@pytest.mark.parametrize("sound", [0, 1])
def test_an_audit_whose_checks_crash_is_not_trusted(sound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [ending(RuntimeError("a defect"), f"crashes-{i}") for i in range(3)]
    checks += [ending(None, "sound")] * sound
    monkeypatch.setattr("robustkit.checks.preflight_checks.PREFLIGHT", checks)
    monkeypatch.setattr("robustkit.checks.evaluation_checks.EVALUATION", ())
    record = audit(small(), digits(4), [FGSM()], [0.1], checks=True)
    assert [each.status for each in record.checks] == ["error"] * 3 + ["pass"] * sound
    assert record.verdict == "with reservations"
    assert AuditRecord.from_json(record.to_json()) == record
    gate = apply_gates(record, {}, strict=True).gates[-1]
    assert not gate.passed
    assert gate.detail == f"0 of {3 + sound} checks failed, 3 ended in an error: crashes-0, crashes-1, crashes-2."
    assert apply_gates(record, {}).passed
    root = ElementTree.fromstring(junit.render(record))
    assert (root.get("errors"), root.get("failures")) == ("3", "0")
    assert [case.get("message") for case in root.iter("error")] == ["could not be made: a defect"] * 3


def test_a_model_that_raises_on_a_second_query_is_an_error_of_each_check_that_asks_again() -> None:
    class Once(nn.Module):
        """Answers a single time."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.asked = small(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.asked += 1
            if self.asked > 1:
                raise RuntimeError("the connection was closed")
            out: Tensor = self.net(x)
            return out

    results = {result.id: result for result in preflight(Once().eval(), *digits(16))}
    errors = {name for name, result in results.items() if result.status == "error"}
    assert {"state-changes", "randomised", "step-stage", "leaps", "optimises-inside", "unstable"} <= errors
    assert {results[name].detail for name in errors} == {"could not be made: the connection was closed"}
    # Without a gradient its checks have no subject; that it cannot be taken is a finding of its own.
    assert results["gradient-unavailable"].status == "fail"
    assert results["gradient-zero"].status == "n/a"
    assert results["probabilities"].status == "pass"


def test_an_error_stays_when_further_attacks_are_added_to_a_record() -> None:
    record = realistic()
    error = CheckResult("single-step", "It holds.", "none", None, 0.01, "error", "could not be made: x", "Look.")
    stale = dataclasses.replace(record, checks=[error])
    assert again(stale) == [error]


def test_the_doctor_shows_errors_and_fails_on_failed_checks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    results = [ending(RuntimeError("a defect")).run(None), ending(None, "sound").run(None)]
    show_checks(results)
    text = capsys.readouterr().out
    assert "ERR   made-up: could not be made: a defect" in text
    assert "by hand" in text
    assert "2 checks: 0 failed, 0 warned, 1 passed, 0 n/a, 1 ended in an error" in text
    assert exit_status(results) == 0


def test_a_status_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="status is one of pass, warn, fail, error, n/a"):
        dataclasses.replace(ending(None).run(None), status="crashed")
    assert len(PREFLIGHT) == 18
