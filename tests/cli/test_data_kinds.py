"""Every kind of data from end to end: an audit of each gives the figures of the `.npz` with the same pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from audit_tools import QUICK, Cli, Digits
from PIL import Image
from pyarrow import parquet
from safetensors.torch import save_file
from torch import nn

from robustkit import reports

CODE = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

content = np.load({!r})
def loader():
    x = torch.from_numpy(content["x"] / 255).float()[:, None]
    return DataLoader(TensorDataset(x, torch.from_numpy(content["y"])), batch_size=3)
normalised = torch.from_numpy((content["x"] / 255 - 0.1307) / 0.3081).float()[:, None], torch.from_numpy(content["y"])
"""


@pytest.fixture(scope="module")
def pixels(digits: Digits) -> np.ndarray:
    """The ten digits, uint8 [10, 28, 28]."""
    return np.stack([np.asarray(Image.open(path).convert("L")) for path in digits.files])


def npy(folder: Path, x: np.ndarray, digits: Digits) -> str:
    np.save(folder / "x.npy", (x / 255).astype("f4")[..., None])  # NHWC
    np.save(folder / "y.npy", np.arange(10))
    return str(folder / "x.npy")


def pt(folder: Path, x: np.ndarray, digits: Digits) -> str:
    torch.save({"images": torch.from_numpy(x).float()[:, None], "labels": torch.arange(10)}, folder / "a.pt")
    return str(folder / "a.pt")


def safetensors(folder: Path, x: np.ndarray, digits: Digits) -> str:
    save_file({"x": torch.from_numpy(x), "y": torch.arange(10)}, folder / "a.safetensors")
    return str(folder / "a.safetensors")


def csv(folder: Path, x: np.ndarray, digits: Digits) -> str:
    rows = [f"{path},{number}" for number, path in enumerate(digits.files)]
    (folder / "a.csv").write_text("\n".join(["path,label", *rows]))
    return str(folder / "a.csv")


def paths(folder: Path, x: np.ndarray, digits: Digits) -> str:
    parquet.write_table(pa.table({"file": list(map(str, digits.files)), "y": list(range(10))}), folder / "a.parquet")
    return str(folder / "a.parquet")


def pictures(folder: Path, x: np.ndarray, digits: Digits) -> str:
    cells = [{"bytes": path.read_bytes(), "path": None} for path in digits.files]
    parquet.write_table(pa.table({"image": cells, "label": list(range(10))}), folder / "a.parquet")
    return str(folder / "a.parquet")


def code(folder: Path, x: np.ndarray, digits: Digits) -> str:
    (folder / "mine.py").write_text(CODE.format(str(folder / "a.npz")))
    return f"{folder / 'mine.py'}:loader"


Make = Callable[[Path, np.ndarray, Digits], str]


@pytest.mark.parametrize("make", [npy, pt, safetensors, csv, paths, pictures, code])
def test_an_audit_of_each_kind(make: Make, cli: Cli, digits: Digits, pixels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(10))
    name = make(tmp_path, pixels, digits)
    records = []
    for out, data in (("a", str(tmp_path / "a.npz")), ("b", name)):
        done = cli(*QUICK, "--data", data, "--out", tmp_path / out)
        assert done.status == 0, done
        records.append(reports.read(tmp_path / out / "report.json"))
    first, second = (json.loads((tmp_path / out / "report.json").read_text("utf-8")) for out in "ab")
    assert second["data"]["name"] == name
    assert records[1].clean.count == records[1].clean.total == 4
    for key in ("clean", "worst_case", "worst_distance"):
        assert second[key] == first[key]
    for key in ("labels", "predictions", "confidences", "distances"):
        assert second["samples"][key] == first["samples"][key]
    assert second["attacks"][0]["curve"] == first["attacks"][0]["curve"]
    if make is code:
        assert "loader of mine.py, SHA-256 " in records[1].data.title


def test_a_medmnist_set(cli: Cli, pixels: np.ndarray, tmp_path: Path) -> None:
    arrays = {"test_images": np.repeat(pixels[..., None], 3, 3), "test_labels": (np.arange(10) % 7)[:, None]}
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    np.savez(tmp_path / "a.npz", x=arrays["test_images"], y=arrays["test_labels"][:, 0])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 7))
    torch.jit.script(net).save(str(tmp_path / "net.ts"))
    (tmp_path / "audit.toml").write_text("size = 28\n")
    words = ("audit", "--model", tmp_path / "net.ts", "--config", tmp_path / "audit.toml", "--device", "cpu")
    curves = []
    for data in ("medmnist:dermamnist", tmp_path / "a.npz"):
        more = ("--data", data, "--attack", "fgsm", "--eps", "0.01", "--out", tmp_path / "out")
        process = cli.start(*map(str, (*words, *more)), ROBUSTKIT_DATA=str(tmp_path))
        _, stderr = process.communicate(timeout=600)
        assert process.returncode == 0, stderr
        record = reports.read(tmp_path / "out" / "report.json")
        curves.append((record.clean, record.samples.labels, record.attacks[0].curve))
        if data == "medmnist:dermamnist":
            assert record.data.title == "DermaMNIST, test split"
    assert curves[0] == curves[1]


def test_a_medmnist_set_of_other_classes(cli: Cli, pixels: np.ndarray, tmp_path: Path) -> None:
    arrays = {"test_images": np.repeat(pixels[..., None], 3, 3), "test_labels": (np.arange(10) % 7)[:, None]}
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    words = (*QUICK, "--data", "medmnist:dermamnist", "--out", str(tmp_path / "out"))
    process = cli.start(*words, ROBUSTKIT_DATA=str(tmp_path))
    stderr = process.communicate(timeout=600)[1]
    assert process.returncode == 2
    assert "7 of 7 classes are not classes of " in stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "is empty: a column of path"),
        ("a.csv", b"path,kind\na.png,1\n", "no label column"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.pt", b"hello", "cannot be read"),
        ("a.safetensors", b"\0" * 20, "cannot be read"),
        ("x.npy", b"\x93NUMPY", "no y.npy beside it"),
        ("a.py:data", b"", "cannot be opened"),
        ("mine.py:normalised", None, "give x before Normalize"),
        ("mine.py:gone", None, "has no gone"),
    ],
)
def test_data_that_will_not_do(
    name: str, content: bytes | None, says: str, cli: Cli, digits: Digits, pixels: np.ndarray, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(10))
    if content is None:
        code(tmp_path, pixels, digits)
    elif ":" not in name:
        (tmp_path / name).write_bytes(content)
    assert says in cli.refuses(*QUICK, "--data", tmp_path / name, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_sample_out_of_range_ends_the_audit_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\ndef data(): return [(torch.full((1, 28, 28), 2.0 if n == 3 else 0.5), 0) for n in range(999)]\n"
    )
    done = cli(*QUICK, "--data", f"{tmp_path / 'mine.py'}:data", "--out", tmp_path / "out")
    assert done.status == 2, done
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert "sample 3 goes from 2 to 2, others from 0 to 1: scale all to [0,1]" in lines[0]


def test_a_wrong_size_names_what_fits(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 32, 32, 3), "u1"), y=np.zeros(4, int))
    line = cli.refuses(*QUICK, "--data", tmp_path / "a.npz", "--out", tmp_path / "out")
    assert "pictures of 3×32×32, lenet-mnist wants 1×28×28: make x grey" in line
    assert "give --size 32 if the model takes it, or pictures of 28×28" in line


def test_every_kind_is_listed(cli: Cli) -> None:
    listed = cli("models").stdout
    for word in ("x.npy", ".pt", ".safetensors", ".csv", ".parquet", "medmnist:NAME", "file.py:NAME"):
        assert word in listed
