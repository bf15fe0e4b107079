"""Data sets of Hugging Face's datasets: saved here, read a sample at a time."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from hub_tools import pictures
from PIL import Image
from pyarrow import parquet

from robustkit.data.class_names import imagenet_labels
from robustkit.data.load import load_data
from robustkit.data.pictures import Preprocess, to_input
from robustkit.errors import DataError

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def table(classes: list[Any], label: Any = None, **columns: Any) -> Any:
    """Pictures of odd sizes and their classes."""
    shown = [pictures()[number % 7] for number in range(len(classes))]
    features = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=NAMES)}
    features |= {key: feature for key, (feature, _) in columns.items()}
    values = {"image": shown, "label": classes} | {key: value for key, (_, value) in columns.items()}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def streamed(name: str | Path, model: Any) -> tuple[torch.Tensor, list[int], list[str]]:
    batches = list(load_data(name).batches(model, 2))
    return (
        torch.cat([each.x for each in batches]),
        [int(y) for each in batches for y in each.y],
        [name for each in batches for name in each.names],
    )


def test_a_saved_data_set_gives_its_pictures_under_the_models_classes(tmp_path: Path, stand) -> None:
    table([2, 0, 1, 0, 2]).save_to_disk(tmp_path / "pets")
    model = stand(labels=("Owl", "cat", "Dog"), preprocess=Preprocess((32, 32), 3, 36, "bicubic"))
    for name in (tmp_path / "pets", f"hf:{tmp_path / 'pets'}"):
        data = load_data(name)
        assert (len(data), data.title) == (5, "pets")
        x, y, names = streamed(name, model)
        assert (y, names) == ([0, 1, 2, 1, 0], ["0", "1", "2", "3", "4"])
        wanted = torch.stack([to_input(each, model.preprocess) for each in pictures()[:5]])
        assert torch.equal(x, wanted)


def test_a_table_sorted_by_class_is_taken_in_turn(tmp_path: Path, stand) -> None:
    table([0, 0, 0, 1, 1, 2]).save_to_disk(tmp_path / "pets")
    _, y, names = streamed(tmp_path / "pets", stand())
    assert (y, names) == ([0, 1, 2, 0, 1, 0], ["0", "3", "5", "1", "4", "2"])


def test_the_split_is_named_or_the_one_for_tests(tmp_path: Path, stand, refuses) -> None:
    splits = {"train": table([0, 0, 0]), "validation": table([1, 1]), "test": table([2])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "pets")
    place = f"hf:{tmp_path / 'pets'}"
    assert streamed(tmp_path / "pets", stand())[1] == streamed(f"{place}:test", stand())[1] == [2]
    assert streamed(f"{place}:train", stand())[1] == [0, 0, 0]
    assert load_data(f"{place}:validation").title == "pets, validation split"
    with refuses(DataError, "has no split 'tests'; did you mean test.* there are train, validation, test"):
        load_data(f"{place}:tests")
    datasets.DatasetDict({"a": splits["train"], "b": splits["test"]}).save_to_disk(tmp_path / "two")
    with refuses(DataError, "has the splits a, b: say which, such as hf:NAME:a"):
        load_data(tmp_path / "two")
    splits["test"].save_to_disk(tmp_path / "one")
    with refuses(DataError, "is one table without a split 'train'"):
        load_data(f"hf:{tmp_path / 'one'}:train")


def test_columns_are_found_or_named(tmp_path: Path, stand, refuses) -> None:
    coarse = datasets.ClassLabel(names=["beast", "bird"])
    both = table([0, 1, 2], kind=(coarse, [0, 0, 1]), thumbnail=(datasets.Image(), pictures()[3:6]))
    both.save_to_disk(tmp_path / "both")
    place = f"hf:{tmp_path / 'both'}"
    with refuses(DataError, r"has 2 columns of pictures \(image, thumbnail\) among .*: write hf:NAME:SPLIT\?image="):
        load_data(tmp_path / "both")
    with refuses(DataError, r"has 2 columns of classes \(label, kind\)"):
        load_data(f"{place}?image=thumbnail")
    x, y, _ = streamed(f"{place}?image=thumbnail&label=kind", stand(2, ("bird", "beast")))
    assert y == [1, 0, 1]  # in turn
    assert torch.equal(x[1], to_input(pictures()[5], stand().preprocess))
    with refuses(DataError, "has no column 'labels'; did you mean label"):
        load_data(f"{place}?image=image&label=labels")
    with refuses(DataError, "thumbnail is no column of classes; label may be label, kind"):
        load_data(f"{place}?image=image&label=thumbnail")
    with refuses(DataError, "'picture' is none of image, label, config"):
        load_data(f"{place}?picture=image")
    both.select_columns(["label"]).save_to_disk(tmp_path / "blind")
    with refuses(DataError, "has no column of pictures among label"):
        load_data(tmp_path / "blind")


def test_labels_may_be_numbers_or_names_without_a_list(tmp_path: Path, stand, refuses) -> None:
    table([2, 0, 1], datasets.Value("int32")).save_to_disk(tmp_path / "numbers")
    assert streamed(tmp_path / "numbers", stand(labels=("owl", "cat", "dog")))[1] == [2, 0, 1]
    with refuses(DataError, r"class 2 is none of stand-in's 0 to 1 \(1 such samples\): number them"):
        load_data(tmp_path / "numbers").resolve(stand(2))
    table(["owl", "cat", "owl"], datasets.Value("string")).save_to_disk(tmp_path / "words")
    assert streamed(tmp_path / "words", stand(labels=("owl", "cat", "dog")))[1] == [0, 1, 0]
    with refuses(DataError, "1 of 2 classes are not classes of stand-in: 'owl'"):
        load_data(tmp_path / "words").resolve(stand(labels=("cow", "cat", "dog")))
    table([-1, -1], datasets.Value("int64")).save_to_disk(tmp_path / "hidden")
    with refuses(DataError, "class -1 is none of .* the split has no labels, name another"):
        load_data(tmp_path / "hidden").resolve(stand())
    table([1, None], datasets.Value("int64")).save_to_disk(tmp_path / "gaps")
    with refuses(DataError, "1 samples have no label"):
        load_data(tmp_path / "gaps")


def test_imagenet_under_longer_names_is_imagenet(tmp_path: Path, stand) -> None:
    longer = [f"{label}, and so on {number}" for number, label in enumerate(imagenet_labels())]
    table([3, 999], datasets.ClassLabel(names=longer)).save_to_disk(tmp_path / "net")
    assert streamed(tmp_path / "net", stand(1000, imagenet_labels()))[1] == [3, 999]


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_folder_of_parquet_files(tmp_path: Path, stand, inner: str) -> None:
    place = tmp_path / "pets" / inner
    place.mkdir(parents=True)
    table([0, 0]).to_parquet(place / "train-00000-of-00001.parquet")
    for part, classes in enumerate(([2, 1], [0])):
        table(classes).to_parquet(place / f"test-0000{part}-of-00002.parquet")
    x, y, _ = streamed(tmp_path / "pets", stand())
    assert y == [2, 1, 0]
    assert torch.equal(x[2], to_input(pictures()[0], stand().preprocess))
    assert streamed(f"hf:{tmp_path / 'pets'}:train", stand())[1] == [0, 0]


def test_parquet_files_that_others_wrote_hold_bytes_and_numbers(tmp_path: Path, stand) -> None:
    cells = [{"bytes": png(picture), "path": None} for picture in pictures()[:2]]
    (tmp_path / "plain").mkdir()
    parquet.write_table(pyarrow.table({"img": cells, "class": [1, 0]}), tmp_path / "plain" / "rows.parquet")
    x, y, _ = streamed(tmp_path / "plain", stand())
    assert y == [1, 0]
    assert torch.equal(x[1], to_input(pictures()[1], stand().preprocess))


def test_a_picture_that_cannot_be_read_is_skipped_and_named(tmp_path: Path, stand) -> None:
    cells = [
        {"bytes": png(pictures()[0]), "path": None},
        {"bytes": b"no picture", "path": None},
        None,
        {"bytes": None, "path": str(tmp_path / "gone.png")},
    ]
    (tmp_path / "pets").mkdir()
    parquet.write_table(pyarrow.table({"image": cells, "label": [0, 2, 1, 0]}), tmp_path / "pets" / "rows.parquet")
    data = load_data(tmp_path / "pets")
    (batch,) = data.batches(stand(), 8)
    assert (batch.ids.tolist(), batch.names) == ([0], ["0"])
    reasons = dict(data.skipped)
    assert reasons["1"] == "is not a picture: replace or remove it"
    assert reasons["2"] == "has no picture"
    assert "gone.png is not there" in reasons["3"]


def test_pictures_are_read_one_by_one(tmp_path: Path, stand, monkeypatch) -> None:
    table([0, 1, 2] * 20).save_to_disk(tmp_path / "pets")
    read: list[int] = []
    plain = datasets.Dataset.__getitem__
    monkeypatch.setattr(datasets.Dataset, "__getitem__", lambda self, key: read.append(key) or plain(self, key))
    data = load_data(tmp_path / "pets")
    assert not [key for key in read if isinstance(key, int)]
    stream = data.batches(stand(), 2)
    next(stream)
    stream.close()
    rows = [key for key in read if isinstance(key, int)]
    assert rows == list(range(len(rows)))
    assert 2 <= len(rows) < 8


def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path, refuses) -> None:
    with refuses(DataError, "hf:nobody/pets is not in the cache of datasets and could not be fetched .*save_to_disk"):
        load_data("hf:nobody/pets")
    with refuses(DataError, "hf:nobody/pets:test is not in the cache of datasets"):
        load_data("hf:nobody/pets:test")
    with refuses(DataError, "there is no folder './nowhere/at/all'"):
        load_data("hf:./nowhere/at/all")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "state.json").write_text("{}")
    with refuses(DataError, "broken cannot be read .*: give a folder that save_to_disk wrote"):
        load_data(tmp_path / "broken")


def test_of_a_data_set_on_the_hub_the_split_for_tests_alone_is_fetched(monkeypatch, stand, refuses) -> None:
    asked: list[tuple[str, str | None, str]] = []
    listed = {"train": None, "validation": None}

    def load_dataset(place: str, config: str | None, split: str) -> Any:
        asked.append((place, config, split))
        return table([2, 1])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda *_: SimpleNamespace(info=SimpleNamespace(splits=listed))
    )
    data = load_data("hf:nobody/pets")
    assert data.title == "nobody/pets, validation split"
    assert streamed("hf:nobody/pets:train?config=small", stand())[1] == [2, 1]
    assert asked == [("nobody/pets", None, "validation"), ("nobody/pets", "small", "train")]
    listed.pop("validation")
    listed["more"] = None
    with refuses(DataError, "hf:nobody/pets has the splits train, more: say which"):
        load_data("hf:nobody/pets")


def test_a_folder_with_a_folder_a_class_is_still_one(tmp_path: Path, stand) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "0.png")
    assert streamed(tmp_path, stand(labels=tuple(NAMES)))[1] == [0, 1, 2]


def test_without_datasets_there_is_the_command_that_installs_it(monkeypatch, refuses) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with refuses(DataError, r"hf:cifar10 needs datasets: pip install 'robustkit\[hf\]'"):
        load_data("hf:cifar10")
