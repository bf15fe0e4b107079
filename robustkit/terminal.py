"""What the command line prints: tables for people, on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustkit.reports import AuditRecord, Comparison, Rate

if TYPE_CHECKING:
    from robustkit.attacks.base import Attack

_SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1"}


def summarise(record: AuditRecord, out: Path) -> None:
    """The audit in a dozen lines, and where its report lies."""
    console = _console()
    norm = _SYMBOLS[record.norm]
    console.print(Text(f"{record.model.title} on {record.data.title}, {norm}", style="bold"))
    console.print(Text(f"clean accuracy {_rate(record.clean)}"))
    table = Table(box=None, pad_edge=False)
    table.add_column("robust accuracy at ε =")
    for point in record.worst_case:
        table.add_column(Text(point.text), justify="right")
    table.add_column("median distance", justify="right")
    table.add_column("gradients", justify="right")
    table.add_column("seconds", justify="right")
    for attack in record.attacks:
        median = attack.distortion.median
        figures = ["–" if point.robust.value is None else f"{100 * point.robust.value:.0f} %" for point in attack.curve]
        distance = "none found" if median is None else f"{median:.4g}"
        table.add_row(Text(attack.title), *figures, distance, f"{attack.backwards:.0f}", f"{attack.seconds:.1f}")
    worst = ["–" if point.robust.value is None else f"{100 * point.robust.value:.0f} %" for point in record.worst_case]
    median = record.worst_distance.median
    table.add_row(Text("worst case"), *worst, "none found" if median is None else f"{median:.4g}", style="bold")
    console.print(table)
    for point in record.worst_case[-1:]:
        console.print(Text(f"worst case at ε = {point.text}: {_rate(point.robust)}"))
    if record.data.skipped:
        console.print(Text(f"{len(record.data.skipped)} files could not be read; the report names them"))
    if record.status != "complete":
        console.print(Text("incomplete: the audit broke off", style="bold red"))
    for gate in record.gates:
        word, style = ("passed", "green") if gate.passed else ("FAILED", "bold red")
        console.print(Text.assemble((word, style), f"  {gate.name}: {gate.detail}"))
    console.print(Text(f"report: {out / 'index.html'}"))


def show_comparison(comparison: Comparison, figure: Path) -> None:
    console = _console()
    before, after = comparison.original, comparison.adversarial
    radius = "" if comparison.eps is None else f" at ε = {comparison.eps:.4g}"
    console.print(Text(f"{comparison.name}: {before.label} ({100 * before.confidence:.1f} %)", style="bold"))
    console.print(Text(f"{comparison.attack}{radius}: {after.label} ({100 * after.confidence:.1f} %), as saved"))
    size = f"{_SYMBOLS[comparison.norm]} {comparison.size:.4g}, rms {comparison.rms:.4g}"
    console.print(Text(f"the saved perturbation: {size}"))
    if comparison.undone:
        seen = f"{comparison.before_label} ({100 * comparison.before_confidence:.1f} %)"
        console.print(Text(f"before rounding to 8 bits it was {seen}: rounding undid the attack"))
    elif comparison.target is not None and after.label != comparison.target:
        console.print(Text(f"the target {comparison.target} was not reached: try more ε, or --attack pgd"))
    elif after.label == before.label:
        console.print(Text("the attack did not change the answer: try more ε, or --attack pgd"))
    console.print(Text(f"figure: {figure}"))


def show_names(title: str, names: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, description in names:
        table.add_row(escape(name), escape(description))
    _console().print(table)


def show_attacks(attacks: Mapping[str, type[Attack]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("attack", "searches", "paper", "parameters"):
        table.add_column(heading)
    for name, kind in attacks.items():
        defaults = kind()  # type: ignore[call-arg]
        searches = "smallest perturbation" if kind.minimum_norm else "within ε"
        settings = ", ".join(
            f"{key}={'none' if value is None else str(value).lower()}"
            for key, value in defaults.parameters().items()
            if key not in ("norm", "eps")
        )
        table.add_row(name, searches, kind.paper, settings)
    _console().print(table)


def _console() -> Console:
    # Off a terminal rich would fold at 80 columns, which tears tables in a log apart.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "no samples"
    return (
        f"{100 * rate.value:.1f} % ({rate.count} of {rate.total}; "
        f"95 % interval {100 * rate.low:.1f}–{100 * rate.high:.1f} %)"
    )
