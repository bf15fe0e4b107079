"""The command `robustkit compare`."""

from __future__ import annotations

from pathlib import Path

import click

from robustkit.cli.config_file import given
from robustkit.cli.options import MODEL, filled, load_subject, with_options


@click.command()
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
    from robustkit.auditing.comparison_files import compare_picture
    from robustkit.cli import parsing as settings
    from robustkit.cli import terminal
    from robustkit.cli.report_folder import made

    settings.check_norm(norm)
    radius = settings.parse_eps(eps, norm)
    method = settings.parse_attack(attack, norm, strict=given(context, "norm"))
    subject = load_subject(context, model, arch, device, precision, prepare)
    with made(Path(out)) as folder:
        comparison, figure = compare_picture(subject, Path(image), method, radius, target, seed, folder)
    terminal.show_comparison(comparison, figure)
