"""`.npy`, `.pt` and `.safetensors`: the pictures that the `.npz` of the same arrays gives, a row at a time."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustkit.data.load import Data, load_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 6, 5, 3)).astype("u1")
UNIT = (PIXELS / 255).astype("f4").transpose(0, 3, 1, 2)
Y = np.array([0, 1, 2, 0, 1])
MODEL = Preprocess((6, 5), 3)


def npy(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder / "x.npy"


def pt(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    torch.save({"x": torch.tensor(x), "y": torch.tensor(y)}, folder / "a.pt")
    return folder / "a.pt"


def pt_pair(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    torch.save((torch.tensor(x), y.tolist()), folder / "a.pt")
    return folder / "a.pt"


def pt_old(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    content = {"images": torch.tensor(x), "labels": torch.tensor(y)}
    torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=False)
    return folder / "a.pt"


def safetensors(folder: Path, x: np.ndarray, y: np.ndarray) -> Path:
    save_file({"images": torch.tensor(x).contiguous(), "labels": torch.tensor(y)}, folder / "a.safetensors")
    return folder / "a.safetensors"


Save = Callable[[Path, np.ndarray, np.ndarray], Path]
KINDS = [npy, pt, pt_pair, pt_old, safetensors]


def read(data: Data, model: object) -> tuple[torch.Tensor, list[int], list[int]]:
    batches = list(data.batches(model, 2))
    return torch.cat([each.x for each in batches]), *(
        [int(value) for each in batches for value in getattr(each, key)] for key in ("y", "ids")
    )


@pytest.mark.parametrize("save", KINDS)
@pytest.mark.parametrize(
    "x", [PIXELS, UNIT, PIXELS.astype("f4"), np.asfortranarray(PIXELS), UNIT.astype("f8"), UNIT.astype("f2")]
)
def test_the_pictures_of_the_npz(save: Save, x: np.ndarray, tmp_path: Path, stand) -> None:
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    model = stand(preprocess=MODEL)
    expected, data = read(load_data(tmp_path / "a.npz"), model), load_data(save(tmp_path, x, Y))
    for _ in range(2):
        found = read(data, model)
        assert torch.equal(found[0], expected[0])
        assert found[1:] == expected[1:]
    assert len(data) == 5
    assert found[1] == Y.tolist()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_bfloat16(kind: str, tmp_path: Path, stand) -> None:
    x = torch.from_numpy(UNIT.copy()).bfloat16()
    content = {"x": x, "y": torch.from_numpy(Y)}
    if kind == "pt":
        torch.save(content, tmp_path / "a.pt")
    else:
        save_file(content, tmp_path / "a.safetensors")
    assert torch.equal(read(load_data(tmp_path / f"a.{kind}"), stand(preprocess=MODEL))[0], x.float())


@pytest.mark.parametrize("save", [npy, pt, safetensors])
def test_memory_does_not_grow_with_the_file(save: Save, tmp_path: Path, stand) -> None:
    x = np.zeros((4000, 32, 32, 3), np.uint8)
    path, size = save(tmp_path, x, np.zeros(4000, np.int64)), x.nbytes
    del x
    tracemalloc.start()
    data = load_data(path)
    count = sum(len(batch) for batch in data.batches(stand(preprocess=Preprocess((32, 32), 3)), 16, 3000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3000
    assert peak < size / 4


@pytest.mark.parametrize("save", KINDS)
@pytest.mark.parametrize(
    ("x", "y", "pattern"),
    [
        (PIXELS, Y[:4], "5 pictures and 4 classes"),
        (PIXELS, Y / 2, "y must be integers"),
        (np.where(UNIT > 0.9, np.nan, UNIT), Y, "x has NaN"),
        (UNIT * 2 - 1, Y, "x goes from -1 to 1"),
        (PIXELS[0, 0, 0, 0], Y, "one number|is a int|not an array|cannot be read"),
        (PIXELS[:0], Y[:0], "0 pictures"),
    ],
)
def test_arrays_that_will_not_do(
    save: Save, x: np.ndarray, y: np.ndarray, pattern: str, tmp_path: Path, refuses
) -> None:
    with refuses(DataError, pattern):
        load_data(save(tmp_path, x, y))


@pytest.mark.parametrize("save", KINDS)
@pytest.mark.parametrize("left", [0, 3, 200, -20])
def test_files_that_are_cut_short(save: Save, left: int, tmp_path: Path, refuses) -> None:
    path = save(tmp_path, PIXELS, Y)
    path.write_bytes(path.read_bytes()[:left])
    with refuses(DataError, "cannot be read|more than tensors|would run code"):
        load_data(path)


class Command:
    """A command that pickle runs when it reads this back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle", "objects"])
def test_code_in_a_file_is_not_run(how: str, tmp_path: Path, refuses) -> None:
    ran, path = tmp_path / "ran", tmp_path / "a.pt"
    content = {"x": torch.from_numpy(UNIT.copy()), "y": torch.from_numpy(Y), "spare": Command(ran)}
    if how == "torch":
        torch.save(content, path)
    if how == "pickle":
        path.write_bytes(pickle.dumps(Command(ran)))
    if how == "objects":
        path = tmp_path / "x.npy"
        npy(tmp_path, PIXELS, Y)
        np.save(path, np.array([Command(ran)] * 5), allow_pickle=True)
    with refuses(DataError, "would run code"):
        load_data(path)
    assert not ran.exists()
    if how == "torch":  # it would have run
        torch.load(path, weights_only=False)
        assert ran.exists()


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        ({"conv.weight": torch.zeros(2, 2)}, "has no x and y but conv.weight: save it again with torch.save"),
        ({}, "has no x and y but nothing"),
        ({"x": torch.zeros(2, 3, 4, 4)}, "has no x and y but x"),
        ({"x": 1, "y": 1, "images": 1, "labels": 1}, "more than one pair"),
        (torch.zeros(2, 3, 4, 4), "holds a Tensor, no pictures x and classes y"),
        ((torch.zeros(2, 3, 4, 4),) * 3, "holds a tuple"),
        ({"x": [1, 2], "y": [1, 2]}, "x is a list, not an array"),
        ({"x": torch.zeros(2, 3, 4, 4).to_sparse(), "y": [1, 2]}, "not a dense tensor"),
        ({"x": torch.zeros(2, 3, 4, 4), "y": [[1], [1, 2]]}, "lists of several lengths"),
        ({"x": torch.zeros(2, 3, 4, 4), "y": ["cat", "dog"]}, "number the classes as the model does"),
    ],
)
def test_other_contents_of_a_pt_file(content: Any, pattern: str, tmp_path: Path, refuses) -> None:
    torch.save(content, tmp_path / "a.pt")
    with refuses(DataError, pattern):
        load_data(tmp_path / "a.pt")


def test_npy_files_without_the_other(tmp_path: Path, refuses) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    with refuses(DataError, r"has no y\.npy beside it: save the classes there"):
        load_data(tmp_path / "x.npy")
    np.save(tmp_path / "images.npy", PIXELS)
    with refuses(DataError, r"save x\.npy and y\.npy in one folder"):
        load_data(tmp_path / "images.npy")
    for name in ("x.npy", "a.pt", "a.safetensors"):
        with refuses(DataError, "does not exist"):
            load_data(tmp_path / "gone" / name)
