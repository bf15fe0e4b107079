"""Pictures, folders, checkpoints and programs that are broken or strange: skipped and named, or refused in one line."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_tools import QUICK, Cli, Digits, lenet, snapshot
from PIL import Image
from torch import nn

from robustkit import reports


def damaged(folder: Path, digits: Digits) -> Path:
    shutil.copytree(digits.folder, folder)
    (folder / "3" / "a text.png").write_text("no picture")
    (folder / "4" / "cut short.png").write_bytes(digits.files[4].read_bytes()[:60])
    (folder / "5" / "empty.jpg").touch()
    return folder


def test_broken_files_among_good_ones_are_skipped_and_named(cli: Cli, digits: Digits, tmp_path: Path) -> None:
    folder = damaged(tmp_path / "data", digits)
    out = tmp_path / "out"
    done = cli("audit", "--model", "lenet-mnist", "--data", folder, "--attack", "fgsm", "--eps", "0.1", "--out", out)
    assert done.status == 0, done
    assert "3 files could not be read" in done.stdout
    record = reports.read(out / "report.json")
    assert record.clean.total == record.clean.count == 10
    names = {skipped.file for skipped in record.data.skipped}
    assert names == {"3/a text.png", "4/cut short.png", "5/empty.jpg"}
    assert not names & set(record.samples.names)
    page = (out / "index.html").read_text("utf-8")
    assert all(name in page for name in names)
    # The same folder as its own baseline, counted with and without what was skipped.
    words = ("audit", "--model", "lenet-mnist", "--data", folder, "--attack", "fgsm", "--eps", "0.1", "--out", out)
    for more in ((), ("--samples", "10")):
        again = cli(*words, "--baseline", out / "report.json", *more)
        assert again.status == 0, again


def folder_of(tmp_path: Path, what: str, digits: Digits) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    if what == "no class folders":
        shutil.copy(digits.files[0], folder)
    if what == "empty class folders":
        (folder / "0").mkdir()
    if what == "other classes":
        for name in ("cat", "dog"):
            (folder / name).mkdir()
            shutil.copy(digits.files[0], folder / name)
    if what == "all broken":
        for name in ("0", "1"):
            (folder / name).mkdir()
            (folder / name / "a.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nothing", "is empty"),
        ("no class folders", "one sub-folder of pictures per class"),
        ("empty class folders", "without a file"),
        ("other classes", "cat"),
        ("all broken", "none of the 2 samples can be read"),
    ],
)
def test_folders_that_will_not_do(cli: Cli, digits: Digits, tmp_path: Path, what: str, says: str) -> None:
    folder = folder_of(tmp_path, what, digits)
    words = ("audit", "--model", "lenet-mnist", "--attack", "fgsm", "--eps", "0.1", "--out", tmp_path / "a" / "b")
    if what == "all broken":  # which shows only when they are read
        done = cli(*words, "--data", folder)
        assert done.status == 2
        progress, line = done.stderr.splitlines()
        assert "reading the pictures" in progress
    else:
        line = cli.refuses(*words, "--data", folder)
    assert says in line
    assert not (tmp_path / "a").exists()


class Command:
    """A command that pickle runs when it reads this back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def checkpoint(path: Path, what: str) -> None:
    state = dict(lenet().net.state_dict())
    first = next(iter(state))
    if what == "missing":
        del state[first]
    if what == "unexpected":
        state["spare.weight"] = torch.ones(1)
    if what == "shape":
        state[first] = state[first][..., :1]
    if what == "NaN":
        state[first] = state[first] * float("nan")
    torch.save(state, path)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    if what == "code":
        torch.save({**state, "spare": Command(path.with_suffix(".ran"))}, path)
    if what == "bare code":
        path.write_bytes(pickle.dumps(Command(path.with_suffix(".ran"))))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "weight"),
        ("unexpected", "spare.weight"),
        ("shape", "weight"),
        ("NaN", "NaN"),
        ("cut", "model.pth"),
        ("code", "would run"),
        ("bare code", "would run"),
    ],
)
def test_checkpoints_that_will_not_do(cli: Cli, older: Path, tmp_path: Path, what: str, says: str) -> None:
    before = snapshot(older)
    path = tmp_path / "model.pth"
    checkpoint(path, what)
    line = cli.refuses(*QUICK, "--model", path, "--arch", "lenet5", "--data", "mnist-samples", "--out", "older")
    assert says in line
    assert not path.with_suffix(".ran").exists()
    assert snapshot(older) == before
    if "code" in what:  # it would have run
        with path.open("rb") as file:
            pickle.load(file) if what == "bare code" else torch.load(file, weights_only=False)
        assert path.with_suffix(".ran").exists()


def test_a_normalisation_that_does_not_fit(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text("mean = [0.1, 0.2, 0.3]")
    done = cli(*QUICK, "--config", tmp_path / "audit.toml", "--out", tmp_path / "out")
    assert done.status == 2
    assert done.stderr.splitlines()[-1] == "robustkit: mean and std have 3 channels, the pictures 1"
    assert not (tmp_path / "out").exists()


def test_a_good_checkpoint_is_audited(cli: Cli, tmp_path: Path) -> None:
    checkpoint(tmp_path / "model.pth", "good")
    words = ("--model", tmp_path / "model.pth", "--arch", "lenet5", "--data", "mnist-samples", "--out", tmp_path / "r")
    assert cli(*QUICK, *words).status == 0
    assert reports.read(tmp_path / "r" / "report.json").clean.total == 4


class Odd(nn.Module):
    """A TorchScript model that breaks on some pictures or on all."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.linear = nn.Linear(784, 10)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(self.flat(x))
        # Digits are mostly black; the random pictures of a first try are not.
        if self.how == "NaN on digits" and bool(x.mean() < 0.4):
            return out * float("nan")
        if self.how == "NaN":
            return out * float("nan")
        if self.how == "three classes":
            return out[:, :3]
        return out


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("tuple", "returned a tuple"),
        ("NaN", "returned NaN"),
        ("NaN on digits", "returned NaN"),
        ("three classes", "3 other classes"),
    ],
)
def test_programs_that_will_not_do(cli: Cli, tmp_path: Path, how: str, says: str) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Pair() if how == "tuple" else Odd(how)).save(str(path))
    (tmp_path / "audit.toml").write_text("size = 28\n")
    words = ("--model", path, "--data", "mnist-samples", "--config", tmp_path / "audit.toml")
    done = cli(*QUICK, *words, "--out", tmp_path / "out")
    assert done.status == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "defect" not in lines[0]
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_utf8(cli: Cli, tmp_path: Path, digits: Digits) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 <b>")
    shutil.copytree(digits.folder, folder)
    shutil.copy(digits.files[0], folder / "0" / os.fsdecode(b"\xff\n.png"))
    (folder / "1" / os.fsdecode(b"\xfe.png")).write_text("no picture")
    done = cli(*QUICK, "--samples", "12", "--data", folder, "--out", folder / "report")
    assert done.status == 0, done
    assert len(reports.read(folder / "report" / "report.json").data.skipped) == 1


def test_strange_pictures_in_a_folder_are_handled(cli: Cli, digits: Digits, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(digits.folder, folder)
    with Image.open(digits.files[1]) as file:
        grey = file.convert("L").resize((56, 56))
    for mode, name in (("RGBA", "a.png"), ("CMYK", "b.jpg"), ("P", "c.gif"), ("1", "d.png"), ("LA", "e.png")):
        grey.convert(mode).save(folder / "1" / name)
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "1" / "f.png")
    Image.new("L", (1, 1)).save(folder / "1" / "g.png")
    Image.new("L", (3000, 20)).save(folder / "1" / "h.png")
    done = cli(*QUICK, "--samples", "18", "--data", folder, "--out", tmp_path / "out")
    assert done.status == 0, done
    record = reports.read(tmp_path / "out" / "report.json")
    assert record.data.skipped == []
    said = dict(zip(record.samples.names, record.samples.predictions, strict=True))
    assert [said[f"1/{name}"] for name in ("a.png", "b.jpg", "c.gif", "e.png", "f.png")] == [1] * 5
