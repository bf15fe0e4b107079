"""Validation of parameters: each function raises a ValueError that names the parameter and its range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeGuard

from ..geometry import norms


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_count(name: str, value: int, least: int = 1, most: int = 2**31 - 1) -> None:
    """A whole number from `least` to `most`; more rounds than that would not end in a lifetime."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    # Of a number with too many digits Python makes no text: it is compared before it is shown.
    require(not whole or value <= most, f"{name} must be a whole number of at most {most}")
    require(whole and value >= least, f"{name} must be a whole number of at least {least}, got {value!r}")


def is_number(value: object) -> TypeGuard[int | float]:
    """A float, or a whole number of 64 bits: JSON readers take no longer ones."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 2**63


def check_eps(norm: str, eps: float) -> None:
    """ε is a radius in pixel units of [0,1]; in L∞ the whole box is 1 wide."""
    norms.get(norm)
    number = is_number(eps) and 0 < eps < float("inf")
    require(number, f"eps must be a positive number, got {eps!r}")
    require(
        norm != "linf" or eps <= 1,
        f"eps is in pixel units of [0,1], so at most 1 in linf, got {eps} (8/255?)",
    )


def check_ratio(classes: int, aimed: bool) -> None:
    """The loss dlr, the ratio of logits, is defined for so many classes; `aimed` where it leads towards one of them."""
    needed = 4 if aimed else 3
    require(
        classes >= needed,
        f"the loss dlr needs {needed} classes{' with a target' if aimed else ''}, the model has {classes}: "
        "use loss ce or margin",
    )


def check_from_zero(name: str, value: float, most: float = math.inf) -> None:
    """A number of at least 0, and up to `most` if that is finite."""
    number = is_number(value) and 0 <= value < math.inf and value <= most
    span = "of at least 0" if math.isinf(most) else f"from 0 to {most:g}"
    require(number, f"{name} must be a number {span}, got {value!r}")


def check_positive(name: str, value: float, most: float = math.inf) -> None:
    """A number above 0, and up to `most` if that is finite."""
    number = is_number(value) and 0 < value < math.inf and value <= most
    limit = "" if math.isinf(most) else f" of at most {most:g}"
    require(number, f"{name} must be a positive number{limit}, got {value!r}")


def check_optional(name: str, value: float | None) -> None:
    """A number above 0, or None, which leaves the choice to the attack."""
    if value is not None:
        check_positive(name, value)


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    known = tuple(choices)
    require(isinstance(value, str) and value in known, f"{name} is one of {', '.join(known)}, not {value!r}")


def check_flag(name: str, value: bool) -> None:
    require(isinstance(value, bool), f"{name} is True or False, not {value!r}")
