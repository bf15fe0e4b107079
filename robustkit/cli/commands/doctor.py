"""The command `robustkit doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from robustkit.cli.options import MODEL, load_subject, samples_for, with_options

if TYPE_CHECKING:
    from rich.text import Text

    from robustkit.checks import CheckResult

_STYLES = {
    "pass": ("pass", "green"),
    "warn": ("WARN", "bold yellow"),
    "fail": ("FAIL", "bold red"),
    "error": ("ERR ", "bold yellow"),
    "n/a": ("n/a ", "dim"),
}


@click.command()
@click.argument("model", default="efficientnet-lite0")
@click.argument("data", required=False)
@with_options(MODEL[1:])
@click.option("--samples", type=click.IntRange(1), default=32, show_default=True, help="Look at this many.")
@click.pass_context
def doctor(
    context: click.Context,
    model: str,
    data: str | None,
    arch: str | None,
    device: str,
    precision: str,
    prepare: bool,
    seed: int,
    config: str | None,
    samples: int,
) -> int:
    """Check in seconds whether MODEL and DATA are fit to be audited; the status is 1 if a check failed."""
    from robustkit.checks.doctor import doctor as examined
    from robustkit.data.load import load_data

    subject = load_subject(context, model, arch, device, precision, prepare)
    results = examined(subject, load_data(data if data is not None else samples_for(model)), samples, seed)
    show_checks(results)
    return exit_status(results)


def show_checks(results: Sequence[CheckResult]) -> None:
    """A line for each check, and under one that found something what to do."""
    from rich.text import Text

    from robustkit.cli.terminal import open_console

    console = open_console()

    def line(text: Text) -> None:
        console.print(text, soft_wrap=not console.is_terminal)

    for result in results:
        word, style = _STYLES[result.status]
        line(Text.assemble((word, style), f"  {result.id}: {result.detail}"))
        if result.status in ("warn", "fail", "error"):
            source = "" if result.status == "error" else f" ({result.source})"
            line(Text(f"      {result.remedy}{source}"))
    counts = {status: sum(result.status == status for result in results) for status in _STYLES}
    parts = [f"{counts['fail']} failed", f"{counts['warn']} warned", f"{counts['pass']} passed", f"{counts['n/a']} n/a"]
    parts += [f"{counts['error']} ended in an error"] * bool(counts["error"])
    line(Text(f"{len(results)} checks: {', '.join(parts)}", style="bold"))


def exit_status(results: Sequence[CheckResult]) -> int:
    """1 if a check failed, else 0: a check that raised has found nothing."""
    return int(any(result.status == "fail" for result in results))
