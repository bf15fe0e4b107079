"""Figures and names as people read them; every output words them alike."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from ..record.statistics import Rate

NORMS = {"linf": "L∞", "l2": "L₂", "l1": "L₁"}
ACCESS = {"gradient": "white box", "scores": "scores", "labels": "labels"}
NBSP = "\u00a0"
_WHOLE = 1e-6  # by which a number of levels may miss a whole one


def clean(text: str, limit: int = 120) -> str:
    """Make a name from outside fit for a page: one line, no control or direction marks, not too long."""
    text = "".join(_printable(char) for char in text)
    if len(text) > limit:
        text = f"{text[: limit * 2 // 3]}…{text[-(limit // 3) :]}"
    return text


def _printable(char: str) -> str:
    if char in "\t\n\r":
        return " "
    # Cc control, Cs lone surrogate, and the marks that turn the direction of the text after them.
    if unicodedata.category(char) in ("Cc", "Cs") or char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        return "\ufffd"
    return "\ufffd" if ord(char) & 0xFFFE == 0xFFFE else char  # not characters, and not allowed in XML


def number(value: float, digits: int = 3) -> str:
    """Write three significant digits, without an exponent down to 0.0001: 1,234 12.3 0.0123."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text or abs(value) < 1e-4 else f"{value:.6f}"


def count(value: int) -> str:
    return f"{value:,}"


def samples(n: int) -> str:
    return "1 sample" if n == 1 else f"{count(n)} samples"


def percent(value: float, total: int, unit: bool = True) -> str:
    """Write a share in percent, with as many decimals as `total` samples carry.

    0 and 100 stand only where nothing or everything is meant.
    """
    text = ""
    for digits in range(0 if total < 200 else 1, 8):
        text = f"{100 * value:.{digits}f}"
        if value in (0, 1) or float(text) not in (0.0, 100.0):
            break
    text = text.rstrip("0").rstrip(".") if value in (0, 1) and "." in text else text
    return text + (NBSP + "%" if unit else "")


def share(rate: Rate) -> str:
    return "–" if rate.value is None else percent(rate.value, rate.total)


def interval(rate: Rate) -> str:
    """Write the 95 % interval: 0–16 %."""
    if rate.low is None or rate.high is None:
        return "–"
    return f"{percent(rate.low, rate.total, unit=False)}–{percent(rate.high, rate.total)}"


def of(rate: Rate) -> str:
    return f"{count(rate.count)} of {count(rate.total)}"


def eps(value: float) -> str:
    """Write ε: 4/255 where it is a whole number of levels up to 32, or a half one up to 8; else the plain number."""
    for unit, most in ((1, 32), (2, 8)):
        parts = value * 255 * unit
        if 0.5 < parts <= most * unit and abs(parts - round(parts)) < _WHOLE:
            return f"{parts / unit:.{unit - 1}f}/255"
    return number(value)


def levels(value: float, digits: int = 3) -> str:
    """Write a change of a pixel in [0, 1] as steps of an 8-bit picture."""
    return number(value * 255, digits)


def distance(value: float, norm: str) -> str:
    """Write a distance for a table: levels of 255 in L∞, the plain norm otherwise."""
    return levels(value) if norm == "linf" else number(value)


def change(value: float, norm: str, values: int) -> str:
    """Write a distance within a sentence; `values` is the number of values in an input."""
    if norm == "linf":
        return f"a change of {levels(value, 2)} of 255 levels per pixel"
    if norm == "l2":
        rms = levels(value / values**0.5, 2)
        return f"an L₂ change of {number(value, 2)} (root mean square {rms} of 255 levels)"
    return f"an L₁ change of {number(value, 2)} (on average {levels(value / values, 2)} of 255 levels)"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def moment(created: str) -> str:
    """Write a time: 24 November 2025, 23:18 UTC; as it stands where it is no date."""
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return clean(created)
    return f"{when.day} {when:%B %Y, %H:%M} UTC"


def listing(names: list[str], most: int = 1000) -> str:
    """List names: FGSM, PGD and L-BFGS; beyond `most` names, how many more."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
