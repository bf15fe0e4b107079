"""Model files: state dicts, which need an architecture, and programs, which hold their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models.architectures import Architecture, architecture, renamed_keys
from robustkit.models.checkpoints import count_classes, fill, key_shapes, read_pickle, read_state
from robustkit.models.kinds import timm
from robustkit.models.kinds.user_code import sized
from robustkit.models.kinds.wrapped import Network, Wanted, find_network
from robustkit.models.kinds.wrappers import cast
from robustkit.models.programs import Program, is_torchscript, read_exported, read_torchscript
from robustkit.models.source import ModelSource, Request, weights_digest
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
    if request.arch.startswith(timm.PREFIX):
        return timm.weights(request)
    known = architecture(request.arch, file.name)
    titled = replace(known, title=f"{file.name} ({known.name})")
    state = read_state(file)
    found = filled(titled, state, file, request.size, normalised=request.normalised, weights=request.weights)
    if known.code is None:
        return replace(found, channels=(known.preprocess.channels,))
    digest = hashlib.sha256((known.code + weights_digest(found.net.state_dict())).encode()).hexdigest()
    own = replace(found, net=cast(found.net), classes=None, digest=digest)
    return sized(request.arch, own, request.size)


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
    if request.weights != "auto":
        raise ConfigError(f"{file} holds one set of weights: leave out --weights")
    program = read(file)
    size = request.size or program.size or (224, 224)
    channels = (program.channels,) if program.channels else (3, 1)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ModelSource(program, file.name, Preprocess(size, channels[0]), digest=digest, channels=channels)


def filled(
    known: Architecture,
    state: Mapping[str, Any],
    file: Path,
    size: tuple[int, int] | None = None,
    normalised: bool = True,
    weights: str = "auto",
) -> ModelSource:
    """The architecture with the weights in it, as many classes as they have.

    Args:
        known: the architecture.
        state: what the file holds: a state dict, or mappings in which one lies.
        file: that they are from.
        size: (height, width) of the input, in pixels; None for the architecture's own.
        normalised: they are trained on the architecture's own normalisation, or on one that the file holds.
        weights: of averaged and raw ones: "auto" (averaged where there are some), "raw" or "ema".

    Raises:
        ModelError: it cannot be built for that size, or the weights of `file` do not fit it.
        ConfigError: the file holds no such weights, or has a normaliser of its own though another is given.
    """
    preprocess = known.preprocess if size is None else known.preprocess.at(size)
    height = preprocess.size[0]
    default = len(known.labels) if known.labels else 10
    try:
        shapes = key_shapes(lambda count: known.make(count, height, normalised))
        wanted = Wanted(known.name, frozenset(shapes), partial(renamed_keys, known.name), preprocess.channels)
        found = find_network(state, wanted, file, weights)
        own = _own_normalisation(found, known, file, normalised)
        classes = count_classes(shapes, found.state, default)
        net = known.make(classes, height, own)
    except (ModelError, ConfigError):
        raise
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(f"{known.name} cannot be built for {height} pixels ({one_line(error)}): change size") from None
    fill(net, found.state, file, known.name + (f" under {found.prefix!r}" if found.prefix else ""))
    kept = found.normaliser or known
    return ModelSource(
        net,
        f"{known.title}, averaged weights" if found.averaged else known.title,
        preprocess,
        mean=kept.mean,
        std=kept.std,
        labels=known.labels if known.labels and len(known.labels) == classes else None,
        classes=classes,
        notes=(*known.notes, *found.notes, *_casts(found)),
    )


def _own_normalisation(found: Network, known: Architecture, file: Path, normalised: bool) -> bool:
    """The network takes what its architecture's own weights take; False where another normalisation was used.

    Raises:
        ConfigError: two normalisations, or perhaps one that the file does not hold.
    """
    own = found.normaliser
    if own is not None and not normalised:
        raise ConfigError(
            f"{file} holds its own normaliser ({own.keys[0]}, {own.keys[1]}), and a mean or std is given besides: "
            "leave out mean and std, or both would be applied"
        )
    if found.hidden and normalised:
        remedy = "save the network's own state_dict, and " if own is not None else ""
        raise ConfigError(
            f"{file}: before the network ({found.prefix}) comes a part without weights ({found.hidden}), perhaps a "
            f"normaliser: {remedy}give its mean and std (0 and 1 if it is none)"
        )
    if own is None:
        return normalised
    pairs = ((own.mean, known.mean), (own.std, known.std))
    return all(theirs is not None and np.allclose(mine, theirs, atol=1e-4) for mine, theirs in pairs)


def _casts(found: Network) -> list[str]:
    """What a report says of weights in another precision than fp32."""
    kinds = {str(value.dtype).removeprefix("torch.") for value in found.state.values() if value.is_floating_point()}
    others = sorted(kinds - {"float32"})
    return [f"{' and '.join(others)} weights, cast to float32"] if others else []
