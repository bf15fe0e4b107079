"""The command line. Each command builds its objects from the options, calls the library and sets the exit status.

0 passed, 1 a gate failed, 2 bad usage or bad input, 3 the run itself failed. What the user can mend is one line on
standard error. Torch is imported inside the commands that need it: `--help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustkit import __version__
from robustkit.certification import certify
from robustkit.errors import ConfigError
from robustkit.oneline import OneLine
from robustkit.options import BatchSize, given, preset_or_attacks
from robustkit.subjects import MODEL, filled, load_subject, samples_for, with_options
from robustkit.tell import attacks, models

if TYPE_CHECKING:
    from robustkit.plan import Watch
    from robustkit.reports import AuditRecord


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="robustkit")
def main() -> None:
    """Says how little it takes to make an image classifier wrong.

    \b
    robustkit audit                       audit the embedded ImageNet model
    robustkit compare photo.jpg           one picture: original + perturbation = adversarial
    """


@main.command()
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
    from robustkit import config as settings
    from robustkit import gates
    from robustkit.auditor import audit as run
    from robustkit.data import load_data
    from robustkit.models import load_model
    from robustkit.plan import target_name, with_transfers
    from robustkit.recording import recorded

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


@main.command()
@click.argument("image")
@with_options(MODEL)
@click.option("--attack", default="fgsm", show_default=True, metavar="NAME[:KEY=VALUE,...]")
@click.option("--norm", default="linf", show_default=True, help="linf, l2 or l1.")
@click.option("--eps", default="0.007", show_default=True, help="Radius in pixel units of [0,1]; 2/255 works too.")
@click.option("--target", metavar="CLASS", help="The class to reach, by name or number; without it, any other.")
@click.option(
    "--out", default="comparison", show_default=True, callback=filled, metavar="DIR", help="Folder of the pictures."
)
@click.pass_context
def compare(
    context: click.Context,
    image: str,
    model: str,
    arch: str | None,
    device: str,
    precision: str,
    prepare: bool,
    seed: int,
    config: str | None,
    attack: str,
    norm: str,
    eps: str,
    target: str | None,
    out: str,
) -> None:
    """Attack one picture: original + ε · perturbation = adversarial, as PNG files."""
    from robustkit import config as settings
    from robustkit import terminal
    from robustkit.compare import compare_picture
    from robustkit.output import made

    settings.check_norm(norm)
    radius = settings.parse_eps(eps, norm)
    method = settings.parse_attack(attack, norm, strict=given(context, "norm"))
    subject = load_subject(context, model, arch, device, precision, prepare)
    with made(Path(out)) as folder:
        comparison, figure = compare_picture(subject, Path(image), method, radius, target, seed, folder)
    terminal.show_comparison(comparison, figure)


@main.command()
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
    from robustkit import doctor as clinic
    from robustkit.data import load_data

    subject = load_subject(context, model, arch, device, precision, prepare)
    results = clinic.doctor(subject, load_data(data if data is not None else samples_for(model)), samples, seed)
    clinic.show_checks(results)
    return clinic.exit_status(results)


@main.command()
@click.argument("record")
@click.option("--out", callback=filled, metavar="DIR", help="Folder to draw into; by default beside the record.")
def report(record: str, out: str | None) -> None:
    """Draw a report again from its report.json."""
    from robustkit import reports
    from robustkit.output import made

    try:
        with nullcontext() if out is None else made(Path(out)) as folder:
            page = reports.redraw(record, folder)
    except reports.RecordError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    click.echo(f"report: {page}")


main.add_command(models)
main.add_command(attacks)
main.add_command(certify)
