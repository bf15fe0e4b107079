"""Decoding: JSON text to plain values, and those to the dataclasses they stand for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from functools import cache
from typing import Any


def strict_json(text: str) -> Any:
    """Parse JSON without NaN, infinities or numbers beyond 64 bits; ValueError says what is wrong."""
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _whole(digits: str) -> int:
    if len(digits) > 19:  # beyond 64 bits nothing here is meant, and float() would overflow
        raise ValueError(f"the number {digits[:20]}… is too large")
    return int(digits)


def digest_of(body: dict[str, Any]) -> str:
    """Compute the SHA-256 of the content, whatever the order and spacing of its JSON."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()


def build(kind: Any, value: Any) -> Any:
    """Build the dataclass, list, dict or scalar that `kind` names from a JSON value.

    The schema was checked before: a field that is missing may be, and has its default.
    """
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind) if field.name in value]
        return kind(**{name: build(hints[name], value[name]) for name in names})  # type: ignore[operator]
    if typing.get_origin(kind) is list:
        (item,) = typing.get_args(kind)
        scalar = _scalar(item)
        if scalar is not None:
            return [None if entry is None else scalar(entry) for entry in value]
        return [build(item, entry) for entry in value]
    scalar = _scalar(kind)
    if scalar is not None:
        return None if value is None else scalar(value)
    if typing.get_origin(kind) is types.UnionType and value is not None:
        return build(next(option for option in typing.get_args(kind) if option is not types.NoneType), value)
    return value


@cache
def _scalar(kind: Any) -> Any:
    """Return int or float where `kind` is that, None beside it or not: JSON writes 1.0 and 1 alike."""
    union = typing.get_origin(kind) is types.UnionType
    options = set(typing.get_args(kind) if union else (kind,)) - {types.NoneType}
    return options.pop() if options in ({int}, {float}) else None
