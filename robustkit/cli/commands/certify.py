"""The command `robustkit certify`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from robustkit.cli.config_file import BatchSize
from robustkit.cli.options import MODEL, filled, load_subject, samples_for, with_options
from robustkit.errors import ConfigError

if TYPE_CHECKING:
    from robustkit.auditing.progress import Watch
    from robustkit.reports import AuditRecord

_How = TypeVar("_How")
_METHODS = ("smoothing", "crown", "ibp")


@click.command()
@with_options(MODEL)
@click.option("--data", callback=filled, help="Name, folder or .npz; by default the samples that go with the model.")
@click.option("--method", default="smoothing", show_default=True, metavar="NAME", help="smoothing, crown or ibp.")
@click.option("--norm", help="l2 with smoothing; with crown and ibp linf (the default), l2 or l1.")
@click.option("--eps", metavar="LIST", help="ε grid in pixel units of [0,1], such as 0.25,0.5,1.")
@click.option("--sigma", type=float, help="Smoothing: deviation of the noise, 0.25 by default.")
@click.option("--draws", type=int, help="Smoothing: noisy copies that estimate the probability, 1000 by default.")
@click.option("--select", type=int, help="Smoothing: noisy copies that select the class, 100 by default.")
@click.option("--alpha", type=float, help="Smoothing: the chance that a certificate is wrong, 0.001 by default.")
@click.option("--attack", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="An attack; may be repeated.")
@click.option("--samples", type=click.IntRange(1), help="Judge this many; all by default.")
@click.option(
    "--batch-size", type=BatchSize(1), default="auto", show_default=True, help="Samples at a time; halved if need be."
)
@click.option(
    "--out", default="report", show_default=True, callback=filled, metavar="DIR", help="Folder of the report."
)
@click.pass_context
def certify(
    context: click.Context,
    model: str,
    arch: str | None,
    device: str,
    precision: str,
    prepare: bool,
    seed: int,
    config: str | None,
    data: str | None,
    method: str,
    norm: str | None,
    eps: str | None,
    sigma: float | None,
    draws: int | None,
    select: int | None,
    alpha: float | None,
    attack: Sequence[str],
    samples: int | None,
    batch_size: int | None,
    out: str,
) -> int:
    """Certify a model's answers, attack the same pictures, and write a report of both.

    The status is 1 if an attack breaks a certificate.
    """
    from robustkit.auditing.certified_audit import certify as certified
    from robustkit.certification import Bounds, Smoothing
    from robustkit.cli import parsing as settings
    from robustkit.cli.recording import recorded
    from robustkit.data.load import load_data
    from robustkit.text import suggestion

    # Everything that can be refused is refused before the first picture.
    if method not in _METHODS:
        known = ", ".join(_METHODS)
        raise ConfigError(f"there is no method {method!r}{suggestion(method, _METHODS)}; there are {known}")
    numbers = {"sigma": sigma, "draws": draws, "select": select, "alpha": alpha}
    given = {name: value for name, value in numbers.items() if value is not None}
    how: Smoothing | Bounds
    if method == "smoothing":
        if norm not in (None, "l2"):
            raise ConfigError("smoothing certifies in l2: leave out --norm, or use --method crown")
        norm = "l2"
        how = _made(Smoothing, **given)
    else:
        if given:
            raise ConfigError(f"--{min(given)} is for --method smoothing, not for {method}: leave it out")
        norm = norm or "linf"
        settings.check_norm(norm)
        how = _made(Bounds, method=method, norm=norm)
    grid = settings.parse_grid(eps if eps is not None else settings.default_eps(model, norm), norm)
    attacks = [settings.parse_attack(spec, norm) for spec in attack]
    subject = load_subject(context, model, arch, device, precision, prepare)
    pictures = load_data(data if data is not None else samples_for(model))

    def run(watch: Watch, folder: Path) -> AuditRecord:
        return certified(
            subject,
            pictures,
            how,
            grid,
            attacks=attacks,
            seed=seed,
            samples=samples,
            batch_size=batch_size,
            out=folder,
            watch=watch,
            command=shlex.join(["robustkit", *sys.argv[1:]]),
            checks=True,
        )

    return 1 if recorded(Path(out), run, lambda record: record).refuted else 0


def _made(kind: Callable[..., _How], **parameters: Any) -> _How:
    try:
        return kind(**parameters)
    except ValueError as error:
        raise ConfigError(str(error)) from None
