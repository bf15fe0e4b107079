"""`.npz` files and tensors."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit.data.load import load_data, tensor_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

RNG = np.random.default_rng(0)
Y = np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype", "order"),
    [
        ((5, 8, 8, 3), "u1", "C"),
        ((5, 8, 8, 3), "u1", "F"),
        ((5, 8, 8, 1), "u1", "C"),
        ((5, 8, 8), "u1", "C"),
        ((5, 3, 8, 8), "f4", "C"),
        ((5, 3, 8, 8), "f8", "F"),
        ((5, 3, 8, 8), ">f4", "C"),
    ],
)
def test_rows_come_out_as_they_went_in(
    shape: tuple[int, ...], dtype: str, order: str, compressed: bool, tmp_path: Path, stand
) -> None:
    whole = RNG.integers(0, 256, shape).astype("u1") if dtype == "u1" else RNG.random(shape).astype(dtype)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / "a.npz", x=np.asarray(whole, order=order), y=Y)
    expected = whole / 255 if dtype == "u1" else whole
    expected = expected[:, None] if len(shape) == 3 else expected.transpose(0, 3, 1, 2) if dtype == "u1" else expected
    data = load_data(tmp_path / "a.npz")
    model = stand(preprocess=Preprocess((8, 8), expected.shape[1]))
    batches = list(data.batches(model, 2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(torch.cat([batch.x for batch in batches]), expected.astype("f4"))
    assert torch.cat([batch.y for batch in batches]).tolist() == Y.tolist()
    assert torch.cat([batch.ids for batch in batches]).tolist() == [0, 1, 2, 3, 4]
    assert len(data) == 5


def test_memory_does_not_grow_with_the_file(tmp_path: Path, stand) -> None:
    x = np.zeros((4000, 64, 64, 3), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.zeros(4000, np.int64))
    size = x.nbytes
    del x
    tracemalloc.start()
    data = load_data(tmp_path / "a.npz")
    count = sum(len(batch) for batch in data.batches(stand(preprocess=Preprocess((64, 64), 3)), 16, 3000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3000
    assert peak < size / 8


X = RNG.random((5, 3, 8, 8)).astype("f4")


@pytest.mark.parametrize(
    ("arrays", "pattern"),
    [
        ({"x": X * 255, "y": Y}, "x goes from .* scale it to"),
        ({"x": X - 0.5, "y": Y}, "x goes from -0"),
        ({"x": np.where(X > 0.9, np.nan, X), "y": Y}, "x has NaN"),
        ({"x": np.where(X > 0.9, np.inf, X), "y": Y}, "x goes from .* to inf"),
        ({"x": X, "y": Y[:4]}, "5 pictures and 4 classes"),
        ({"x": X, "y": Y.astype("f4")}, "y must be integers"),
        ({"x": X, "y": Y[:, None]}, "y must be integers"),
        ({"x": X}, "has no y but x"),
        ({"images": X, "labels": Y}, "has no x and no y but images, labels"),
        ({"x": X.astype("i4"), "y": Y}, "x must be uint8"),
        ({"x": X[0], "y": Y[:3]}, "x must be"),
        ({"x": np.zeros((5, 8, 8, 4), "u1"), "y": Y}, "x must be uint8"),
        ({"x": X[:0], "y": Y[:0]}, "0 pictures"),
        ({"x": X.astype(object), "y": Y}, "would run code"),
        ({"x": X, "y": Y.astype(object)}, "would run code"),
        ({"x": X.astype("c8"), "y": Y}, "x must be"),
    ],
)
def test_arrays_that_will_not_do(arrays: dict[str, np.ndarray], pattern: str, tmp_path: Path, refuses) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with refuses(DataError, pattern):
        load_data(tmp_path / "a.npz")


def test_files_that_are_no_npz(tmp_path: Path, refuses) -> None:
    np.savez(tmp_path / "whole.npz", x=X, y=Y)
    content = (tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "single.npy", X)
    for name, data, pattern in (
        ("cut.npz", content[:900], "cannot be read"),
        ("text.npz", b"hello world", "cannot be read|would run code"),
        ("empty.npz", b"", "cannot be read"),
        ("single.npz", (tmp_path / "single.npy").read_bytes(), "is one array"),
    ):
        (tmp_path / name).write_bytes(data)
        with refuses(DataError, pattern):
            load_data(tmp_path / name)


def test_arrays_must_fit_the_model(tmp_path: Path, stand, refuses) -> None:
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    for data in (load_data(tmp_path / "a.npz"), tensor_data(torch.from_numpy(X), torch.from_numpy(Y))):
        with refuses(DataError, "pictures of 3×8×8, stand-in wants 1×28×28"):
            data.resolve(stand(preprocess=Preprocess((28, 28), 1)))
        with refuses(DataError, r"class 2 of sample 2 is none of stand-in's 0 to 1 \(1 such samples\)"):
            data.resolve(stand(2))
        data.resolve(stand(3))


def test_tensors_as_data(stand) -> None:
    x, y = torch.from_numpy(X), torch.from_numpy(Y).to(torch.int32)
    data = tensor_data(x, y, "mine")
    batches = list(data.batches(stand(), 3, 4))
    assert torch.equal(torch.cat([batch.x for batch in batches]), x[:4])
    assert torch.cat([batch.y for batch in batches]).dtype == torch.int64
    assert (data.name, len(data)) == ("mine", 5)


@pytest.mark.parametrize(
    ("x", "y", "pattern"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(3, dtype=torch.long), r"float32 \[N, C, H, W\]"),
        (torch.zeros(3, 1, 8, 8).double(), torch.zeros(3, dtype=torch.long), "float32"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.long), "one class for each"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long), "one class for each"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3), "class indices"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.bool), "class indices"),
        (torch.full((3, 1, 8, 8), 1.1), torch.zeros(3, dtype=torch.long), "scale it"),
        (torch.full((3, 1, 8, 8), torch.nan), torch.zeros(3, dtype=torch.long), "NaN"),
    ],
)
def test_tensors_that_will_not_do(x: torch.Tensor, y: torch.Tensor, pattern: str, refuses) -> None:
    with refuses(DataError, pattern):
        tensor_data(x, y)
