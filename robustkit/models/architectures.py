"""Architectures by name: the network, the input that its weights were trained on, and their address."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from robustkit.data.class_names import imagenet_labels
from robustkit.data.pictures import Preprocess
from robustkit.errors import ModelError
from robustkit.models.kinds.torchvision_versions import choose_version
from robustkit.text import one_line, suggestion

PREFIX = "torchvision:"
# What torchvision lists besides image classifiers, by the module that makes it.
_OTHER_TASKS = {
    "detection": "an object detector",
    "segmentation": "a segmentation model",
    "video": "a video model",
    "optical_flow": "an optical-flow model",
    "quantization": "a quantised model, which has no gradients",
}


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Args:
        name, title: as it is asked for, and as a report shows it.
        make: (number of classes, height of the input, normalise as its own weights want) -> the network.
        preprocess, mean, std: those that its own weights were trained with.
        labels: names of the classes of its own weights; None if it has none of its own.
        url: of its own weights; None if they come with a package or do not exist.
        code: SHA-256 (hex) of the file that makes it, where that is the user's own.
        notes: what a report says of the choice of its preprocessing.
    """

    name: str
    title: str
    make: Callable[[int, int, bool], nn.Module]
    preprocess: Preprocess
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    url: str | None = None
    code: str | None = None
    notes: tuple[str, ...] = ()


def architecture(name: str, file_name: str = "") -> Architecture:
    """The architecture called "lenet5", "resnet18", "torchvision:resnet18@IMAGENET1K_V1" or "net.py:make".

    Args:
        name: of the architecture, of torchvision's with the version of its weights where one is meant.
        file_name: of the weights that are laid into it; torchvision's own tell their version.

    Raises:
        ModelError: no such architecture or version, or one that does not classify images.
        ConfigError: another version than the file's.
    """
    if name == "efficientnet-lite0":
        return _efficientnet_lite0()
    if name == "lenet5":
        from robustkit.zoo.lenet import LeNet5

        digits = Preprocess(size=(28, 28), channels=1)
        return Architecture(name, "LeNet-5", lambda classes, height, own: LeNet5(classes), digits)
    from robustkit.models.kinds import user_code

    if not name.startswith(PREFIX) and user_code.is_code(name):
        return user_code.architecture(name)
    return _torchvision(name, file_name)


def _efficientnet_lite0() -> Architecture:
    from efficientnet_lite_pytorch import EfficientNet

    def make(classes: int, height: int, own: bool) -> nn.Module:
        # The padding of every layer is computed from the input size, once, when the network is built.
        net = EfficientNet.from_name("efficientnet-lite0", num_classes=classes, image_size=height)
        return cast(nn.Module, net)

    return Architecture(
        "efficientnet-lite0",
        "EfficientNet-Lite0",
        make,
        Preprocess(size=(224, 224), channels=3, resize=256, interpolation="bicubic"),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        labels=imagenet_labels(),
    )


def _torchvision(asked: str, file_name: str) -> Architecture:
    from torchvision import models

    short, _, version = asked.removeprefix(PREFIX).partition("@")
    known = models.list_models(module=models)
    if short not in known:
        if short in models.list_models():
            task = models.get_model_builder(short).__module__.split(".")[2]
            what = _OTHER_TASKS.get(task, "no image classifier")
            raise ModelError(f"{asked} is {what}: robustkit audits image classifiers, such as torchvision:resnet50")
        own = ["lenet5", "efficientnet-lite0"] if not asked.startswith(PREFIX) else []
        raise ModelError(
            f"torchvision has no classifier called {short!r}{suggestion(short, [*known, *own])}; "
            f"it has {len(known)}, such as resnet50, vgg16 and alexnet"
        )
    weights, notes = choose_version(short, version, file_name)
    preset = weights.transforms()
    (crop,), (resize,) = preset.crop_size, preset.resize_size

    def make(classes: int, height: int, own: bool) -> nn.Module:
        options: dict[str, Any] = {"num_classes": classes}
        if short in ("googlenet", "inception_v3"):
            # The auxiliary heads serve training alone; the weights expect a second normalisation inside.
            options |= {"aux_logits": False, "transform_input": own, "init_weights": False}
        if short.startswith("vit_"):
            options["image_size"] = height
        return cast(nn.Module, models.get_model(short, weights=None, **options))

    return Architecture(
        f"{PREFIX}{short}",
        f"{weights.__class__.__name__.removesuffix('_Weights')}, torchvision {weights.name}",
        make,
        Preprocess((crop, crop), 3, resize, preset.interpolation.value),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        labels=tuple(weights.meta["categories"]),
        url=weights.url,
        notes=notes,
    )


def renamed_keys(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under the keys of today: without auxiliary heads, DenseNet's old names mended."""
    if name.endswith(("googlenet", "inception_v3")):
        return {key: value for key, value in state.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
    if ":densenet" in name:
        old = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)")
        return {old.sub(r"\1\2", key): value for key, value in state.items()}
    return state


def hub_file(name: str, url: str) -> Path:
    """The weights at `url` in torch.hub's cache, downloaded first if they are not there.

    Raises:
        ModelError: not there and no way to fetch them: says the file and the folder to put it in.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(url).path)
    if file.is_file():
        return file
    digest = re.search(r"-([a-f0-9]*)\.", file.name)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix = digest.group(1) if digest else None
        torch.hub.download_url_to_file(url, str(file), prefix, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"the weights of {name} are not here and could not be downloaded ({one_line(error)}): "
            f"fetch {url} elsewhere and put the file {file.name} in {file.parent}"
        ) from None
    return file
