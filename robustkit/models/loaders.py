"""Loaders of models, by name, by prefix of a name and by suffix of a file: a kind of model is a line of a table."""

from __future__ import annotations

from robustkit.errors import ConfigError, ModelError
from robustkit.models import files
from robustkit.models.built_in import LENETS, efficientnet_lite0, lenet, torchvision
from robustkit.models.kinds.endpoint import endpoint
from robustkit.models.names import MODELS
from robustkit.models.source import Loader, ModelSource, Request
from robustkit.text import suggestion, without_secrets

NAMES: dict[str, Loader] = {"efficientnet-lite0": efficientnet_lite0, **dict.fromkeys(LENETS, lenet)}
PREFIXES: dict[str, Loader] = {"torchvision:": torchvision, "https:": endpoint, "http:": endpoint}
SUFFIXES: dict[str, Loader] = {
    ".safetensors": files.weights,
    ".pth": files.weights,
    ".pt": files.weights,
    ".bin": files.weights,
    ".ckpt": files.weights,
    ".ts": files.torchscript,
    ".pt2": files.exported_program,
    ".onnx": files.onnx,
}


def find_source(request: Request) -> ModelSource:
    """The network that is asked for, with its weights in it.

    Raises:
        ModelError, ConfigError: see `load_model`.
    """
    name = request.name
    prefix, colon, _ = name.partition(":")
    loader = NAMES.get(name) or PREFIXES.get(prefix + colon)
    suffix = request.file.suffix.lower()
    if loader is not endpoint and request.limits is not None:
        raise ConfigError("rate, timeout and retries are of an endpoint: leave them out")
    if loader is not endpoint and suffix != ".onnx" and request.output_name is not None:
        raise ConfigError("the model has one output: leave out --output-name")
    if loader is not None:
        if request.arch is not None:
            shown = without_secrets(name)
            raise ConfigError(f"{shown} has its own architecture: leave out --arch, or give a file of weights")
        return loader(request)
    if not name or (not request.file.exists() and suffix not in SUFFIXES):
        known = [each for each, _ in MODELS if each.islower()]
        what = f"models of {prefix!r} are not known" if colon else f"there is no model called {name!r}"
        raise ModelError(f"{what}{suggestion(name, known)}; there are {', '.join(known)}, torchvision:NAME and files")
    files.check_readable(request.file)
    if suffix not in SUFFIXES:
        raise ModelError(f"{name} is no kind of model file known here: it should end in {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix](request)
