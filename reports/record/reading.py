"""A report.json read back, and in one sentence why it cannot be."""

from __future__ import annotations

from typing import TypeVar

from .consistency import contradiction
from .content import VERSION, Content
from .decode import build, digest_of, strict_json
from .schema import violation

R = TypeVar("R", bound=Content)


class RecordError(ValueError):
    """A report.json that cannot be read: another version, cut short, edited or not a record at all."""


def read_back(kind: type[R], text: str) -> R:
    """Read the record that a text holds; its digest and its figures are checked.

    Args:
        kind: the record's class.
        text: what a report.json holds.

    Raises:
        RecordError: it holds none, or one that contradicts itself.
    """
    try:
        record = _record(kind, text)
    except RecursionError:
        raise RecordError("not a robustkit report: it is nested too deep") from None
    fault = contradiction(record)
    if fault is not None:
        raise RecordError(f"its figures contradict each other: {fault}")
    return record


def _record(kind: type[R], text: str) -> R:
    try:
        body = strict_json(text)
        text.encode("utf-8")
    except ValueError as error:
        raise RecordError(f"not a whole JSON document ({error}): was the file cut short?") from None
    if not isinstance(body, dict) or "version" not in body:
        raise RecordError("not a robustkit report: it has no version")
    if body["version"] != VERSION:
        raise RecordError(
            f"report of version {repr(body['version'])[:40]}, this robustkit reads version {VERSION}: "
            "redraw it with the robustkit that wrote it, or run the audit again"
        )
    digest = body.pop("digest", None)
    fault = violation(body)
    if fault is not None:
        raise RecordError(f"not a report of version {VERSION}: {fault}")
    try:
        same = digest == digest_of(body)
    except UnicodeEncodeError:
        same = False  # an escaped lone surrogate: to_json writes none
    if not same:
        raise RecordError("its content does not match its digest: it was edited after the audit wrote it")
    record: R = build(kind, body)
    return record
