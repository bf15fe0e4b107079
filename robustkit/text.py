"""Sentences for people: suggestions of names, errors cut to one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"(https?://)(\S*)", re.IGNORECASE)


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


def without_secrets(text: str) -> str:
    """The text, in each address of it `***` in place of user and password and of the query.

    An @ that may be part of a password hides all before it.

    >>> without_secrets("--model=https://me:pass@host/v2/models/net?key=1")
    '--model=https://***@host/v2/models/net?***'
    """
    return _ADDRESS.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    place, query, tail = rest.partition("?")
    if "@" in tail:  # of the query, or of a password with a question mark
        return f"{scheme}***"
    _, at, place = place.rpartition("@")
    return f"{scheme}{'***@' if at else ''}{place}{'?***' if query else ''}"
