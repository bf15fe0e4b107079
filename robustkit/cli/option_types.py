"""Types of options that click has not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from robustkit.errors import ConfigError

_MOST = 2**63 - 1  # the largest whole number that a report can hold


class WholeNumber(click.IntRange):
    """A whole number from `min` to 2^63 - 1."""

    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number: int = click.INT.convert(value, param, ctx)
        least = int(self.min or 0)
        if not least <= number <= _MOST:
            name = param.name if param is not None else "it"
            self.fail(f"{name} must be a whole number from {least} to 2^63 - 1, got {_shortened(value)}", param, ctx)
        return number


class BatchSize(WholeNumber):
    """A whole number, or "auto", which is None."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


def numbers(kind: type[int] | type[float], example: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """The callback of an option of one number, or of several with commas between them.

    What a TOML file says is a number or a list already.

    Args:
        kind: of number.
        example: of what to write.
    """

    def convert(_: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = [kind(part) for part in value.split(",")]
        except ValueError:
            raise ConfigError(f"{parameter.opts[0]} {value!r} is no number: write {example}") from None
        return found[0] if len(found) == 1 else found

    return convert


def names_file(_: click.Context, parameter: click.Parameter, value: Any) -> list[str] | None:
    """The callback of an option of a file of names: one a line, or JSON; a TOML file has the list itself."""
    if not isinstance(value, str):
        return None if value is None else list(value)
    where, remedy = f"{parameter.opts[0]} {value}", "give a file of one class name a line, or a JSON list"
    try:
        text = Path(value).read_text("utf-8-sig").strip()
        names = _listed(json.loads(text)) if text.startswith(("[", "{")) else text.splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {getattr(error, 'strerror', None) or 'no list of names'}: {remedy}") from None
    names = [name.strip() for name in names]
    if not names or not all(names):
        fault = f"line {names.index('') + 1} is empty" if names else "it is empty"
        raise ConfigError(f"{where}: {fault}: {remedy}")
    return names


def _listed(content: Any) -> list[str]:
    if isinstance(content, dict):  # as ImageNet's names are handed round: {"0": "tench", …}
        content = [content[str(number)] for number in range(len(content)) if str(number) in content]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError("no names")
    return content


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:20]}... ({len(text)} digits)"
