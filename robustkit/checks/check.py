"""A check: what is measured, beside what the figure may be, which paper asks for it, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from robustkit.reports import CheckResult
from robustkit.text import one_line

_AFTER_ERROR = "Ask the model about the same samples by hand; where it answers, the check is at fault: report it."

Examined = TypeVar("Examined")  # a `CheckedModel` before the attacks, a `CheckedAudit` after them


class NotApplicable(Exception):
    """A check that cannot be made, with the reason."""


@dataclass(frozen=True)
class Finding:
    """A measurement.

    Args:
        measured, detail: see `CheckResult`.
        wrong: says so where that is not just a figure above the threshold.
        doubt: something is to be said, though it is not wrong: a warning.
        threshold, remedy: in place of the check's, where they depend on what is examined.
    """

    measured: float | None
    detail: str
    wrong: bool | None = None
    doubt: bool = False
    threshold: float | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Check(Generic[Examined]):
    """A check of an evaluation; `check` makes one of the function that measures.

    Args:
        measure: from a model or an audit to a finding.
        id, title, paper, threshold, remedy: see `CheckResult`, whose `source` is the paper.
        severity: the status where the figure is too large, "warn" or "fail".
    """

    measure: Callable[[Examined], Finding]
    id: str
    title: str
    paper: str
    threshold: float
    severity: str
    remedy: str

    def run(self, examined: Examined) -> CheckResult:
        """The result; "n/a" with the reason where the check has no meaning, "error" where it raised."""
        measured, threshold, remedy = None, self.threshold, self.remedy
        try:
            found = self.measure(examined)
        except NotApplicable as reason:
            status, detail = "n/a", str(reason)
        except Exception as error:  # ours, or the model's, which may be anybody's code
            status, detail, remedy = "error", f"could not be made: {one_line(error)}", _AFTER_ERROR
        else:
            measured, detail = found.measured, found.detail
            threshold = self.threshold if found.threshold is None else found.threshold
            remedy = self.remedy if found.remedy is None else found.remedy
            wrong = found.wrong if found.wrong is not None else (measured or 0.0) > threshold
            status = self.severity if wrong else "warn" if found.doubt else "pass"
        return CheckResult(
            id=self.id,
            title=self.title,
            source=self.paper,
            measured=measured,
            threshold=threshold,
            status=status,
            detail=detail,
            remedy=remedy,
        )


def check(
    *, id: str, title: str, paper: str, threshold: float, severity: str, remedy: str
) -> Callable[[Callable[[Examined], Finding]], Check[Examined]]:
    """Make a check of the function under it, which measures; see `Check` for the arguments.

    >>> @check(id="short", title="Names are short.", paper="none", threshold=8, severity="warn", remedy="Cut it.")
    ... def short(name: str) -> Finding:
    ...     return Finding(len(name), f"It has {len(name)} letters.")
    >>> short.run("robustness").status
    'warn'
    """

    def decorated(measure: Callable[[Examined], Finding]) -> Check[Examined]:
        return Check(measure, id=id, title=title, paper=paper, threshold=threshold, severity=severity, remedy=remedy)

    return decorated
