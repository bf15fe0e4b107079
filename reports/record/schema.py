"""JSON schema of report.json, and the first thing in a document that breaks it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from importlib import resources
from types import NoneType
from typing import Any


@cache
def schema() -> dict[str, Any]:
    """Load the schema as shipped beside this file."""
    assert __package__ is not None
    loaded: dict[str, Any] = json.loads(resources.files(__package__).joinpath("schema.json").read_text("utf-8"))
    return loaded


def violation(body: dict[str, Any]) -> str | None:
    """Find where `body` breaks the schema, as half a sentence; None where it does not."""
    from jsonschema.exceptions import best_match

    error = best_match(_validator()(schema()).iter_errors(body))
    if error is None:
        return None
    where = "/".join(str(part) for part in error.absolute_path) or "the top level"
    return f"at {where[:80]}, {error.message[:200]}"


@cache
def _validator() -> Any:
    """Build a validator of draft 2020-12, with a short cut for columns of scalars: item by item they take seconds."""
    from jsonschema import Draft202012Validator, validators

    kinds = {"number": (int, float), "integer": (int,), "null": (NoneType,), "string": (str,)}

    def items(validator: Any, rule: Any, column: Any, parent: Any) -> Iterator[Any]:
        if not isinstance(column, list):
            return  # that it is none is the fault of `type`
        names = [rule["type"]] if isinstance(rule.get("type"), str) else rule.get("type", [])
        if rule.keys() <= {"type", "minimum", "maximum"} and set(names) <= kinds.keys():
            allowed = {kind for name in names for kind in kinds[name]}
            numbers = [item for item in column if type(item) in (int, float)] if rule.keys() - {"type"} else []
            low, high = rule.get("minimum", -math.inf), rule.get("maximum", math.inf)
            if set(map(type, column)) <= allowed and all(low <= item <= high for item in numbers):
                return
        yield from Draft202012Validator.VALIDATORS["items"](validator, rule, column, parent)

    return validators.extend(Draft202012Validator, {"items": items})
