"""Types of options that click has not."""

from __future__ import annotations

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


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:20]}... ({len(text)} digits)"
