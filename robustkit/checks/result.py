"""What a check says: plain values, fit for a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from robustkit.checks.probe import NotApplicable
from robustkit.reports import CheckResult
from robustkit.text import one_line

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """What was measured.

    Args:
        measured, detail: see `CheckResult`.
        wrong: says so where that is not just a figure above the threshold.
        doubt: something is to be said, though it is not wrong: a warning.
        threshold: in place of the table's, where it depends on the subject.
    """

    measured: float | None
    detail: str
    wrong: bool | None = None
    doubt: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One line of a table of checks; see `CheckResult`. `severity` is the status where the figure is too large."""

    id: str
    title: str
    source: str
    threshold: float
    severity: str
    remedy: str
    measure: Callable[[Subject], Finding]

    def run(self, subject: Subject) -> CheckResult:
        """The check on what it is about; "n/a" with the reason where it cannot be made."""
        measured, threshold = None, self.threshold
        try:
            found = self.measure(subject)
        except NotApplicable as reason:
            status, detail = "n/a", str(reason)
        except Exception as error:  # the model may be anybody's code
            status, detail = "n/a", f"The model could not be asked: {one_line(error)}"
        else:
            measured, detail = found.measured, found.detail
            threshold = self.threshold if found.threshold is None else found.threshold
            wrong = found.wrong if found.wrong is not None else (measured or 0.0) > threshold
            status = self.severity if wrong else "warn" if found.doubt else "pass"
        return CheckResult(self.id, self.title, self.source, measured, threshold, status, detail, self.remedy)
