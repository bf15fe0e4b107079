"""Checks of an evaluation: the result of each, and the verdict on its numbers that they come to together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

STATUSES = ("pass", "warn", "fail", "error", "n/a")
TRUST, RESERVATIONS, NO_TRUST, UNCHECKED = "trust", "with reservations", "do not trust", "not checked"


@dataclass(frozen=True)
class CheckResult:
    """One check of an evaluation.

    Args:
        id: short name, such as "gradient-zero".
        title: the sentence that holds where nothing is wrong.
        source: the paper the check comes from.
        measured: the figure found; None where there is none.
        threshold: the most the figure may be; None where the check has no figure.
        status: "pass", "warn" or "fail"; "error" where the check or the model raised; "n/a" where the check has no
            meaning for this model or audit.
        detail: a sentence with the figure, or the reason why there is none.
        remedy: what to do about it.

    Raises:
        ValueError: an unknown status, or a figure that is not finite.
    """

    id: str
    title: str
    source: str
    measured: float | None
    threshold: float | None
    status: str
    detail: str
    remedy: str

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}, not {self.status!r}")
        for name, value in (("measured", self.measured), ("threshold", self.threshold)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number or None, got {value}")


def verdict_of(checks: Iterable[CheckResult]) -> str:
    """Trust in the numbers: none after a single failed check, reservations after a warning or a check that raised;
    not checked where no check could be made."""
    found = {check.status for check in checks}
    if "fail" in found:
        return NO_TRUST
    if found & {"warn", "error"}:
        return RESERVATIONS
    return TRUST if "pass" in found else UNCHECKED
