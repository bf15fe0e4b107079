"""A linear model whose exact distances are known, and the command line as a shell runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.models.load import LoadedModel
from robustkit.reports import AuditRecord, read

DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
QUICK = ("audit", "--model", "lenet-mnist", "--samples", "4", "--attack", "fgsm", "--eps", "0.1,0.3", "--device", "cpu")


class Plane(NamedTuple):
    """Two classes, margin w·x + b, in the middle of the box: the distance to the boundary is |w·x + b| / ‖w‖*."""

    net: nn.Module
    x: Tensor  # [N, 1, 4, 4]
    y: Tensor
    w: Tensor
    margins: Tensor  # of the true class; negative where the clean prediction is wrong

    def distances(self, norm: str) -> Tensor:
        return self.margins / torch.linalg.vector_norm(self.w, DUAL[norm])


def plane(rows: int, *, even: bool = False, wrong: int = 3, seed: int = 0) -> Plane:
    """`even`: all weights ± the same number, so that the smallest change in L2 is the smallest in L∞ and L1 too."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(16, generator=generator)
    if even:
        w = w.sign() * 0.5
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    sizes = 0.04 * 1.3 ** torch.arange(rows)  # of the margins
    y = torch.arange(rows) % 2
    signed = sizes * (1 - 2.0 * y)
    signed[:: max(1, rows // wrong)][:wrong] *= -1
    x = 0.5 + 0.05 * (torch.rand(rows, 16, generator=generator) - 0.5)
    bias = -0.5 * float(w.sum())
    x = x + ((signed - (x @ w + bias)) / (w @ w))[:, None] * w
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([w, -w]) / 2)
        net[1].bias.copy_(torch.tensor([bias, -bias]) / 2)
    margins = (x.double() @ w.double() + bias) * (1 - 2 * y)
    return Plane(net, x.view(rows, 1, 4, 4), y, w.double(), margins)


class Counting(nn.Module):
    """Counts the samples that go through it, and those that a gradient comes back to; can fail on the way."""

    def __init__(
        self, net: nn.Module, after: int | None = None, fail: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.net, self.after, self.fail = net, after, fail
        self.calls = self.forwards = self.backwards = 0
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.forwards += len(x)
        self.seen.append(x.detach().clone())
        out: Tensor = self.net(x)
        if out.requires_grad:
            out.register_hook(self._back)
        if self.fail is not None and self.after is not None and self.calls > self.after:
            return self.fail(out)
        return out

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


class Cli:
    """robustkit in processes of their own, with real exit statuses; never with a traceback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        server = [sys.executable, str(Path(__file__).with_name("audit_fork_server.py"))]
        pipe = subprocess.PIPE
        self.server = subprocess.Popen(server, cwd=folder, env=_environment(), stdin=pipe, stdout=pipe, text=True)

    def close(self) -> None:
        self.server.communicate(timeout=600)

    def __call__(self, *words: str | Path) -> Done:
        """A fork of an interpreter that has torch imported already."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        files = [self.folder / name for name in ("stdout", "stderr")]
        print(json.dumps([[*map(str, words)], *map(str, files)]), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        done = Done(status, *(file.read_text("utf-8") for file in files))
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *words: str | Path, **extra: str) -> subprocess.Popen[str]:
        """A fresh interpreter, running."""
        command = [sys.executable, "-m", "robustkit", *map(str, words)]
        env, pipe = {**_environment(), **extra}, subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=env, stdout=pipe, stderr=pipe, text=True)

    def refuses(self, *words: str | Path, status: int = 2) -> str:
        """The one line with which these words are refused."""
        done = self(*words)
        assert done.status == status, done
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("robustkit: "), lines
        assert "defect" not in lines[0], lines
        assert not done.stdout
        return lines[0]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def lenet() -> LoadedModel:
    return load_model("lenet-mnist", device="cpu")


class Digits(NamedTuple):
    folder: Path
    files: list[Path]


def make_digits(folder: Path) -> Digits:
    model = lenet()
    batch = next(load_data("mnist-samples").batches(model, 40))
    right = model.logits(batch.x).argmax(1) == batch.y
    files = []
    for digit in range(10):
        row = int(((batch.y == digit) & right).nonzero()[0])
        path = folder / str(digit) / f"digit {digit}.png"
        path.parent.mkdir()
        Image.fromarray((batch.x[row, 0] * 255).round().to(torch.uint8).numpy()).save(path)
        files.append(path)
    return Digits(folder, files)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wait_for(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines on standard error up to the first that holds `words`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(lines)


def interrupted(process: subprocess.Popen[str], out: Path) -> AuditRecord:
    """Check what a command left that a signal ended: status 3, one line, the partial report and nothing hidden."""
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 3, stderr
    assert [line for line in stderr.splitlines() if not line.startswith("[")] == [
        f"robustkit: interrupted; what was finished is in {out / 'index.html'}, marked incomplete"
    ]
    assert "incomplete: the audit broke off" in stdout
    assert "the run is incomplete" in (out / "index.html").read_text("utf-8")
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []
    record = read(out / "report.json")
    assert record.status == "incomplete"
    return record


def read_png(path: Path) -> Tensor:
    with Image.open(path) as file:
        array = np.asarray(file, dtype=np.float32) / 255
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())
