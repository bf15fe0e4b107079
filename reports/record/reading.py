"""A report.json read back, and in one sentence why it cannot be."""

from __future__ import annotations

import json
from typing import TypeVar

from .decode import build, digest_of, strict_json

T = TypeVar("T")


class RecordError(ValueError):
    """A report.json that cannot be read: another version, cut short, edited or not a record at all."""


def read_back(kind: type[T], text: str, version: int) -> T:
    """The record of that kind and version that a text holds, its digest checked.

    Raises:
        RecordError: it holds none.
    """
    try:
        return _read(kind, text, version)
    except RecursionError:
        raise RecordError("not a robustkit report: it is nested too deep") from None


def _read(kind: type[T], text: str, version: int) -> T:
    try:
        body = strict_json(text)
        text.encode("utf-8")
    except (json.JSONDecodeError, UnicodeEncodeError) as error:
        raise RecordError(f"not a whole JSON document ({error}): was the file cut short?") from None
    except ValueError as error:  # whole, with a number that no report holds
        raise RecordError(f"not a robustkit report: {error}") from None
    if not isinstance(body, dict) or "version" not in body:
        raise RecordError("not a robustkit report: it has no version")
    if body["version"] != version:
        raise RecordError(
            f"report of version {repr(body['version'])[:40]}, this robustkit reads version {version}: "
            "redraw it with the robustkit that wrote it, or run the audit again"
        )
    digest = body.pop("digest", None)
    from .schema import violation

    fault = violation(body)
    if fault is not None:
        raise RecordError(f"not a report of version {version}: {fault}")
    try:
        same = digest == digest_of(body)
    except UnicodeEncodeError:
        same = False  # an escaped lone surrogate: to_json writes none
    if not same:
        raise RecordError("its content does not match its digest: it was edited after the audit wrote it")
    record: T = build(kind, body)
    return record
