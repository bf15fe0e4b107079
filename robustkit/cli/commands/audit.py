"""The command `robustkit audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robustkit.cli import options as shared
from robustkit.errors import ConfigError

if TYPE_CHECKING:
    from robustkit.auditing.progress import Watch
    from robustkit.reports import AuditRecord


@dataclass(frozen=True, kw_only=True)
class AuditOptions(shared.RunOptions):
    """Options of `robustkit audit`."""

    norm: str
    preset: str | None
    target: str | None
    surrogate: Sequence[str]
    fail_under: Sequence[str]
    baseline: str | None
    max_drop: float | None
    checks: bool
    adapt: bool
    strict: bool

    def preset_or_attacks(self) -> str | None:
        """The preset to take, None if attacks are named; of both, what stands on the command line goes before."""
        if not self.attack:
            return "standard" if self.preset is None else self.preset
        if self.preset is None:
            return None
        if self.typed("preset") == self.typed("attack"):
            raise ConfigError("--preset and --attack both say which attacks to run: give one of them")
        return self.preset if self.typed("preset") else None


@click.command()
@shared.with_options(
    AuditOptions,
    [
        shared.MODEL_NAME,
        *shared.MODEL,
        shared.DATA,
        shared.ATTACK,
        click.option(
            "--preset", metavar="NAME", help="Or a set of them: quick, standard (the default), autoattack, thorough."
        ),
        shared.NORM,
        shared.eps_grid("1/255,4/255"),
        shared.SAMPLES,
        shared.BATCH_SIZE,
        click.option("--target", metavar="CLASS", help="Targeted: a class by name or number, or least-likely."),
        click.option(
            "--surrogate",
            multiple=True,
            metavar="MODEL",
            help="Also try points made on this model; may be repeated.",
        ),
        shared.REPORT_OUT,
        click.option(
            "--fail-under", multiple=True, metavar="EPS=FLOOR", help="Fail if robust accuracy is lower there."
        ),
        click.option("--baseline", metavar="RECORD", help="An earlier report.json that must not be undercut ..."),
        click.option("--max-drop", type=float, help="... by more than this; 0 by default."),
        click.option(
            "--checks/--no-checks", default=True, show_default=True, help="See whether the numbers can be trusted."
        ),
        click.option(
            "--adapt",
            is_flag=True,
            help="Where a check finds a fault, attack as the literature prescribes against it.",
        ),
        click.option("--strict", is_flag=True, help="Fail if one of these checks fails."),
    ],
)
def audit(options: AuditOptions) -> int:
    """Attack a model on labelled pictures and write a report."""
    from robustkit.auditing import gates
    from robustkit.auditing.plan import target_name, with_transfers
    from robustkit.auditing.run import audit as run_audit
    from robustkit.cli import parsing
    from robustkit.cli.run_report import write_report
    from robustkit.models.load import load_model

    # Everything that can be refused is refused before the first gradient.
    for name, asked in (("--strict asks for", options.strict), ("--adapt answers", options.adapt)):
        if asked and not options.checks:
            raise ConfigError(f"{name} the checks that --no-checks leaves out: give one of them")
    norm = parsing.check_norm(options.norm)
    grid = parsing.parse_grid(options.eps, options.model, norm)
    preset = options.preset_or_attacks()
    specs = options.attack if preset is None else parsing.preset_attacks(preset, norm)
    named = preset is None and options.given("norm")
    attacks = [parsing.parse_attack(spec, norm, strict=named) for spec in specs]
    floors = parsing.parse_floors(options.fail_under, norm, grid)
    baseline = _read_baseline(options.baseline, options.max_drop)
    model = options.load_model()
    device, precision, prepare = options.device, options.precision, options.prepare
    surrogates = [load_model(name, device=device, precision=precision, prepare=prepare) for name in options.surrogate]
    data = options.load_data(options.data)
    if baseline is not None:
        gates.check_baseline(
            baseline,
            norm=norm,
            data=data.name,
            samples=min(len(data), options.samples or len(data)),
            grid=grid,
            attacks=with_transfers(attacks, surrogates, norm),
            target=target_name(model, options.target),
            adapt=options.adapt,
        )

    def run(watch: Watch, folder: Path) -> AuditRecord:
        return run_audit(
            model,
            data,
            attacks,
            grid,
            seed=options.seed,
            norm=norm,
            samples=options.samples,
            batch_size=options.batch_size,
            target=options.target,
            surrogates=surrogates,
            out=folder,
            watch=watch,
            command=shared.recorded_command(),
            checks=options.checks,
            adapt=options.adapt,
        )

    def add_gates(record: AuditRecord) -> AuditRecord:
        return gates.apply_gates(record, floors, baseline, options.max_drop or 0.0, options.strict)

    return 0 if write_report(Path(options.out), run, add_gates).passed else 1


def _read_baseline(path: str | None, max_drop: float | None) -> AuditRecord | None:
    from robustkit import reports

    if path is None:
        if max_drop is not None:
            raise ConfigError("--max-drop needs --baseline: the report.json to compare with")
        return None
    if max_drop is not None and not 0 <= max_drop <= 1:
        raise ConfigError(f"--max-drop is a share of the samples from 0 to 1, got {max_drop}")
    try:
        return reports.read(path)
    except reports.RecordError as error:
        raise ConfigError(str(error)) from None
