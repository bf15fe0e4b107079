"""Model files: state dicts, which need an architecture, and programs, which hold their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models.architectures import Architecture, architecture, renamed_keys
from robustkit.models.checkpoints import count_classes, fill, read_pickle, read_state
from robustkit.models.programs import Program, is_torchscript, read_exported, read_torchscript
from robustkit.models.source import ModelSource, Request
from robustkit.text import one_line


def check_readable(file: Path) -> None:
    """Refuse what is no file with something in it.

    Raises:
        ModelError: a folder, an empty file, or one that cannot be opened.
    """
    try:
        if file.is_dir():
            raise ModelError(f"{file} is a folder: give the file of weights in it")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise ModelError(f"{file} is empty: save or copy it again")
    except OSError as error:
        raise ModelError(f"{file} cannot be opened ({error.strerror}): check the path") from None


def weights(request: Request) -> ModelSource:
    """A state dict in the architecture that is named; or TorchScript, which is saved under the same suffixes."""
    file = request.file
    if is_torchscript(file):
        return torchscript(request)
    if request.arch is None:
        # A pickle of a whole model is refused as such, before anybody looks for its architecture.
        if file.suffix.lower() != ".safetensors":
            read_pickle(file)
        raise ModelError(f"{file} holds weights alone: say their architecture, such as --arch torchvision:resnet18")
    known = architecture(request.arch)
    titled = replace(known, title=f"{file.name} ({known.name})")
    found = filled(titled, read_state(file), file, request.size, request.normalised)
    return replace(found, channels=(known.preprocess.channels,))


def torchscript(request: Request) -> ModelSource:
    """A TorchScript archive."""
    if not is_torchscript(request.file):
        raise ModelError(f"{request.file} is no TorchScript archive: save it again, or name a state dict .pth")
    return _program(request, lambda file: read_torchscript(file, request.device))


def exported_program(request: Request) -> ModelSource:
    """A program that `torch.export.save` wrote."""
    return _program(request, lambda file: read_exported(file, request.device))


def _program(request: Request, read: Callable[[Path], Program]) -> ModelSource:
    file = request.file
    if request.arch is not None:
        raise ConfigError(f"{file} holds its own architecture: leave out --arch")
    program = read(file)
    size = request.size or program.size or (224, 224)
    channels = (program.channels,) if program.channels else (3, 1)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ModelSource(program, file.name, Preprocess(size, channels[0]), digest=digest, channels=channels)


def filled(
    known: Architecture,
    state: dict[str, Tensor],
    file: Path,
    size: tuple[int, int] | None = None,
    normalised: bool = True,
) -> ModelSource:
    """The architecture with the weights in it, as many classes as they have.

    Args:
        known: the architecture.
        state: the weights.
        file: that they are from.
        size: (height, width) of the input, in pixels; None for the architecture's own.
        normalised: they are trained on the architecture's own normalisation.

    Raises:
        ModelError: it cannot be built for that size, or the weights of `file` do not fit it.
    """
    preprocess = known.preprocess
    if size is not None and size != preprocess.size:
        scale = (preprocess.resize or max(preprocess.size)) / max(preprocess.size)
        resize = None if preprocess.resize is None else round(max(size) * scale)
        preprocess = replace(preprocess, size=size, resize=resize)
    height = preprocess.size[0]
    state = renamed_keys(known.name, state)
    try:
        default = len(known.labels) if known.labels else 10
        classes = count_classes(lambda count: known.make(count, height, normalised), state, default)
        net = known.make(classes, height, normalised)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(f"{known.name} cannot be built for {height} pixels ({one_line(error)}): change size") from None
    fill(net, state, file, known.name)
    return ModelSource(
        net,
        known.title,
        preprocess,
        mean=known.mean,
        std=known.std,
        labels=known.labels if known.labels and len(known.labels) == classes else None,
        classes=classes,
    )
