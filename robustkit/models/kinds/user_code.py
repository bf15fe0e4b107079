"""Networks in code of the user's: `path/file.py:NAME` and `package.module:NAME`.

The code is run, on the user's word: whoever names it says that it may.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustkit.attacks.model.classifier import Classifier
from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, ModelError, RobustkitError
from robustkit.models.architectures import Architecture
from robustkit.models.kinds import wrappers
from robustkit.models.kinds.blame import is_own, reason_of
from robustkit.models.source import ModelSource, Request, weights_digest
from robustkit.text import suggestion

_FILE = re.compile(r"(?P<where>.+\.py):(?P<name>[A-Za-z_]\w*(\.\w+)*)")
_MODULE = re.compile(r"(?P<where>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*(\.\w+)*)")
_SIDES = (224, 32, 28)  # pixels, tried where nobody said the size
_BESIDE: dict[Path, dict[str, types.ModuleType]] = {}  # modules beside the code, by its folder
_COUNTS = ("num_classes", "n_classes", "classes")  # what people call the number of classes


@dataclass(frozen=True)
class Code:
    """A name in somebody's code.

    Args:
        value: what it stands for.
        title: `net.py:model (sha256 1a2b3c…)`.
        digest: SHA-256 (hex) of the file.
        root: folder of the code.
        module: it was named as a module, which stays imported.
    """

    value: Any
    title: str
    digest: str
    root: Path
    module: bool

    def call(self, **options: Any) -> Any:
        """Call it; ModelError with the line of the code if that fails."""
        with _importable(self.root, keep=self.module):
            return _guarded(self.title.split(" ")[0], self.root, lambda: self.value(**options))


def is_code(name: str) -> bool:
    """True of `file.py:NAME`, and of `module:NAME` where there is such a module."""
    if _FILE.fullmatch(name):
        return True
    found = _MODULE.fullmatch(name)
    if found is None:
        return False
    with _importable(Path.cwd(), keep=True):
        try:
            return importlib.util.find_spec(found["where"].partition(".")[0]) is not None
        except (ImportError, ValueError):
            return False


def read_code(name: str) -> Code:
    """Run the code and find the name in it.

    Raises:
        ModelError: no such file, module or name, or the code raises: with file and line.
    """
    found = _FILE.fullmatch(name)
    of_file = found is not None
    if found is not None:
        file = Path(found["where"])
        if not file.is_file():
            raise ModelError(f"{file} is not there: check the path")
        root = file.resolve().parent
        module = _of_file(file.resolve(), name)
    else:
        found = _MODULE.fullmatch(name)
        assert found is not None  # see is_code
        with _importable(Path.cwd(), keep=True):
            module = _guarded(name, Path.cwd(), lambda: importlib.import_module(found["where"]))
        if module.__file__ is None:
            raise ModelError(f"{name}: {found['where']} is a folder without code: name the module in it")
        file = Path(module.__file__)
        root = file.resolve().parents[found["where"].count(".") + (file.name == "__init__.py")]
    value: Any = module
    for part in found["name"].split("."):
        if not hasattr(value, part):
            own = [key for key, each in vars(module).items() if callable(each) or isinstance(each, Classifier)]
            raise ModelError(f"{found['where']} has no {part!r}{suggestion(part, own)}: name what makes the network")
        value = getattr(value, part)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    shown = file.name if of_file else found["where"]
    return Code(value, f"{shown}:{found['name']} (sha256 {digest[:16]}…)", digest, root, not of_file)


def load(request: Request) -> ModelSource:
    """The network that the code holds, or that a function in it returns."""
    if request.arch is not None:
        raise ConfigError(f"{request.name} has its own architecture: leave out --arch, or give a file of weights")
    code = read_code(request.name)
    value = code.value
    if isinstance(value, type):
        raise ModelError(
            f"{request.name} is a class, whose weights would be untrained: write a function that returns one with its "
            "weights in it, or give a file of weights and name the class by --arch"
        )
    if callable(value) and not isinstance(value, nn.Module | Classifier):
        _refuse_arguments(request.name, value)
        value = code.call()
    if not isinstance(value, nn.Module | Classifier):
        raise ModelError(
            f"{request.name} gives a {type(value).__name__}: let it be a torch.nn.Module, a Classifier, or a function "
            "that returns one"
        )
    own = value if isinstance(value, Classifier) else Classifier(value)
    net = wrappers.cast(own.net.to(request.device).eval())
    known = value.preprocess if isinstance(value, Classifier) and hasattr(value, "preprocess") else None
    source = ModelSource(
        net,
        code.title,
        known or Preprocess((224, 224)),
        mean=own.mean,
        std=own.std,
        labels=own.labels,
        classes=own.classes,
        digest=hashlib.sha256((code.digest + weights_digest(net.state_dict())).encode()).hexdigest(),
        outputs=own.outputs if isinstance(value, Classifier) else None,
    )
    if known is not None and request.size is None:
        return replace(source, channels=(known.channels,))
    return sized(request.name, source, request.size, code.root)


def architecture(name: str) -> Architecture:
    """An architecture that a function or a class makes; it is called with `num_classes` where it takes that."""
    code = read_code(name)
    maker = code.value
    if not callable(maker) or isinstance(maker, nn.Module):
        raise ModelError(f"{name} is a {type(maker).__name__}: an architecture is a class, or a function that makes it")
    counts = [key for key in _COUNTS if key in _parameters(maker)]
    _refuse_arguments(name, maker, counts[:1])

    def make(classes: int, height: int, own: bool) -> nn.Module:
        if counts:
            net = code.call(**{counts[0]: classes})
        else:  # with whatever weights it reads: never on the device where none are
            with torch.device("cpu"):
                net = code.call()
        if not isinstance(net, nn.Module):
            raise ModelError(f"{name} made a {type(net).__name__}, not a torch.nn.Module")
        return net

    return Architecture(code.title, code.title, make, Preprocess((224, 224)), code=code.digest)


def sized(name: str, source: ModelSource, size: tuple[int, int] | None, root: Path | None = None) -> ModelSource:
    """The source with the input size that is asked for, or the only usual one that its network takes.

    Raises:
        ModelError: it takes several, or none.
    """
    kernel = next((weight for weight in source.net.parameters() if weight.dim() == 4), None)
    channels = (3, 1) if kernel is None or kernel.shape[1] not in (1, 3) else (int(kernel.shape[1]),)
    if size is not None:
        return replace(source, preprocess=replace(source.preprocess, size=size), channels=channels)
    model, failures, fits = Classifier(source.net, source.mean, source.std), [], []
    for side in _SIDES:
        for count in channels:
            x = torch.rand(2, count, side, side, generator=torch.Generator().manual_seed(0)).to(model.device)
            try:
                model.raw(x)
            except Exception as error:  # whatever the network raises on an input of the wrong size
                failures.append(error)
                continue
            fits.append((side, count))
    sides = list(dict.fromkeys(side for side, _ in fits))
    if not fits:
        raise ModelError(
            f"{name} does not take pictures of {_SIDES[0]}×{_SIDES[0]} ({reason_of(failures[0], root)}): give its "
            "input size, such as --size 32, or size = 32 in the --config file"
        )
    if len(sides) > 1:
        some = " and ".join(f"{side}×{side}" for side in sides)
        raise ModelError(f"{name} takes pictures of {some} alike: say the size it is trained on, such as --size 32")
    preprocess = replace(source.preprocess, size=(sides[0], sides[0]))
    return replace(source, preprocess=preprocess, channels=tuple(count for _, count in fits))


def _refuse_arguments(name: str, function: Callable[..., Any], given: list[str] | None = None) -> None:
    empty = inspect.Parameter.empty
    wanted = [
        key
        for key, each in _parameters(function).items()
        if each.default is empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    missing = [key for key in wanted if key not in (given or [])]
    if missing:
        raise ModelError(
            f"{name} takes arguments ({', '.join(missing)}): write a function of none that returns the network; what "
            "answers about pictures itself goes into a Classifier"
        )


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of some that are written in C
        return {}


def _of_file(file: Path, name: str) -> types.ModuleType:
    """Run a file as a module of a package that is its folder, so that `from .layers import …` works too."""
    folder = file.parent
    package = types.ModuleType(f"_robustkit_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}")
    package.__path__ = [str(folder)]
    full = f"{package.__name__}.{file.stem}"
    for old in [key for key in sys.modules if key.startswith(f"{package.__name__}.")]:
        del sys.modules[old]  # the files may have been changed since
    _BESIDE.pop(folder, None)
    spec = importlib.util.spec_from_file_location(full, file)
    assert spec is not None  # a .py file has one, and a loader
    assert spec.loader is not None
    loader, module = spec.loader, importlib.util.module_from_spec(spec)
    with _importable(folder):
        sys.modules[package.__name__], sys.modules[full] = package, module
        _guarded(name, folder, lambda: loader.exec_module(module))
    return module


def _guarded(name: str, root: Path, run: Callable[[], Any]) -> Any:
    try:
        return run()
    except RobustkitError:
        raise
    except (Exception, SystemExit) as error:  # anybody's code
        raise ModelError(f"{name} cannot be loaded ({reason_of(error, root)}): mend that line") from None


@contextmanager
def _importable(folder: Path, keep: bool = False) -> Iterator[None]:
    """Modules beside the code can be imported inside, by their bare names.

    Unless they are to be kept they are known inside alone: another folder may have modules of the same names.
    """
    path, before = str(folder), set(sys.modules)
    sys.path.insert(0, path)
    importlib.invalidate_caches()
    sys.modules.update({key: module for key, module in _BESIDE.get(folder, {}).items() if key not in sys.modules})
    try:
        yield
    finally:
        sys.path.remove(path)
        beside = _BESIDE.setdefault(folder, {})
        for name in [] if keep else set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            own = file is not None and is_own(Path(file), folder) and not name.startswith("_robustkit_")
            if own:
                beside[name] = sys.modules.pop(name)
