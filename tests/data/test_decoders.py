"""Decoding in processes: the same batches and the same reasons however many there are, and none that stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import robustkit
from robustkit import audit, load_data
from robustkit.attacks import FGSM
from robustkit.data import dataset, decoders
from robustkit.data.decoders import Decoders, decoder_count
from robustkit.data.pixels import Preprocess, read_pixels
from robustkit.errors import AuditFailed, DataError, RobustkitError
from robustkit.models.load import LoadedModel, ModelSource

COUNT = 24
FIT = Preprocess((8, 8), 3)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight pictures in turn, grey, of colour and with transparency, two of them broken."""
    root = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for number in range(COUNT):
        folder = root / "abc"[number % 3]
        folder.mkdir(exist_ok=True)
        file = folder / f"{number // 3:02d}.{'jpg' if number % 2 else 'png'}"
        mode = ("RGB", "RGB", "RGBA", "L")[number % 4]
        shape = (11 + number, 17) if mode == "L" else (11 + number, 17, len(mode))
        Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(file)
    (root / "b" / "00.jpg").write_text("no picture")
    (root / "a" / "04.png").write_bytes((root / "a" / "04.png").read_bytes()[:60])
    return root


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Process ids of the decoders that were started."""
    made: list[int] = []

    class Told(decoders._Decoder):
        def __init__(self) -> None:
            super().__init__()
            made.append(self.process.pid)

    monkeypatch.setattr(decoders, "_Decoder", Told)
    return made


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(dataset, "decoder_count", lambda device: count)


@pytest.fixture
def placed(stand: Any) -> Any:
    model = stand()
    model.device = torch.device("cpu")
    return model


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read(root: Path, model: Any, samples: int | None = None) -> tuple[list[Any], list[tuple[str, str]]]:
    data = load_data(root)
    return list(data.batches(model, 5, samples)), data.skipped


@pytest.mark.parametrize("samples", [None, 1, 7])
@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_processes_reads_the_same(photographs, placed, several, started, count, samples) -> None:
    several(0)
    theirs, reasons = read(photographs, placed, samples)
    assert not started
    several(count)
    ours, skipped = read(photographs, placed, samples)
    assert 1 <= len(started) <= count
    assert not any(runs(pid) for pid in started)
    assert skipped == reasons
    assert [name for name, _ in skipped] == (
        ["b/00.jpg", "a/04.png"] if samples is None else ["b/00.jpg"][: samples - 1]
    )
    assert sum(len(batch) for batch in ours) == (COUNT - 2 if samples is None else samples)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.x, other.x)
        assert one.x.dtype == torch.float32
        assert one.x.is_contiguous()
        assert torch.equal(one.y, other.y)
        assert torch.equal(one.ids, other.ids)
        assert one.names == other.names


def test_what_is_no_file_needs_no_process(placed, several, started) -> None:
    several(3)
    placed.preprocess, placed.num_classes = Preprocess((28, 28), 1), 10
    assert len(next(load_data("mnist-samples").batches(placed, 5))) == 5
    assert not started


def test_a_gpu_is_fed_by_several_and_the_cpu_by_none(monkeypatch) -> None:
    for cores, count in ((None, 1), (2, 2), (64, 8)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert (decoder_count("cpu"), decoder_count("cuda")) == (0, count)


@pytest.mark.parametrize("how", ["closed", "interrupted"])
def test_whoever_stops_early_leaves_no_process(photographs, placed, several, started, how) -> None:
    several(2)
    batches = load_data(photographs).batches(placed, 4)
    next(batches)
    assert started
    if how == "closed":
        batches.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)
    assert not any(runs(pid) for pid in started)


def test_one_that_dies_is_told_in_a_line(photographs, tmp_path, monkeypatch, started) -> None:
    file = photographs / "a" / "00.png"
    with Decoders() as pool:
        assert np.array_equal(pool.read(file, FIT), read_pixels(file, FIT))
        os.kill(started[0], signal.SIGKILL)
        with pytest.raises(
            RobustkitError, match=r"^[^\n]*00.png: the process that decodes it ended with status -9: "
        ) as caught:
            pool.read(file, FIT)
        assert not isinstance(caught.value, DataError)
        # The next one is given to another.
        assert np.array_equal(pool.read(file, FIT), read_pixels(file, FIT))
        assert len(started) == 2
    assert not any(runs(pid) for pid in started)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with Decoders() as pool, pytest.raises(RobustkitError, match=r"no process to decode pictures can be started"):
        pool.read(file, FIT)


def test_an_audit_whose_decoder_dies_keeps_what_it_has(photographs, several, started) -> None:
    several(1)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
    model = LoadedModel("mean", ModelSource(net, "mean", FIT, labels=["a", "b", "c"], classes=3))
    seen = 0

    def watch(stage: str, done: int, total: int, gradients: int) -> None:
        nonlocal seen
        if stage == "clean accuracy" and not seen:
            seen = 1
            os.kill(started[0], signal.SIGKILL)

    with pytest.raises(AuditFailed, match=r"^[^\n]*: the process that decodes it ended with status -9") as caught:
        audit(model, load_data(photographs), [FGSM()], [0.1], batch_size=4, watch=watch)
    assert caught.value.record is not None
    assert caught.value.record.status == "incomplete"


def test_a_process_ends_with_its_parent(photographs) -> None:
    script = (
        "import sys, time; from pathlib import Path; from robustkit.data.decoders import Decoders; "
        "from robustkit.data.pixels import Preprocess\n"
        "pool = Decoders(); pool.read(Path(sys.argv[1]), Preprocess((8, 8))); "
        "print(pool._idle[0].process.pid, flush=True); time.sleep(60)"
    )
    file = photographs / "a" / "00.png"
    where = {**os.environ, "PYTHONPATH": str(Path(robustkit.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", script, file], stdout=subprocess.PIPE, text=True, env=where) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.kill()
    end = time.monotonic() + 300  # one that hangs
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not runs(pid)


def test_a_process_needs_no_torch() -> None:
    code = "import sys, robustkit.data.decoders; print('torch' in sys.modules)"
    where = {**os.environ, "PYTHONPATH": str(Path(robustkit.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=where).stdout == "False\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gets_the_same_pictures_from_pinned_memory(photographs, placed, started) -> None:
    theirs, reasons = read(photographs, placed)
    placed.device = torch.device("cuda")
    ours, skipped = read(photographs, placed)
    assert started
    assert skipped == reasons
    for one, other in zip(ours, theirs, strict=True):
        assert one.x.is_pinned()
        assert torch.equal(one.x.to("cuda", non_blocking=True).cpu(), other.x)
