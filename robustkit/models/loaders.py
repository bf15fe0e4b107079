"""Loaders of models, by name, by prefix of a name and by suffix of a file: a kind of model is a line of a table."""

from __future__ import annotations

from robustkit.errors import ConfigError, ModelError
from robustkit.models import files
from robustkit.models.built_in import LENETS, efficientnet_lite0, lenet, torchvision
from robustkit.models.kinds import hugging_face, timm, user_code
from robustkit.models.kinds.endpoint import endpoint
from robustkit.models.names import MODELS
from robustkit.models.onnx import loader as onnx
from robustkit.models.source import Loader, ModelSource, Request
from robustkit.text import suggestion, without_secrets

NAMES: dict[str, Loader] = {"efficientnet-lite0": efficientnet_lite0, **dict.fromkeys(LENETS, lenet)}
PREFIXES: dict[str, Loader] = {
    "torchvision:": torchvision,
    timm.PREFIX: timm.pretrained,
    hugging_face.PREFIX: hugging_face.load,
    "https:": endpoint,
    "http:": endpoint,
}
SUFFIXES: dict[str, Loader] = {
    ".safetensors": files.weights,
    ".pth": files.weights,
    ".pt": files.weights,
    ".bin": files.weights,
    ".ckpt": files.weights,
    ".ts": files.torchscript,
    ".pt2": files.exported_program,
    ".onnx": onnx.load,
}


def find_source(request: Request) -> ModelSource:
    """The network that is asked for, with its weights in it.

    Raises:
        ModelError, ConfigError: see `load_model`.
    """
    name = request.name
    prefix, colon, _ = name.partition(":")
    loader = NAMES.get(name) or PREFIXES.get(prefix + colon)
    if loader is not endpoint and request.limits is not None:
        raise ConfigError("rate, timeout and retries are of an endpoint: leave them out")
    if loader is None and hugging_face.is_folder(request):
        loader = hugging_face.load
    if loader is not None:
        if request.arch is not None:
            raise ConfigError(
                f"{without_secrets(name)} has its own architecture: leave out --arch, or give a file of weights"
            )
        if request.weights != "auto":
            raise ConfigError(
                f"{without_secrets(name)} has one set of weights: leave out --weights, or give a checkpoint"
            )
        return loader(request)
    if user_code.is_code(name):
        return user_code.load(request)
    suffix = request.file.suffix.lower()
    if suffix == ".py":
        raise ModelError(f"{name} is code: say what in it makes the network, such as {name}:model")
    if not name or (not request.file.exists() and suffix not in SUFFIXES):
        known = [each for each, _ in MODELS if each.islower()]
        what = f"models of {prefix!r} are not known" if colon else f"there is no model called {name!r}"
        kinds = ", ".join([*known, "torchvision:NAME", "timm:NAME", "hf:ORG/NAME"])
        raise ModelError(f"{what}{suggestion(name, known)}; there are {kinds} and files")
    files.check_readable(request.file)
    if suffix not in SUFFIXES:
        raise ModelError(f"{name} is no kind of model file known here: it should end in {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix](request)
