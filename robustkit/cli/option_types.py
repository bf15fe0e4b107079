"""Types of options that click has not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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


class Numbers(click.ParamType[Any]):
    """One number, or several with commas between them; of a TOML file the number or the list itself.

    Args:
        kind: int or float.
        example: of what to write.
    """

    name = "numbers"

    def __init__(self, kind: type[int] | type[float], example: str) -> None:
        self.kind, self.example = kind, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            numbers = [self.kind(part) for part in value.replace("×", ",").split(",")]
        except ValueError:
            name = param.opts[0] if param is not None else "it"
            self.fail(f"{name} {value!r} is not a number: write {self.example}", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


class Names(click.ParamType[list[str]]):
    """Names from a file: one a line, or a JSON list, or a JSON object from number to name; of a TOML file the list."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if not isinstance(value, str):
            return list(value)
        try:
            text = Path(value).read_text("utf-8-sig").strip()
            names = _listed(json.loads(text)) if text.startswith(("[", "{")) else text.splitlines()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it holds no list of names"
            self.fail(f"--labels {value}: {reason}: give a file of one class name a line, or a JSON list", param, ctx)
        names = [name.strip() for name in names]
        if not names or not all(names):
            where = f"line {names.index('') + 1} is empty" if names else "it is empty"
            self.fail(f"--labels {value}: {where}: give one class name a line, or a JSON list", param, ctx)
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
