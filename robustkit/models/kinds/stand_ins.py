"""Stand-ins for what training scripts save beside the weights, so that a checkpoint is read and none of its code run.

`torch.load(weights_only=True)` looks each name of a pickle up in an allow-list. A name below is looked up as a class of
this file that takes whatever it is given and keeps nothing: neither the library of that name nor a `__setstate__` of
its own is imported or called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any


class Anything:
    """An object that was saved beside the weights, without its content."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class AnyMapping:
    """A mapping of whatever kind, as the one that torch fills: the state dict may lie in it."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class AnyList:
    """A sequence of whatever kind, as a list."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


_OBJECTS = {
    "argparse": "Namespace",
    "builtins": "bool bytes complex dict float int list object str tuple",
    "cox.utils": "Parameters",
    "datetime": "date datetime time timedelta timezone",
    "fractions": "Fraction",
    "decimal": "Decimal",
    "ml_collections.config_dict.config_dict": "ConfigDict FrozenConfigDict",
    "mmengine.logging.history_buffer": "HistoryBuffer",
    "numpy": "dtype ndarray bool_ float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64",
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.random": "__RandomState_ctor",
    "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
    "numpy.random._mt19937": "MT19937",
    "numpy.random._pcg64": "PCG64",
    "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
    "omegaconf.base": "ContainerMetadata Metadata UnionNode",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode InterpolationResultNode "
    "PathNode StringNode",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "types": "SimpleNamespace",
    "typing": "Any Dict List Optional Tuple Union",
    "uuid": "UUID",
}
_MAPPINGS = {
    "addict.addict": "Dict",
    "collections": "defaultdict",
    "easydict": "EasyDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "lightning.pytorch.utilities.parsing": "AttributeDict",
    "lightning_fabric.utilities.data": "AttributeDict",
    "munch": "Munch DefaultMunch",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "yacs.config": "CfgNode",
}
_LISTS = {"collections": "deque"}


def _named() -> Iterator[tuple[Any, str]]:
    for stand_in, names in ((Anything, _OBJECTS), (AnyMapping, _MAPPINGS), (AnyList, _LISTS)):
        for module, words in names.items():
            yield from ((stand_in, f"{module}.{word}") for word in words.split())


ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = list(_named())
"""(stand-in, name in the pickle), as `torch.serialization.safe_globals` takes them."""
