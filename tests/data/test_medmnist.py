"""MedMNIST's sets: what the library's own Dataset gives, and one line where the file is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit.data import folders
from robustkit.data.kinds import medmnist as ours
from robustkit.data.load import load_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = Preprocess((28, 28), 3)
DERMA = 7


def save(root: Path, name: str, shape: tuple[int, ...], classes: int, count: int = 9) -> None:
    arrays = {}
    for split, rows in (("train", 2), ("val", 2), ("test", count)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (rows, *shape)).astype("u1")
        arrays[f"{split}_labels"] = (np.arange(rows)[::-1, None] % classes).astype("u1")
    np.savez_compressed(root / f"{name}.npz", **arrays)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.parametrize(("name", "size"), [("dermamnist", 28), ("dermamnist_64", 64), ("breastmnist", 28)])
def test_the_pictures_of_the_library(name: str, size: int, root: Path, stand) -> None:
    import medmnist

    kind = getattr(medmnist, medmnist.INFO[name.partition("_")[0]]["python_class"])
    names = list(medmnist.INFO[name.partition("_")[0]]["label"].values())
    colour = kind is medmnist.DermaMNIST
    save(root, name, (size, size, 3) if colour else (size, size), len(names))
    library = kind("test", root=str(root), size=size, download=False)
    data = load_data(f"medmnist:{name}")
    model = stand(len(names), tuple(names), Preprocess((size, size), 3 if colour else 1))
    batches = list(data.batches(model, 4))
    found = torch.cat([batch.x for batch in batches])
    for number in range(9):
        image, label = library[number]
        pixels = np.asarray(image).reshape(size, size, -1).transpose(2, 0, 1)
        assert torch.equal(found[number], torch.from_numpy(pixels.astype("f4") / 255))
        assert [int(y) for batch in batches for y in batch.y][number] == int(label[0])
    assert len(data) == 9
    assert data.title == f"{kind.__name__}, test split" + (", 64×64" if size == 64 else "")


def test_names_of_classes_are_matched_and_sizes_fitted(root: Path, stand, refuses) -> None:
    save(root, "dermamnist", (28, 28, 3), DERMA)
    data = load_data("medmnist:DermaMNIST")
    turned = tuple(reversed(data.classes))  # type: ignore[attr-defined]
    (batch,) = data.batches(stand(DERMA, turned, Preprocess((32, 32), 3)), 9)
    assert batch.x.shape == (9, 3, 32, 32)
    assert batch.y.tolist() == [DERMA - 1 - (8 - number) % DERMA for number in range(9)]
    with refuses(DataError, "7 of 7 classes are not classes of stand-in: 'actinic keratoses"):
        data.resolve(stand(DERMA, tuple("abcdefg"), COLOUR))
    with refuses(DataError, "7 classes|1 of 7 classes|none of"):
        data.resolve(stand(6, None, COLOUR))


def test_a_set_that_is_not_there(root: Path, refuses) -> None:
    pattern = (
        rf"dermamnist\.npz is not in {root} or .*\.medmnist: get it with python -c \"import medmnist; "
        r"medmnist\.DermaMNIST\('test', download=True\)\", or set ROBUSTKIT_DATA to its folder"
    )
    with refuses(DataError, pattern):
        load_data("medmnist:dermamnist")
    with refuses(DataError, r"download=True, size=64\)"):
        load_data("medmnist:dermamnist_64")
    save(root, "dermamnist", (28, 28, 3), DERMA)
    (root / "home" / ".medmnist").mkdir(parents=True, exist_ok=True)
    (root / "dermamnist.npz").rename(root / "home" / ".medmnist" / "dermamnist.npz")
    assert len(load_data("medmnist:dermamnist")) == 9


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("dermamnst", "is not known; did you mean dermamnist"),
        ("dermamnist_32", "there are .* each also with _64, _128, _224"),
        ("chestmnist", "has volumes or several labels a picture"),
        ("organmnist3d", "has volumes"),
        ("", "is not known"),
    ],
)
def test_names_that_are_none(name: str, pattern: str, root: Path, refuses) -> None:
    with refuses(DataError, pattern):
        load_data(f"medmnist:{name}")


def test_files_that_are_damaged(root: Path, refuses) -> None:
    save(root, "dermamnist", (28, 28, 3), DERMA)
    whole = (root / "dermamnist.npz").read_bytes()
    for content in (b"", whole[:1000], whole[:-100]):
        (root / "dermamnist.npz").write_bytes(content)
        with refuses(DataError, r"dermamnist\.npz cannot be read .*: remove it, and get it again"):
            load_data("medmnist:dermamnist")
    np.savez(root / "dermamnist.npz", x=np.zeros(3))
    with refuses(DataError, "cannot be read .*test_labels"):
        load_data("medmnist:dermamnist")
    save(root, "dermamnist", (28, 28, 3), DERMA + 1)
    with refuses(DataError, "9 pictures and 9 classes in .* do not fit"):
        load_data("medmnist:dermamnist")
    save(root, "dermamnist", (4, 28, 28, 3), DERMA)
    with refuses(DataError, r"are uint8 of \(4, 28, 28, 3\), not MedMNIST's"):
        load_data("medmnist:dermamnist")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    with refuses(DataError, r"pip install 'robustkit\[medmnist\]'"):
        load_data("medmnist:dermamnist")
    assert ours.package_folder is folders.package_folder
