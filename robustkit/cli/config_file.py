"""Options from a TOML file, checked as those of the command line are; needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from robustkit.errors import ConfigError

# Of a model file, too long to type each time: what a good value is, and an example of one.
CONFIG_ONLY: dict[str, Callable[[Any], bool]] = {
    "mean": lambda value: _each(value, int | float),
    "std": lambda value: _each(value, int | float),
    "size": lambda value: _each(value, int),
    "labels": lambda value: isinstance(value, list) and _each(value, str),
}
_EXAMPLES = {
    "mean": "one number or one per channel, such as [0.485, 0.456, 0.406]",
    "std": "one number or one per channel, such as [0.229, 0.224, 0.225]",
    "size": "one side in pixels or [height, width], such as 224",
    "labels": 'the class names in order, such as ["cat", "dog"]',
}
_KINDS: dict[str, tuple[Any, str]] = {
    "integer range": (int, "a whole number"),
    "batch size": (int | str, "a whole number or auto"),
    "boolean": (bool, "true or false"),
    "float": (int | float, "a number"),
}


class BatchSize(click.IntRange):
    """A whole number, or "auto", which is None."""

    name = "batch size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


def _each(value: Any, kind: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, kind) and not isinstance(item, bool) for item in items)


def read_config(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Options from a TOML file, under the names they have here; the command line goes before."""
    if path is None:
        return None
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config {path}: {getattr(error, 'strerror', None) or error}") from None
    known = {parameter.name: parameter for parameter in context.command.params if parameter.name != "config"}
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name in CONFIG_ONLY:
            if not CONFIG_ONLY[name](value):
                raise ConfigError(f"--config {path}: {key} = {value!r}: write {_EXAMPLES[name]}")
            context.meta[f"robustkit.{name}"] = value
            continue
        if name not in known:
            raise ConfigError(f"--config {path}: there is no option {key!r}")
        if name == "fail_under" and isinstance(value, dict):
            value = [f"{eps}={floor}" for eps, floor in value.items()]
        if name == "eps" and isinstance(value, list):
            value = ",".join(str(eps) for eps in value)
        if known[name].multiple:
            value = [value] if isinstance(value, str) else value
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ConfigError(f"--config {path}: {key} must be a text or a list of them")
        else:
            kind, what = _KINDS.get(known[name].type.name, (str | int | float, "one value"))
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
                raise ConfigError(f"--config {path}: {key} must be {what}, got {value!r}")
        options[name] = value
    context.default_map = options
    return path


def given(context: click.Context, name: str) -> bool:
    """Whether an option was given, on the command line or in a file."""
    return context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)


def preset_or_attacks(context: click.Context, preset: str | None, attack: Sequence[str]) -> str | None:
    """The preset to take, if no attack is named; where both are given, what stands on the command line goes before."""
    if not attack:
        return "standard" if preset is None else preset
    if preset is None:
        return None
    typed = [context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ("preset", "attack")]
    if typed[0] == typed[1]:
        raise ConfigError("--preset and --attack both say which attacks to run: give one of them")
    return preset if typed[0] else None
