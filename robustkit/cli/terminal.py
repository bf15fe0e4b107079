"""Tables for people, printed on standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from robustkit.reports import AuditRecord, Certified, Comparison, EpsPoint, Rate
from robustkit.reports.page.adapted_section import adapted_sentence
from robustkit.reports.page.certified_section import undecided

SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1"}


class _Console(Console):
    """A console whose reader may go away, which does not change the exit status."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def summarise(record: AuditRecord, out: Path) -> None:
    """Print the audit in a dozen lines, and the path of its report."""
    console = open_console()
    norm = SYMBOLS[record.norm]
    _line(console, Text(f"{record.model.title} on {record.data.title}, {norm}", style="bold"))
    _line(console, Text(f"clean accuracy {_rate(record.clean)}"))
    table = Table(box=None, pad_edge=False)
    table.add_column("ε =")
    for point in record.worst_case:
        table.add_column(Text(point.text), justify="right")
    black = any(attack.access != "gradient" for attack in record.attacks)
    costs = "queries, gradients" if black else "gradients"
    _line(console, Text(f"robust accuracy at each ε; median distance; {costs} per sample:"))
    for heading in (f"median {norm}", *(["queries"] if black else []), "gradients", "time"):
        table.add_column(heading, justify="right")
    for attack in record.attacks:
        if attack.kind == "free":
            continue
        queries = [f"{attack.forwards:.0f}"] if black else []
        effort = (*queries, f"{attack.backwards:.0f}", f"{attack.seconds:.1f} s")
        figures = _figures(attack.curve, attack.distortion.median)
        own = "" if attack.own_norm == record.norm else f" (searches in {SYMBOLS[attack.own_norm]})"
        table.add_row(Text(attack.title + own), *figures, *effort)
    table.add_row("worst case", *_figures(record.worst_case, record.worst_distance.median), style="bold")
    console.print(table)
    for point in record.worst_case[-1:] if any(attack.kind != "free" for attack in record.attacks) else []:
        _line(console, Text(f"worst case at ε = {point.text}: {_rate(point.robust)}"))
    if record.certified is not None:
        _certified(console, record, record.certified)
    for attack in record.attacks:
        if attack.kind == "free":
            held = Rate.of(attack.success.total - attack.success.count, len(record.samples.ids))
            _line(console, Text(f"accuracy under {attack.title}: {_rate(held)}"))
    if record.run.prepared:
        _line(console, Text(f"the model: {record.run.prepared}", style="dim"))
    if record.data.skipped:
        count = len(record.data.skipped)
        _line(console, Text(f"{count} file{'s' * (count > 1)} could not be read; the report names what and why"))
    if record.status != "complete":
        _line(console, Text("incomplete: the audit broke off", style="bold red"))
    _verdict(console, record)
    for gate in record.gates:
        word, style = ("passed", "green") if gate.passed else ("FAILED", "bold red")
        _line(console, Text.assemble((word, style), f"  {gate.name}: {gate.detail}"))
    _path(console, "report", out / "index.html")


def _certified(console: Console, record: AuditRecord, found: Certified) -> None:
    """Print at each ε the certified accuracy, the accuracy under attack, and the samples undecided between them."""
    settings = ", ".join(f"{key} {value}" for key, value in found.parameters.items())
    _line(console, Text(f"certified by {found.title} ({settings}):"))
    table = Table(box=None, pad_edge=False)
    for heading in ("ε", "certified", "robust to the attacks", "undecided"):
        table.add_column(heading, justify="right")
    for point, rate, left in zip(record.worst_case, found.curve, undecided(record, found), strict=False):
        table.add_row(Text(point.text), _rate(rate), _rate(point.robust), str(left))
    console.print(table)
    radius = found.radius
    if radius.median is not None and radius.max is not None:
        figures = f"median {radius.median:.4g}, largest {radius.max:.4g}"
        _line(console, Text(f"certified radius in {SYMBOLS[found.norm]}, samples right before: {figures}"))
    for sample, size, distance in record.refuted:
        refuted = f"sample {sample} was broken at {distance:.4g}, within its certified radius {size:.4g}"
        _line(console, Text(refuted, style="bold red"))


def _verdict(console: Console, record: AuditRecord) -> None:
    """Print the verdict on the numbers, and the checks that failed or warned."""
    if record.adapted is not None:
        _line(console, Text(adapted_sentence(record)))
    style = {"trust": "green", "with reservations": "bold yellow", "do not trust": "bold red"}.get(
        record.verdict, "dim"
    )
    _line(console, Text.assemble("can these numbers be trusted? ", (record.verdict, style)))
    for status in ("fail", "error", "warn"):
        for check in record.checks:
            if check.status == status:
                _line(console, Text(f"  {status}  {check.id}: {check.detail}"))


def show_comparison(comparison: Comparison, figure: Path) -> None:
    console = open_console()
    before, after = comparison.original, comparison.adversarial
    radius = "" if comparison.eps is None else f" at ε = {comparison.eps:.4g}"
    _line(console, Text(f"{comparison.name}: {before.label} ({100 * before.confidence:.1f} %)", style="bold"))
    _line(console, Text(f"{comparison.attack}{radius}: {after.label} ({100 * after.confidence:.1f} %), as saved"))
    size = f"{SYMBOLS[comparison.norm]} {comparison.size:.4g}, rms {comparison.rms:.4g}"
    _line(console, Text(f"the perturbation as saved, in whole levels of 255: {size}"))
    remedy = "give the search more steps" if comparison.eps is None else "try more ε, or --attack pgd"
    if comparison.undone:
        seen = f"{comparison.before_label} ({100 * comparison.before_confidence:.1f} %)"
        _line(console, Text(f"before rounding to 8 bits it was {seen}: rounding undid the attack"))
    elif comparison.target is not None and after.label != comparison.target:
        _line(console, Text(f"the target {comparison.target} was not reached: {remedy}"))
    elif after.label == before.label:
        _line(console, Text(f"the attack did not change the answer: {remedy}"))
    _path(console, "figure", figure)


def show_names(title: str, names: Sequence[tuple[str, str]]) -> None:
    console = open_console()
    console.print(Text(title, style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, description in names:
        table.add_row(f"  {escape(name)}", escape(description))
    console.print(table)


def _figures(curve: Sequence[EpsPoint], median: float | None) -> list[str]:
    shares = [point.robust.value for point in curve]
    texts = ["–" if share is None else f"{100 * share:.0f} %" for share in shares]
    return [*texts, "–" if median is None else f"{median:.4g}"]


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=not console.is_terminal)


def _path(console: Console, what: str, path: Path) -> None:
    console.print(Text(f"{what}: {path}"), soft_wrap=True)  # never folded: it is there to be copied


def open_console() -> Console:
    # Off a terminal rich would fold at 80 columns, which tears tables in a log apart.
    console = _Console(highlight=False)
    return console if console.is_terminal else _Console(highlight=False, width=140)


def _rate(rate: Rate) -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "no samples"
    return (
        f"{100 * rate.value:.1f} % ({rate.count} of {rate.total}; "
        f"95 % interval {100 * rate.low:.1f}–{100 * rate.high:.1f} %)"
    )
