"""Reading of a report.json: its file, its JSON and its figures; each fault said in one sentence."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TypeVar

from .consistency import contradiction
from .content import VERSION, Content
from .decode import build, digest_of, strict_json
from .schema import violation

R = TypeVar("R", bound=Content)

# A record of 50,000 samples under 20 attacks takes about 100 MB, and reading takes several times its size in memory.
MOST_BYTES = 256 * 2**20


class RecordError(ValueError):
    """A report.json that cannot be read: another version, cut short, edited or not a record at all."""


def file_text(path: str | os.PathLike[str]) -> str:
    """Read the text of a report.json.

    Raises:
        RecordError: there is no such file, it is no regular one, too large, or not UTF-8.
    """
    try:
        # Before it is opened: to open a pipe waits for its writer. Links are followed, to a device too.
        fault = _no_record(os.stat(path))
        content = _beginning(path) if fault is None else b""
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise RecordError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if len(content) > MOST_BYTES:  # it grew since, or its file system does not tell sizes
        fault = _TOO_LARGE
    if fault is not None:
        raise RecordError(f"{path}: cannot be read ({fault})")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not a robustkit report: it is not UTF-8 text") from None


_TOO_LARGE = f"larger than {MOST_BYTES // 2**20} MiB: no report of robustkit's"


def _no_record(found: os.stat_result) -> str | None:
    """Tell by a file's kind and size why it can be no report.json; None where it can."""
    if stat.S_ISDIR(found.st_mode):
        return "a folder: name the report.json in it"
    if stat.S_ISFIFO(found.st_mode):
        return "a pipe: save what it carries to a file first, and name that"
    if not stat.S_ISREG(found.st_mode):
        return "a device or a socket: save the report to a file first, and name that"
    return _TOO_LARGE if found.st_size > MOST_BYTES else None


def _beginning(path: str | os.PathLike[str]) -> bytes:
    """Read a file, and no more of it than tells that it is too large."""
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES + 1)


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
    except (json.JSONDecodeError, UnicodeEncodeError) as error:
        raise RecordError(f"not a whole JSON document ({error}): was the file cut short?") from None
    except ValueError as error:  # whole, with a number that no report holds
        raise RecordError(f"not a robustkit report: {error}") from None
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
