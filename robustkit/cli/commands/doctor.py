"""The command `robustkit doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from robustkit.cli import options as shared
from robustkit.cli.option_types import WholeNumber

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


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(shared.ModelOptions):
    """Options of `robustkit doctor`."""

    data: str | None
    samples: int


@click.command()
@shared.with_options(
    DoctorOptions,
    [
        click.argument("model", default="efficientnet-lite0"),
        click.argument("data", required=False),
        *shared.MODEL,
        click.option("--samples", type=WholeNumber(1), default=32, show_default=True, help="Look at this many."),
    ],
)
def doctor(options: DoctorOptions) -> int:
    """Check in seconds whether MODEL and DATA are fit to be audited; the status is 1 if a check failed."""
    from robustkit.checks.doctor import doctor as run_checks

    model, data = options.load_model(), options.load_data(options.data)
    results = run_checks(model, data, options.samples, options.seed)
    show_checks(results)
    return exit_status(results)


def show_checks(results: Sequence[CheckResult]) -> None:
    """Print a line for each check, and under one that found something its remedy."""
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
