"""Encoding: dataclasses of a record to plain values, and those to JSON text that a person can read."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


def plain(value: Any) -> Any:
    """Turn a dataclass into a dict; columns of scalars are not copied, so leave the outcome as it is."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list) and value and not _scalar(value[0]):
        return [plain(entry) for entry in value]
    return value


def laid_out(value: Any, margin: str = "\n") -> str:
    """Write JSON with an object's fields on lines of their own, and a column of scalars on one line."""
    if isinstance(value, dict) and value:
        return _block("{}", [f"{_text(key)}: {laid_out(entry, margin + ' ')}" for key, entry in value.items()], margin)
    if isinstance(value, list) and value and not _scalar(value[0]):
        return _block("[]", [laid_out(entry, margin + " ") for entry in value], margin)
    return _text(value)


def _block(brackets: str, entries: list[str], margin: str) -> str:
    return brackets[0] + ",".join(f"{margin} {entry}" for entry in entries) + margin + brackets[1]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _scalar(value: Any) -> bool:
    """Tell by the first entry of a column, whose entries are all of a kind, if they are scalars."""
    return value is None or isinstance(value, int | float | str)
