"""Sentences for people: suggestions of names, errors cut to one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """' Did you mean …?' with the names closest to `name`, or nothing."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(folded[match] for match in close)}?" if close else ""


def one_line(error: BaseException) -> str:
    """The first line of an error's message, short enough for one line of a report."""
    text = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def some(items: Iterable[str]) -> str:
    """The first three and how many there are."""
    listed = list(items)
    more = f", ... ({len(listed)} in all)" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more
