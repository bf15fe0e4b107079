"""The command `robustkit certify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from robustkit.cli import options as shared
from robustkit.errors import ConfigError

if TYPE_CHECKING:
    from robustkit.auditing.progress import Watch
    from robustkit.certification import Bounds, Smoothing
    from robustkit.reports import AuditRecord

_METHODS = ("smoothing", "crown", "ibp")


@dataclass(frozen=True, kw_only=True)
class CertifyOptions(shared.RunOptions):
    """Options of `robustkit certify`."""

    norm: str | None
    method: str
    sigma: float | None
    draws: int | None
    select: int | None
    alpha: float | None

    def certificate(self) -> Smoothing | Bounds:
        """The way to certify that the options name.

        Raises:
            ConfigError: no such method, or an option that is out of range or not for it.
        """
        from robustkit.certification import Bounds, Smoothing
        from robustkit.text import suggestion

        if self.method not in _METHODS:
            known = ", ".join(_METHODS)
            raise ConfigError(
                f"there is no method {self.method!r}{suggestion(self.method, _METHODS)}; there are {known}"
            )
        numbers = {"sigma": self.sigma, "draws": self.draws, "select": self.select, "alpha": self.alpha}
        given = {name: value for name, value in numbers.items() if value is not None}
        if self.method == "smoothing" and self.norm not in (None, "l2"):
            raise ConfigError("smoothing certifies in l2: leave out --norm, or use --method crown")
        if self.method != "smoothing" and given:
            raise ConfigError(f"--{min(given)} is for --method smoothing, not for {self.method}: leave it out")
        try:
            if self.method == "smoothing":
                return Smoothing(**given)  # type: ignore[arg-type]
            return Bounds(method=self.method, norm=self.norm or "linf")
        except ValueError as error:
            raise ConfigError(str(error)) from None


@click.command()
@shared.with_options(
    CertifyOptions,
    [
        shared.MODEL_NAME,
        *shared.MODEL,
        shared.DATA,
        click.option(
            "--method", default="smoothing", show_default=True, metavar="NAME", help="smoothing, crown or ibp."
        ),
        click.option("--norm", help="l2 with smoothing; with crown and ibp linf (the default), l2 or l1."),
        shared.eps_grid("0.25,0.5,1"),
        click.option("--sigma", type=float, help="Smoothing: deviation of the noise, 0.25 by default."),
        click.option(
            "--draws", type=int, help="Smoothing: noisy copies that estimate the probability, 1000 by default."
        ),
        click.option("--select", type=int, help="Smoothing: noisy copies that select the class, 100 by default."),
        click.option(
            "--alpha", type=float, help="Smoothing: the chance that a certificate is wrong, 0.001 by default."
        ),
        shared.ATTACK,
        shared.SAMPLES,
        shared.BATCH_SIZE,
        shared.REPORT_OUT,
    ],
)
def certify(options: CertifyOptions) -> int:
    """Certify a model's answers, attack the same pictures, and write a report of both.

    The status is 1 if an attack breaks a certificate.
    """
    from robustkit.auditing.certified_audit import certify as run_certify
    from robustkit.cli import parsing
    from robustkit.cli.run_report import write_report

    # Everything that can be refused is refused before the first picture.
    if options.norm is not None:
        parsing.check_norm(options.norm)
    certificate = options.certificate()
    norm = "l2" if options.method == "smoothing" else options.norm or "linf"
    grid = parsing.parse_grid(options.eps, options.model, norm)
    attacks = [parsing.parse_attack(spec, norm) for spec in options.attack]
    model, data = options.load_model(), options.load_data(options.data)

    def run(watch: Watch, folder: Path) -> AuditRecord:
        return run_certify(
            model,
            data,
            certificate,
            grid,
            attacks=attacks,
            seed=options.seed,
            samples=options.samples,
            batch_size=options.batch_size,
            out=folder,
            watch=watch,
            command=shared.recorded_command(),
            checks=True,
        )

    return 1 if write_report(Path(options.out), run, lambda record: record).refuted else 0
