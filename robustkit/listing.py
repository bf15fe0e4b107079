"""The attacks as the command line lists them: a table of all, and a page of one."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from robustkit.catalogue import Entry
from robustkit.terminal import SYMBOLS, open_console

_ACCESS = {"gradient": "white box", "scores": "scores", "labels": "labels"}
_AUDITS = {"norm": "--norm", "eps": "--eps"}  # set for the whole audit


def show_attacks(entries: Iterable[Entry]) -> None:
    """A row per attack; its title, paper and default parameters share the last column, which takes what is left."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("attack", "norms", "sees", "finds"):
        table.add_column(heading, overflow="fold")
    table.add_column("paper and defaults", ratio=1, min_width=28)
    for entry in entries:
        settings = ", ".join(f"{each.name}={each.default}" for each in entry.parameters if each.name not in _AUDITS)
        about = entry.paper if entry.foreign else f"{entry.title}: {entry.paper}"  # whose titles are their names
        name = Text(entry.name, style="bold")
        table.add_row(name, *_traits(entry), Text(f"{about}\n{settings}" if settings else about))
    open_console().print(table)


def show_attack(entry: Entry) -> None:
    """The docstring of an attack, and its parameters with their types and defaults."""
    console = open_console()
    console.print(Text(f"{entry.name}: {entry.title}", style="bold"))
    console.print(Text(" · ".join(filter(None, (*_traits(entry), entry.paper)))))
    console.print(Text(f"\n{entry.text}\n"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("parameter", "type", "default"):
        table.add_column(heading)
    for each in entry.parameters:
        where = f"{each.type}, from {_AUDITS[each.name]}" if each.name in _AUDITS else each.type
        table.add_row(Text(each.name), Text(where), Text(each.default))
    console.print(table)


def _traits(entry: Entry) -> tuple[str, str, str]:
    return " ".join(SYMBOLS[norm] for norm in entry.norms), _ACCESS[entry.access], entry.finds
