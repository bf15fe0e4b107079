"""The attacks as the command line lists them: all of them, and a page of one."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from robustkit.cli.attack_catalogue import Entry
from robustkit.cli.terminal import SYMBOLS, open_console

_ACCESS = {"gradient": "white box", "scores": "scores", "labels": "labels"}
_AUDITS = {"norm": "--norm", "eps": "--eps"}  # set for the whole audit
_COLUMNS = "{:<16}{:<10}{:<11}{:<10}{}"
_NARROW, _WIDE = 80, 110  # columns off a terminal, and the most that are read with ease


def show_attacks(entries: Iterable[Entry]) -> None:
    """A line of each attack's traits, and below it the paper and the default parameters."""
    console, headed = open_console(), False
    for entry in entries:
        if entry.foreign:  # whose names are long, and their titles too
            _print(console, Text(entry.name, style="bold"))
            about = " · ".join(filter(None, (*_traits(entry), entry.paper)))
        else:
            if not headed:
                _print(console, Text(_COLUMNS.format("attack", "norms", "sees", "finds", "title"), style="bold"))
                headed = True
            row = Text(_COLUMNS.format(entry.name, *_traits(entry), entry.title))
            row.stylize("bold", 0, len(entry.name))
            _print(console, row)
            about = entry.paper
        settings = ", ".join(f"{each.name}={each.default}" for each in entry.parameters if each.name not in _AUDITS)
        for line in filter(None, (about, settings)):
            _print(console, Text(_folded(line, _width(console), "    ")))


def show_attack(entry: Entry) -> None:
    """The docstring of an attack, and its parameters with their types and defaults."""
    console = open_console()
    console.print(Text(f"{entry.name}: {entry.title}", style="bold"))
    console.print(Text(" · ".join(filter(None, (*_traits(entry), entry.paper)))))
    # Somebody else's words may be laid out in any way.
    text = entry.text if entry.foreign else "\n".join(_reflowed(entry.text, _width(console)))
    console.print(Text(f"\n{text}\n"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("parameter", "type", "default"):
        table.add_column(heading)
    for each in entry.parameters:
        where = f"{each.type}, from {_AUDITS[each.name]}" if each.name in _AUDITS else each.type
        table.add_row(Text(each.name), Text(where), Text(each.default))
    console.print(table)


def _traits(entry: Entry) -> tuple[str, str, str]:
    return " ".join(SYMBOLS[norm] for norm in entry.norms), _ACCESS[entry.access], entry.finds


def _width(console: Console) -> int:
    return min(console.width, _WIDE) if console.is_terminal else _NARROW


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)  # folded already


def _folded(text: str, width: int, indent: str, hanging: str = "") -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _reflowed(text: str, width: int) -> Iterator[str]:
    """The lines of one of our docstrings for another width: an item of a list goes on where the next line is indented
    further, a paragraph where it is not."""
    parts: list[str] = []
    for line in text.splitlines():
        indent, whole = _indent(line), _indent(parts[-1]) if parts else ""
        goes_on = len(indent) > len(whole) if whole else not indent
        heading = bool(parts) and re.fullmatch(r"\w+:", parts[-1]) is not None
        if line.strip() and parts and parts[-1].strip() and goes_on and not heading:
            parts[-1] = f"{parts[-1]} {line.strip()}"
        else:
            parts.append(line)
    for part in parts:
        indent = _indent(part)
        yield _folded(part.strip(), width, indent, "    " if indent else "")


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
