"""The command `robustkit compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from robustkit.cli import options as shared


@dataclass(frozen=True, kw_only=True)
class CompareOptions(shared.ModelOptions):
    """Options of `robustkit compare`."""

    image: str
    attack: str
    norm: str
    eps: str
    target: str | None
    out: str


@click.command()
@shared.with_options(
    CompareOptions,
    [
        click.argument("image"),
        shared.MODEL_NAME,
        *shared.MODEL,
        click.option("--attack", default="fgsm", show_default=True, metavar="NAME[:KEY=VALUE,...]"),
        shared.NORM,
        click.option(
            "--eps", default="0.007", show_default=True, help="Radius in pixel units of [0,1]; 2/255 works too."
        ),
        click.option("--target", metavar="CLASS", help="The class to reach, by name or number; without it, any other."),
        shared.out_option("comparison", "Folder of the pictures."),
    ],
)
def compare(options: CompareOptions) -> None:
    """Attack one picture: original + ε · perturbation = adversarial, as PNG files."""
    from robustkit.auditing.comparison_files import compare_picture
    from robustkit.cli import parsing, terminal
    from robustkit.cli.report_folder import output_folder

    norm = parsing.check_norm(options.norm)
    eps = parsing.parse_eps(options.eps, norm)
    attack = parsing.parse_attack(options.attack, norm, strict=options.given("norm"))
    model = options.load_model()
    with output_folder(Path(options.out)) as folder:
        comparison, figure = compare_picture(
            model, Path(options.image), attack, eps=eps, target=options.target, seed=options.seed, folder=folder
        )
    terminal.show_comparison(comparison, figure)
