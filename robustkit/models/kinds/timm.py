"""Classifiers of timm: with its own weights, or as the architecture of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustkit.data.class_names import imagenet_labels
from robustkit.data.pictures import Preprocess
from robustkit.errors import ModelError
from robustkit.models.checkpoints import check_finite, fill, read_state
from robustkit.models.kinds.fidelity import EXACT, closest, unnormalised
from robustkit.models.source import ModelSource, Request
from robustkit.text import one_line, suggestion

PREFIX = "timm:"


def pretrained(request: Request) -> ModelSource:
    """A classifier of timm's with its own weights, from the cache of the Hugging Face hub or fetched into it.

    Raises:
        ModelError: timm is not installed, has no such classifier or no weights of it, or they cannot be had.
    """
    name = request.name
    timm, config = _known(name)
    if not config.has_weights:
        raise ModelError(f"timm has no weights of {name}: give a file of yours with --arch {name}")
    if not config.num_classes:
        raise ModelError(f"{name} has no classifier, its weights make features: give a classifier, or a file with one")
    try:
        net = _build(timm, name, config.num_classes, request.size, pretrained=True)
    except ModelError:
        raise
    except Exception as error:  # of the hub, of the network and of the file, each with kinds of its own
        raise ModelError(
            f"the weights of {name} are not in the Hugging Face cache and could not be fetched ({one_line(error)}): "
            f"run hf download {config.hf_hub_id or name} where there is a network, or give a file with --arch {name}"
        ) from None
    check_finite(net.state_dict(), name)
    return _source(timm, net, request, f"{name.removeprefix(PREFIX)}, timm", int(config.num_classes))


def weights(request: Request) -> ModelSource:
    """A state dict of timm's architecture that `request.arch` names, as many classes as its classifier has rows.

    Raises:
        ModelError: timm is not installed or has no such architecture; the file does not fit it or has no classifier.
    """
    assert request.arch is not None
    timm, config = _known(request.arch)
    state = read_state(request.file)
    classes = _classes(state, config, request)
    try:
        net = _build(timm, request.arch, classes, request.size, pretrained=False)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise ModelError(f"{request.arch} cannot be built ({one_line(error)}): change size") from None
    fill(net, state, request.file, request.arch)
    return _source(timm, net, request, f"{request.file.name} ({request.arch})", classes)


def _known(name: str) -> tuple[ModuleType, Any]:
    """The library, and its configuration of a model's own weights.

    Raises:
        ModelError: it is not installed, or has no model of that name.
    """
    try:
        import timm
        import timm.data
    except ImportError:
        raise ModelError(f"{name} needs timm: pip install 'robustkit[timm]'") from None
    short = name.removeprefix(PREFIX)
    known = timm.list_models()
    base, _, tag = short.partition(".")
    tags = timm.list_pretrained(f"{base}.*") if base in known else []
    if base not in known:
        raise ModelError(f"timm has no model called {short!r}{suggestion(base, known)}; it has {len(known)}")
    if tag and short not in tags:
        some = f"those of {base} are {', '.join(tags[:5])}" if tags else f"{base} has none"
        raise ModelError(f"timm has no weights called {short!r}; {some}")
    return timm, timm.get_pretrained_cfg(short)


def _build(timm: ModuleType, name: str, classes: int, size: tuple[int, int] | None, *, pretrained: bool) -> nn.Module:
    """The network in timm's own code; a transformer is built for the size of its input."""
    options: dict[str, Any] = {"pretrained": pretrained, "num_classes": classes}
    short = name.removeprefix(PREFIX)
    if size is not None:
        try:
            return cast(nn.Module, timm.create_model(short, img_size=size, **options))
        except TypeError as error:  # a convolutional network takes any size, and no such option
            if "img_size" not in str(error):
                raise
    return cast(nn.Module, timm.create_model(short, **options))


def _classes(state: Mapping[str, Tensor], config: Any, request: Request) -> int:
    """Rows of the classifier in a state dict.

    Raises:
        ModelError: it has none.
    """
    named = config.classifier or ()
    heads = [named] if isinstance(named, str) else list(named)
    rows = [len(state[f"{head}.weight"]) for head in heads if f"{head}.weight" in state]
    if not rows:
        raise ModelError(
            f"{request.file} has no classifier ({', '.join(heads) or 'none'} of {request.arch}), its weights make "
            "features: give a file that was saved with num_classes above 0, or its architecture"
        )
    return rows[0]


def _source(timm: ModuleType, net: nn.Module, request: Request, title: str, classes: int) -> ModelSource:
    asked = {} if request.size is None else {"input_size": (3, *request.size)}
    found = timm.data.resolve_data_config(asked, model=net)
    own = net.pretrained_cfg.get("num_classes") == classes == 1000  # type: ignore[union-attr, operator]
    return ModelSource(
        net,
        title,
        _preprocess(timm, found, request),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        labels=imagenet_labels() if own else None,
        classes=classes,
        channels=(int(found["input_size"][0]),),
    )


def _preprocess(timm: ModuleType, config: Mapping[str, Any], request: Request) -> Preprocess:
    """Preprocessing that gives the pixels of timm's own transform for evaluation.

    Raises:
        ModelError: none of ours does.
    """
    channels, height, width = (int(side) for side in config["input_size"])
    tall, wide = (math.floor(side / config["crop_pct"]) for side in (height, width))
    base = Preprocess((height, width), channels, interpolation=str(config["interpolation"]))
    squash = Preprocess(base.size, channels, (tall, wide), base.interpolation)
    short = Preprocess(base.size, channels, tall, base.interpolation)
    mean, std = (torch.tensor(config[key], dtype=torch.float64) for key in ("mean", "std"))
    ways = {"squash": [squash], "center": [short if tall == wide else base]}.get(config["crop_mode"], [])
    reason = f"crop mode {config['crop_mode']}, {config['interpolation']}, crop_pct {config['crop_pct']}"
    try:
        transform = timm.data.create_transform(**config, is_training=False)
        best, off = closest(ways, lambda picture: unnormalised(transform(picture), mean, std))
    except Exception as error:  # of a filter that there is not, or a transform that makes no picture
        best, off, reason = None, 0.0, one_line(error)
    if best is not None and off <= EXACT:
        return best
    if request.size is not None and not request.normalised:
        return Preprocess(base.size, channels)
    raise ModelError(
        f"{request.arch or request.name} is preprocessed in a way that cannot be done here ({reason}): "
        "give size, mean and std of your own"
    )
