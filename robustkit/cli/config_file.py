"""Options from a TOML file, checked as those of the command line are; needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from robustkit.errors import ConfigError

# Values of their own kinds: what a good one is, and examples of it.
VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "mean": (lambda value: _each(value, int | float), "one number or one per channel, such as [0.485, 0.456, 0.406]"),
    "std": (lambda value: _each(value, int | float), "one number or one per channel, such as [0.229, 0.224, 0.225]"),
    "size": (lambda value: _each(value, int), "one side in pixels or [height, width], such as 224"),
    "labels": (
        lambda value: isinstance(value, list) and _each(value, str),
        'the class names in order, such as ["cat", "dog"]',
    ),
}
_KINDS: dict[str, tuple[Any, str]] = {
    "whole number": (int, "a whole number"),
    "batch size": (int | str, "a whole number or auto"),
    "boolean": (bool, "true or false"),
    "float": (int | float, "a number"),
}


def _each(value: Any, kind: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, kind) and not isinstance(item, bool) for item in items)


def read_config(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Take options from a TOML file, under the names they have here; the command line goes before."""
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
        if name in known:
            options[name] = _checked(f"--config {path}: {key}", name, value, known[name])
        else:
            raise ConfigError(f"--config {path}: there is no option {key!r}")
    context.default_map = options
    return path


def _checked(where: str, name: str, value: Any, option: click.Parameter) -> Any:
    """The value as the option takes it; ConfigError, which names the place, if it is of another kind."""
    if name in VALUES:
        good, example = VALUES[name]
        if not good(value):
            raise ConfigError(f"{where} = {value!r}: write {example}")
        return value
    if name == "fail_under" and isinstance(value, dict):
        value = [f"{eps}={floor}" for eps, floor in value.items()]
    if name == "eps" and isinstance(value, list):
        value = ",".join(str(eps) for eps in value)
    if option.multiple:
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{where} must be a text or a list of them")
        return value
    kind, what = _KINDS.get(option.type.name, (str | int | float, "one value"))
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
        raise ConfigError(f"{where} must be {what}, got {value!r}")
    return value
