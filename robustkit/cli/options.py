"""Options of the commands that ask a model something, and the model they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from robustkit.cli.config_file import CONFIG_ONLY, read_config
from robustkit.errors import ConfigError

_Command = TypeVar("_Command", bound=Callable[..., Any])

MODEL = [
    click.option(
        "--model", default="efficientnet-lite0", show_default=True, help="Name or file; see robustkit models."
    ),
    click.option("--arch", help="Architecture of a state dict, such as resnet18."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--precision", default="auto", show_default=True, help="Of gradients: auto, fp32 or bf16."),
    click.option("--prepare/--no-prepare", default=True, show_default=True, help="Fold batch norm into convolutions."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all random draws."),
    click.option(
        "--config",
        callback=read_config,
        is_eager=True,
        metavar="FILE",
        help="TOML file of these options; also mean, std, size and labels of a model file.",
    ),
]


def with_options(options: list[Callable[[_Command], _Command]]) -> Callable[[_Command], _Command]:
    """A decorator that gives a command these options, in their order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def filled(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty text, which a variable that is not set leaves behind: it would mean the current folder."""
    if value is not None and not value.strip():
        raise ConfigError(f"{parameter.opts[0]} is empty: give a value, or leave it out")
    return value


def load_subject(
    context: click.Context, name: str, arch: str | None, device: str, precision: str, prepare: bool
) -> Any:
    """The model that the options name, with what the configuration file says of it."""
    from robustkit.models.load import load_model
    from robustkit.models.memory import keep_freed

    keep_freed()

    extra = {key: context.meta[f"robustkit.{key}"] for key in CONFIG_ONLY if f"robustkit.{key}" in context.meta}
    size = extra.get("size")
    if isinstance(size, list):
        extra["size"] = tuple(size)
    return load_model(name, arch=arch, device=device, precision=precision, prepare=prepare, **extra)


def samples_for(model: str) -> str:
    """The data to take where none is named."""
    return "mnist-samples" if model.startswith("lenet-mnist") else "imagenet-samples"
