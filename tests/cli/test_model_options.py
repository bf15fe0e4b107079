"""Options of a model on the command line: whatever the configuration file can say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit_tools import Cli, lenet
from safetensors.torch import save_file

from robustkit import reports

CODE = """
import torch
from torch import nn
from robustkit import load_model

net = load_model("lenet-mnist", device="cpu").net

class Upside(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, x):
        return {"features": x.flatten(1), "logits": self.net((x + 1) / 2)}

def model():
    return Upside()

def softmax():
    return nn.Sequential(net, nn.Softmax(1))

def late():
    raise RuntimeError("no weights here")
"""
DIGITS = ("--data", "mnist-samples", "--samples", "8", "--attack", "fgsm", "--eps", "0.1", "--device", "cpu")
NAMES = list("0123456789")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("code") / "net.py"
    file.write_text(CODE)
    return file


def test_an_audit_of_own_code(cli: Cli, code: Path, tmp_path: Path) -> None:
    # The network halves and shifts what comes in, (x + 1) / 2: with this mean and std the plain LeNet's own pixels.
    words = ("--model", f"{code}:model", "--size", "28", "--mean", "0.5", "--std", "0.5")
    done = cli("audit", *words, *DIGITS, "--out", tmp_path / "own")
    assert done.status == 0, done
    record = reports.read(tmp_path / "own" / "report.json")
    assert record.model.title.startswith("net.py:model (sha256 ")
    assert (record.model.mean, record.model.std, record.model.input) == ([0.5], [0.5], [1, 28, 28])
    done = cli("audit", "--model", "lenet-mnist", *DIGITS, "--out", tmp_path / "plain")
    assert done.status == 0, done
    plain = reports.read(tmp_path / "plain" / "report.json")
    assert (record.clean, record.worst_case) == (plain.clean, plain.worst_case)
    assert record.model.digest != plain.model.digest


def test_labels_from_a_file_and_a_softmax_that_is_found(cli: Cli, code: Path, tmp_path: Path) -> None:
    files = {
        "lines.txt": "\n".join(NAMES) + "\n",
        "list.json": json.dumps(NAMES),
        "object.json": json.dumps({str(number): name for number, name in enumerate(NAMES)}),
    }
    curves = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        words = ("--model", f"{code}:softmax", "--labels", tmp_path / name, "--size", "28")
        done = cli("audit", *words, *DIGITS, "--out", tmp_path / "report")
        assert done.status == 0, done
        record = reports.read(tmp_path / "report" / "report.json")
        assert record.model.title.endswith("; its output taken for probabilities")
        assert set(record.classes.values()) <= set(NAMES)
        curves.append(record.worst_case)
    done = cli("audit", "--model", "lenet-mnist", *DIGITS, "--out", tmp_path / "plain")
    assert done.status == 0, done
    assert curves == [reports.read(tmp_path / "plain" / "report.json").worst_case] * 3


def test_the_other_commands_take_them_too(cli: Cli, code: Path, tmp_path: Path) -> None:
    save_file(lenet().net.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "arch.py").write_text("from robustkit.zoo.lenet import LeNet5\n")
    own = ("--arch", f"{tmp_path / 'arch.py'}:LeNet5", "--size", "28,28", "--outputs", "logits", "--device", "cpu")
    done = cli("doctor", tmp_path / "w.safetensors", "mnist-samples", *own)
    assert "checks:" in done.stdout, done
    words = ("--method", "smoothing", "--samples", "1", "--data", "mnist-samples", "--out", tmp_path / "c")
    done = cli("certify", "--model", tmp_path / "w.safetensors", *own, *words)
    assert done.status in (0, 1), done


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mean", "a half"), "--mean 'a half' is no number: write 0.5 or 0.485,0.456,0.406"),
        (("--std", "0.5,,0.5"), "--std '0.5,,0.5' is no number"),
        (("--std", "0"), "std must be positive"),
        (("--size", "32.5"), "--size '32.5' is no number: write 224 or 32,48"),
        (("--size", "28,28,1"), "size is one side in pixels or (height, width)"),
        (("--outputs", "scores"), "outputs is logits, probabilities, sigmoid, labels or auto, not 'scores'"),
        (("--labels", "no_such_file"), "--labels no_such_file: No such file or directory: give a file"),
        (("--output-name", "logits"), "lenet-mnist has one output: leave out --output-name"),
        (("--drop-background",), "lenet-mnist has 10 classes: --drop-background is for scores of 1001"),
    ],
)
def test_options_that_make_no_sense(cli: Cli, words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    line = cli.refuses("audit", "--model", "lenet-mnist", *DIGITS, *words, "--out", tmp_path / "out")
    assert says in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        ("a\n\nb\n", "line 2 is empty"),
        ("[1, 2]", "no list of names"),
        ('{"a": "b"}', "it is empty"),
        ("[", "no list of names"),
        ("a\nb\n", "lenet-mnist has 10 classes, but 2 labels were given"),
    ],
)
def test_files_that_hold_no_labels(cli: Cli, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(text)
    words = ("--model", "lenet-mnist", *DIGITS, "--labels", tmp_path / "labels", "--out", tmp_path / "out")
    assert says in cli.refuses("audit", *words)


def test_the_command_line_goes_before_the_configuration_file(cli: Cli, code: Path, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text(
        f'size = [28, 28]\nmean = 0.1\nstd = [0.5]\noutputs = "logits"\nlabels = {json.dumps(NAMES)}\n'
    )
    words = ("--model", f"{code}:model", "--config", tmp_path / "audit.toml", "--mean", "0.25")
    done = cli("audit", *words, *DIGITS, "--out", tmp_path / "report")
    assert done.status == 0, done
    record = reports.read(tmp_path / "report" / "report.json")
    assert (record.model.mean, record.model.std) == ([0.25], [0.5])


def test_own_code_that_fails_is_told_in_one_line(cli: Cli, code: Path, tmp_path: Path) -> None:
    line_number = 1 + CODE.splitlines().index('    raise RuntimeError("no weights here")')
    line = cli.refuses("audit", "--model", f"{code}:late", *DIGITS, "--out", tmp_path / "out")
    assert f"cannot be loaded (net.py:{line_number}: RuntimeError: no weights here)" in line
    line = cli.refuses("audit", "--model", f"{code}:Upside", *DIGITS, "--out", tmp_path / "out")
    assert "write a function that returns one" in line
