"""The command `robustkit audit`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustkit.cli.config_file import BatchSize, given, preset_or_attacks
from robustkit.cli.options import MODEL, filled, load_subject, samples_for, with_options
from robustkit.errors import ConfigError

if TYPE_CHECKING:
    from robustkit.auditing.progress import Watch
    from robustkit.reports import AuditRecord


@click.command()
@with_options(MODEL)
@click.option("--data", callback=filled, help="Name, folder or .npz; by default the samples that go with the model.")
@click.option("--attack", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="An attack; may be repeated.")
@click.option("--preset", metavar="NAME", help="Or a set of them: quick, standard (the default), autoattack, thorough.")
@click.option("--norm", default="linf", show_default=True, help="linf, l2 or l1.")
@click.option("--eps", metavar="LIST", help="ε grid in pixel units of [0,1], such as 1/255,4/255.")
@click.option("--samples", type=click.IntRange(1), help="Judge this many; all by default.")
@click.option(
    "--batch-size", type=BatchSize(1), default="auto", show_default=True, help="Samples at a time; halved if need be."
)
@click.option("--target", metavar="CLASS", help="Targeted: a class by name or number, or least-likely.")
@click.option(
    "--surrogate", multiple=True, metavar="MODEL", help="Also try points made on this model; may be repeated."
)
@click.option(
    "--out", default="report", show_default=True, callback=filled, metavar="DIR", help="Folder of the report."
)
@click.option("--fail-under", multiple=True, metavar="EPS=FLOOR", help="Fail if robust accuracy is lower there.")
@click.option("--baseline", metavar="RECORD", help="An earlier report.json that must not be undercut ...")
@click.option("--max-drop", type=float, help="... by more than this; 0 by default.")
@click.option("--checks/--no-checks", default=True, show_default=True, help="See whether the numbers can be trusted.")
@click.option(
    "--adapt", is_flag=True, help="Where a check finds a fault, attack as the literature prescribes against it."
)
@click.option("--strict", is_flag=True, help="Fail if one of these checks fails.")
@click.pass_context
def audit(
    context: click.Context,
    model: str,
    arch: str | None,
    device: str,
    precision: str,
    prepare: bool,
    seed: int,
    config: str | None,
    data: str | None,
    attack: Sequence[str],
    preset: str | None,
    norm: str,
    eps: str | None,
    samples: int | None,
    batch_size: int | None,
    target: str | None,
    surrogate: Sequence[str],
    out: str,
    fail_under: Sequence[str],
    baseline: str | None,
    max_drop: float | None,
    checks: bool,
    adapt: bool,
    strict: bool,
) -> int:
    """Attack a model on labelled pictures and write a report."""
    from robustkit.auditing import gates
    from robustkit.auditing.plan import target_name, with_transfers
    from robustkit.auditing.run import audit as run
    from robustkit.cli import parsing as settings
    from robustkit.cli.recording import recorded
    from robustkit.data.load import load_data
    from robustkit.models.load import load_model

    # Everything that can be refused is refused before the first gradient.
    if strict and not checks:
        raise ConfigError("--strict asks for the checks that --no-checks leaves out: give one of them")
    if adapt and not checks:
        raise ConfigError("--adapt answers the checks that --no-checks leaves out: give one of them")
    settings.check_norm(norm)
    grid = settings.parse_grid(eps if eps is not None else settings.default_eps(model, norm), norm)
    preset = preset_or_attacks(context, preset, attack)
    specs = attack if preset is None else settings.preset_attacks(preset, norm)
    named = preset is None and given(context, "norm")
    attacks = [settings.parse_attack(spec, norm, strict=named) for spec in specs]
    floors = settings.parse_floors(fail_under, norm, grid)
    old = _baseline(baseline, max_drop)
    subject = load_subject(context, model, arch, device, precision, prepare)
    others = [load_model(name, device=device, precision=precision, prepare=prepare) for name in surrogate]
    pictures = load_data(data if data is not None else samples_for(model))
    if old is not None:
        count = min(len(pictures), samples or len(pictures))
        whole = with_transfers(attacks, others, norm)
        gates.check_baseline(old, norm, pictures.name, count, grid, whole, target_name(subject, target), adapt)

    def go(watch: Watch, folder: Path) -> AuditRecord:
        return run(
            subject,
            pictures,
            attacks,
            grid,
            seed=seed,
            norm=norm,
            samples=samples,
            batch_size=batch_size,
            target=target,
            surrogates=others,
            out=folder,
            watch=watch,
            command=shlex.join(["robustkit", *sys.argv[1:]]),
            checks=checks,
            adapt=adapt,
        )

    record = recorded(Path(out), go, lambda record: gates.judge(record, floors, old, max_drop or 0.0, strict))
    return 0 if record.passed else 1


def _baseline(path: str | None, max_drop: float | None) -> Any:
    if path is None:
        if max_drop is not None:
            raise ConfigError("--max-drop needs --baseline: the report.json to compare with")
        return None
    if max_drop is not None and not 0 <= max_drop <= 1:
        raise ConfigError(f"--max-drop is a share of the samples from 0 to 1, got {max_drop}")
    return _record(path)


def _record(path: str) -> Any:
    from robustkit import reports

    try:
        return reports.read(path)
    except reports.RecordError as error:
        raise ConfigError(str(error)) from None
