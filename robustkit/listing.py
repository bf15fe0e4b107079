"""The attacks as the command line lists them: a table of all, and a page of one."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from robustkit.attacks.base import Attack
from robustkit.terminal import SYMBOLS, open_console

_ACCESS = {"gradient": "white box", "scores": "scores", "labels": "labels"}
_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", types.NoneType: "none"}


def show_attacks(kinds: Iterable[type[Attack]]) -> None:
    """A row per attack; its title, paper and default parameters share the last column, which takes what is left."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("attack", "norms", "sees", "finds"):
        table.add_column(heading, overflow="fold")
    table.add_column("paper and defaults", ratio=1, min_width=28)
    for kind in kinds:
        settings = ", ".join(f"{key}={_written(value)}" for key, _, value in _parameters(kind) if key not in _AUDITS)
        about = kind.paper if kind.foreign else f"{kind.title}: {kind.paper}"  # whose titles are their names
        name = Text(kind.name, style="bold")
        table.add_row(name, *_traits(kind), Text(f"{about}\n{settings}" if settings else about))
    open_console().print(table)


def show_attack(kind: type[Attack]) -> None:
    """The docstring of an attack, and its parameters with their types and defaults."""
    console = open_console()
    console.print(Text(f"{kind.name}: {kind.title}", style="bold"))
    console.print(Text(" · ".join(filter(None, (*_traits(kind), kind.paper)))))
    text = (inspect.getdoc(kind) or "").split("\n>>>")[0].strip()
    console.print(Text(f"\n{text}\n"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("parameter", "type", "default"):
        table.add_column(heading)
    for key, hint, value in _parameters(kind):
        where = f"{_type(hint)}, from {_AUDITS[key]}" if key in _AUDITS else _type(hint)
        table.add_row(Text(key), Text(where), Text(_written(value)))
    console.print(table)


_AUDITS = {"norm": "--norm", "eps": "--eps"}  # set for the whole audit


def _traits(kind: type[Attack]) -> tuple[str, str, str]:
    finds = "smallest" if kind.minimum_norm else "within ε" if kind.ball else "other"
    return " ".join(SYMBOLS[norm] for norm in kind.norms) if kind.ball else "", _ACCESS[kind.access], finds


def _parameters(kind: type[Attack]) -> Iterator[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.init:
            yield field.name, hints[field.name], field.default


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_written, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _type(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_type, typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        return "+".join("..." if part is Ellipsis else _type(part) for part in typing.get_args(hint))
    return _TYPES.get(hint, "text")
