"""Options of the commands: shared ones declared once, and handed to a command as one frozen object.

A command names a dataclass of its options and their declarations:

    @click.command()
    @with_options(DoctorOptions, [*MODEL, SAMPLES])
    def doctor(options: DoctorOptions) -> int: ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from robustkit.cli.config_file import VALUES, read_config
from robustkit.cli.option_types import BatchSize, WholeNumber
from robustkit.errors import ConfigError

if TYPE_CHECKING:
    from robustkit.data.load import Data
    from robustkit.models.load import LoadedModel

_Options = TypeVar("_Options", bound="ModelOptions")
_Declaration = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of a command that asks a model something.

    Args:
        sources: from where each option has its value: the command line, the configuration file or its default.
    """

    model: str
    arch: str | None
    mean: Any
    std: Any
    size: Any
    labels: Any
    output_name: str | None
    device: str
    precision: str
    prepare: bool
    seed: int
    sources: Mapping[str, ParameterSource | None]

    def given(self, name: str) -> bool:
        """An option is given: on the command line or in the configuration file."""
        return self.sources[name] in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)

    def typed(self, name: str) -> bool:
        """An option is given on the command line."""
        return self.sources[name] is ParameterSource.COMMANDLINE

    def load_model(self) -> LoadedModel:
        from robustkit.models.load import load_model
        from robustkit.models.memory import keep_freed

        keep_freed()
        return load_model(
            self.model,
            arch=self.arch,
            mean=self.mean,
            std=self.std,
            size=tuple(self.size) if isinstance(self.size, list) else self.size,
            labels=self.labels,
            output_name=self.output_name,
            device=self.device,
            precision=self.precision,
            prepare=self.prepare,
        )

    def load_data(self, name: str | None) -> Data:
        """The data called so; without a name the samples that go with the model."""
        from robustkit.data.load import load_data

        digits = self.model.startswith("lenet-mnist")
        return load_data(name if name is not None else "mnist-samples" if digits else "imagenet-samples")


@dataclass(frozen=True, kw_only=True)
class RunOptions(ModelOptions):
    """Options of a command that attacks samples and writes a report."""

    data: str | None
    attack: Sequence[str]
    eps: str | None
    samples: int | None
    batch_size: int | None
    out: str


def with_options(kind: type[_Options], declarations: Sequence[_Declaration]) -> Callable[..., Callable[..., Any]]:
    """A decorator: the command has these options and arguments, in their order, and takes them as one `kind`."""

    def decorate(command: Callable[[_Options], Any]) -> Callable[..., Any]:
        @click.pass_context
        @functools.wraps(command)
        def run(context: click.Context, /, config: str | None, **values: Any) -> Any:
            sources = {name: context.get_parameter_source(name) for name in values}
            for key in VALUES:  # those of the configuration file alone
                values.setdefault(key, context.meta.get(f"robustkit.{key}"))
            return command(kind(sources=sources, **values))

        decorated: Callable[..., Any] = run
        for declaration in reversed(declarations):
            decorated = declaration(decorated)
        return decorated

    return decorate


def not_empty(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty text, which a variable that is not set leaves behind: it would mean the current folder."""
    if value is not None and not value.strip():
        raise ConfigError(f"{parameter.opts[0]} is empty: give a value, or leave it out")
    return value


def out_option(default: str | None, text: str) -> _Declaration:
    """The option `--out`, a folder."""
    shown = default is not None
    return click.option("--out", default=default, show_default=shown, callback=not_empty, metavar="DIR", help=text)


MODEL_NAME = click.option(
    "--model", default="efficientnet-lite0", show_default=True, help="Name or file; see robustkit models."
)
MODEL = [
    click.option("--arch", help="Architecture of a state dict, such as resnet18."),
    click.option("--output-name", metavar="NAME", help="Output of an ONNX graph with the logits."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."),
    click.option("--precision", default="auto", show_default=True, help="Of gradients: auto, fp32 or bf16."),
    click.option("--prepare/--no-prepare", default=True, show_default=True, help="Fold batch norm into convolutions."),
    click.option("--seed", type=WholeNumber(0), default=0, show_default=True, help="Of all random draws."),
    click.option(
        "--config",
        callback=read_config,
        is_eager=True,
        metavar="FILE",
        help="TOML file of these options; also mean, std, size and labels of a model file.",
    ),
]
DATA = click.option(
    "--data", callback=not_empty, help="Name, folder or .npz; by default the samples that go with the model."
)
ATTACK = click.option("--attack", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="An attack; may be repeated.")
NORM = click.option("--norm", default="linf", show_default=True, help="linf, l2 or l1.")
SAMPLES = click.option("--samples", type=WholeNumber(1), help="Judge this many; all by default.")
BATCH_SIZE = click.option(
    "--batch-size", type=BatchSize(1), default="auto", show_default=True, help="Samples at a time; halved if need be."
)
REPORT_OUT = out_option("report", "Folder of the report.")


def eps_grid(example: str) -> _Declaration:
    """The option `--eps`, a grid."""
    return click.option("--eps", metavar="LIST", help=f"ε grid in pixel units of [0,1], such as {example}.")
