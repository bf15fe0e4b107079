"""What the command line tells of an attack, and a file of it for our own: torch, which the attacks need, takes two
seconds to import, and a list of names should not.

    python -m robustkit.catalogue

writes the file anew after an attack has changed; a test says when that was forgotten.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustkit.attacks.core.attack import Attack

FILE = Path(__file__).with_name("attack_catalogue.json")
_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text", types.NoneType: "none"}


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str  # in words
    default: str  # as one writes it


@dataclass(frozen=True)
class Entry:
    """One attack, see `Attack` for the fields."""

    name: str
    title: str
    paper: str
    norms: list[str]  # empty where no norm measures it
    access: str
    finds: str
    foreign: bool
    text: str  # its docstring, without the example
    parameters: list[Parameter]


def entry_of(kind: type[Attack]) -> Entry:
    """The entry of an attack, from its class."""
    hints = typing.get_type_hints(kind)
    return Entry(
        name=kind.name,
        title=kind.title,
        paper=kind.paper,
        norms=list(kind.norms) if kind.ball else [],
        access=kind.access,
        finds="smallest" if kind.minimum_norm else "within ε" if kind.ball else "other",
        foreign=kind.foreign,
        text=(inspect.getdoc(kind) or "").split("\n>>>")[0].strip(),
        parameters=[
            Parameter(field.name, _type(hints[field.name]), _written(field.default))
            for field in dataclasses.fields(kind)
            if field.init
        ],
    )


def catalogue() -> dict[str, Entry]:
    """Our own attacks by name, as the file has them."""
    rows = json.loads(FILE.read_text("utf-8"))
    entries = (Entry(**{**row, "parameters": [Parameter(**each) for each in row["parameters"]]}) for row in rows)
    return {entry.name: entry for entry in entries}


def current() -> str:
    """What the file should hold."""
    from robustkit.attacks.registry import ATTACKS

    rows = [dataclasses.asdict(entry_of(kind)) for kind in ATTACKS.values()]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


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


if __name__ == "__main__":
    FILE.write_text(current(), "utf-8")
