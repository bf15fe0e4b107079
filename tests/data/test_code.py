"""Data of the user's code, `file.py:NAME`: what it gives is what is judged, or the line says what to give."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustkit.data.load import Data, load_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError, RobustkitError

MODEL = Preprocess((6, 5), 3)
HEAD = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

pixels = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3)).astype("u1")
x = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 255).float()
y = torch.tensor([0, 1, 2, 0, 1, 2, 1])


class Items(Dataset):
    def __init__(self, make=lambda number: x[number], label=lambda number: int(y[number])):
        self.make, self.label = make, label

    def __len__(self):
        return 7

    def __getitem__(self, number):
        return self.make(number), self.label(number)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(x, y))


def doubled(items):
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])
"""
PIXELS = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3)).astype("u1")
X = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / 255).float()
Y = [0, 1, 2, 0, 1, 2, 1]


def code(folder: Path, line: str) -> str:
    (folder / "mine.py").write_text(f"{HEAD}\n{line}\n", "utf-8")
    return f"{folder / 'mine.py'}:data"


def read(data: Data, model: object) -> tuple[torch.Tensor, list[int]]:
    batches = list(data.batches(model, 3))
    return torch.cat([each.x for each in batches]), [int(y) for each in batches for y in each.y]


@pytest.mark.parametrize(
    "line",
    [
        "data = x, y",
        "data = [pixels, y.numpy()]",
        "data = {'images': x, 'labels': y.tolist()}",
        "data = x.permute(0, 2, 3, 1).numpy(), y",
        "data = TensorDataset(x, y)",
        "data = TensorDataset(torch.from_numpy(pixels), y)",
        "data = TensorDataset(x, y, y)",
        "data = Items()",
        "data = Items",
        "data = Items(lambda n: pixels[n])",
        "data = Items(lambda n: Image.fromarray(pixels[n]))",
        "data = Items(lambda n: torch.from_numpy(pixels[n]).float(), lambda n: y[n])",
        "data = Items(lambda n: x[n], lambda n: np.int64(y[n]))",
        "data = [(x[n], int(y[n])) for n in range(7)]",
        "data = [{'image': x[n], 'label': int(y[n])} for n in range(7)]",
        "data = Subset(Items(), range(7))",
        "data = DataLoader(Items(), batch_size=2)",
        "data = DataLoader(Items(), batch_size=2, shuffle=True, drop_last=True)",
        "data = DataLoader(Items(), batch_size=None)",
        "data = DataLoader(TensorDataset(x, y), batch_size=4)",
        "data = DataLoader(Items(), batch_size=2, collate_fn=doubled)",
        "data = DataLoader(Stream(), batch_size=3)",
        "data = Stream()",
        "def data(): return x, y",
        "def data(batch=2): return DataLoader(Items(), batch_size=batch)",
        "from robustkit.data.load import tensor_data\ndata = tensor_data(x, y)",
    ],
)
def test_everything_that_gives_the_pictures(line: str, tmp_path: Path, stand) -> None:
    data = load_data(code(tmp_path, line))
    assert len(data) == 7
    for _ in range(2):
        found, classes = read(data, stand(preprocess=MODEL))
        assert torch.equal(found, X)
        assert classes == Y
    digest = hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
    assert f"data of mine.py, SHA-256 {digest[:12]}" in data.title
    assert data.name == f"{tmp_path / 'mine.py'}:data"


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("data = (x - 0.5) / 0.25, y", r"x goes from -2 to 2: .* \(give x before Normalize, or x \* std \+ mean\)"),
        ("data = Items(lambda n: (x[n] - 0.5) / 0.25)", "x goes from -2 to 2: .*before Normalize"),
        ("data = DataLoader(Items(lambda n: (x[n] - 0.5) / 0.25), batch_size=2)", "before Normalize"),
        ("data = DataLoader(Items(lambda n: x[n] * 2 - 1), batch_size=2, collate_fn=doubled)", r"\(x \+ 1\) / 2"),
        ("data = Items(lambda n: x[n] + torch.rand(1).item() * 1e-8 + 1e-3 * torch.rand(1))", "another picture of"),
        ("data = Items(lambda n: x[n][:, : 3 + n % 2])", "several shapes"),
        ("data = Items(lambda n: 1 / 0)", r"not a sample can be read: cannot be read \(division by zero\)"),
        ("data = Items(lambda n: 'a.png')", "sample 0 is a str, no picture"),
        ("data = Items(label=lambda n: 'cat')", "the class 'cat' is not one whole number"),
        ("data = Items(label=lambda n: torch.eye(3)[0])", "is not one whole number"),
        ("data = [x[0], x[1], x[2]]", "a sample is a Tensor: give"),
        ("data = [{'picture': x[0]}]", "samples have picture: name them image and label"),
        ("data = []", "is empty"),
        ("data = x", r"is a Tensor, no labelled pictures: give a pair \(x, y\) of tensors, a Dataset"),
        ("data = 7", "is a int, no labelled pictures"),
        ("data = x, y[:3]", "7 pictures and 3 classes"),
        ("data = x, None", "y must be integers"),
        ("data = DataLoader(Items(), sampler=WeightedRandomSampler([1.0] * 7, 7))", "draws by WeightedRandomSampler"),
        ("data = DataLoader(Items(), collate_fn=doubled, shuffle=True)", "shuffles: give shuffle=False"),
        ("data = DataLoader(Items(), collate_fn=lambda items: items[0][0][None])", "a sample is a Tensor: give"),
        ("data = DataLoader(Items(), collate_fn=lambda items: 1 / 0)", "fails .division by zero."),
        ("def data(root): return x, y", "cannot be called without arguments .missing a required argument: 'root'"),
        ("def data(): raise OSError('no such\\nfolder')", r"fails \(OSError: no such\): see that it runs by itself"),
        ("data = (1", r"fails \(SyntaxError"),
        ("import nothing_of_the_sort", r"fails \(ModuleNotFoundError: No module named 'nothing_of_the_sort'\)"),
        ("raise SystemExit(0)", "fails .SystemExit"),
        ("date = x, y", "has no data; did you mean date"),
    ],
)
def test_code_that_will_not_do(line: str, pattern: str, tmp_path: Path) -> None:
    with pytest.raises(RobustkitError, match=pattern) as caught:
        load_data(code(tmp_path, line))
    assert "\n" not in str(caught.value)


def test_names_that_are_none(tmp_path: Path, refuses) -> None:
    name = code(tmp_path, "data = x, y")
    with refuses(DataError, r"gone\.py cannot be opened \(No such file"):
        load_data(tmp_path / "gone.py:data")
    with refuses(DataError, r"names no object: write .*mine\.py:NAME"):
        load_data(name.removesuffix("data"))
    with refuses(DataError, "is a single file"):
        load_data(name.removesuffix(":data"))


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("data = Items(lambda n: x[n] * (1 if n != 3 else 2))", "sample 3 goes from .* scale all to"),
        ("data = Items(lambda n: x[n] if n != 3 else x[n][:, :4])", r"sample 3 is of \[3, 4, 5\], others of"),
        ("data = Items(label=lambda n: 1 if n != 3 else 9)", "class 9 is none of 0 to 2"),
        ("data = Items(lambda n: x[n] if n != 3 else Image.fromarray(pixels[n]))", "sample 3 is a Pillow picture"),
    ],
)
def test_a_sample_that_contradicts_the_others_ends_the_stream(
    line: str, pattern: str, tmp_path: Path, stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.data.kinds.datasets._PROBES", 2)  # the first and the last
    data = load_data(code(tmp_path, line))
    with pytest.raises(RobustkitError, match=pattern):
        read(data, stand(preprocess=MODEL))


def test_samples_that_cannot_be_read_are_skipped(tmp_path: Path, stand) -> None:
    data = load_data(code(tmp_path, "data = Items(lambda n: x[n] if n != 3 else 1 / 0)"))
    assert read(data, stand(preprocess=MODEL))[1] == [0, 1, 2, 1, 2, 1]
    assert data.skipped == [("3", "cannot be read (division by zero): mend the Dataset, or leave the sample out")]


def test_class_names_are_matched(tmp_path: Path, stand, refuses) -> None:
    for line in ("data = Items()", "data = Subset(Items(), range(7))"):
        data = load_data(code(tmp_path, f"Items.classes = ['cat', 'dog', 'cow']\n{line}"))
        assert read(data, stand(3, ("dog", "cow", "cat"), MODEL))[1] == [[2, 0, 1][label] for label in Y]
        with refuses(DataError, "1 of 3 classes are not classes of stand-in: 'cow'"):
            data.resolve(stand(3, ("dog", "cat", "wolf"), MODEL))


def test_sizes_and_classes_must_fit(tmp_path: Path, stand, refuses) -> None:
    data = load_data(code(tmp_path, "data = Items()"))
    with refuses(DataError, "pictures of 3×6×5, stand-in wants 3×8×8: give --size 6,5"):
        data.resolve(stand())
    with refuses(DataError, "class 2 is none of 0 to 1: number the classes"):
        data.resolve(stand(2, preprocess=MODEL))


def test_files_beside_it_are_imported_and_the_path_is_left_tidy(tmp_path: Path, stand) -> None:
    (tmp_path / "beside_it.py").write_text("print('hello')\nlabel = 2\n")
    before = list(sys.path)
    data = load_data(code(tmp_path, "import beside_it\ndata = Items(label=lambda n: beside_it.label)"))
    assert read(data, stand(preprocess=MODEL))[1] == [2] * 7
    assert sys.path == [*before, str(tmp_path)]
    sys.path.remove(str(tmp_path))


def test_a_stream_in_another_order_each_time(tmp_path: Path, stand) -> None:
    line = (
        "import itertools\nturn = itertools.count()\n"
        "class Other(IterableDataset):\n"
        "    def __iter__(self): return iter(zip(x, y.roll(next(turn))))\n"
        "data = Other()"
    )
    with pytest.raises(RobustkitError, match="comes in another order each time"):
        load_data(code(tmp_path, line))
