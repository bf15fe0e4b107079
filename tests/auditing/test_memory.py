"""An audit in little memory: batches that do not fit are halved, and no picture is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from audit_tools import Cli, lenet, plane
from torch import Tensor, nn

from robustkit import audit, load_data
from robustkit.attacks import FGSM, LBFGS, PGD, Attack, Corruption, Square, Universal
from robustkit.attacks.model.classifier import Classifier
from robustkit.errors import AuditFailed
from robustkit.models.memory import HalvingBatch
from robustkit.reports import AuditRecord

ROWS = 13
FAILURES: dict[str, Callable[[], Exception]] = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError,
}


class Small(nn.Module):
    """Room for `most` rows going forward, and for `back` of them coming back."""

    def __init__(self, net: nn.Module, most: int, back: int | None = None, kind: str = "gpu") -> None:
        super().__init__()
        self.net, self.most, self.back, self.kind = net, most, most if back is None else back, kind
        self.asked: list[int] = []
        self.failed = 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        if len(x) > (self.back if x.requires_grad else self.most):
            self.failed += 1
            raise FAILURES[self.kind]()
        out: Tensor = self.net(x)
        return out


class ByRow(nn.Module):
    """The plane's network, summed in an order that the size of the batch does not change, to the last bit."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.last = net[1]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (x.flatten(1)[:, None] * self.last.weight).sum(2) + self.last.bias
        return out


def figures(record: AuditRecord) -> AuditRecord:
    """The record without what two runs of the same audit may differ in."""
    run = replace(record.run, created="", seconds=0.0, batch_size=1)
    attacks = [replace(attack, seconds=0.0) for attack in record.attacks]
    return replace(record, run=run, attacks=attacks, model=replace(record.model, name="", title="", digest=""))


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize(("most", "back"), [(ROWS, 6), (9, 3), (1, 1)])
def test_what_does_not_fit_is_done_again_in_halves(kind: str, most: int, back: int) -> None:
    given = plane(ROWS)
    attacks = [FGSM(), PGD(steps=3, restarts=2), LBFGS(steps=2, searches=2), Square(norm="linf", queries=20)]

    def run(net: nn.Module) -> AuditRecord:
        return audit(net, (given.x, given.y), attacks, [0.004, 0.01, 0.02], batch_size=ROWS)

    net = Small(ByRow(given.net), most, back, kind)
    whole, halved = run(ByRow(given.net)), run(net)
    assert whole.run.batch_size == ROWS
    assert 1 <= halved.run.batch_size <= back
    # Queries included: what an attempt that failed had asked is no cost of the attack.
    assert figures(halved) == figures(whole)
    assert 1 <= net.failed <= 5  # 13, 6, 3, 1: once halved it stays so


def test_the_halves_keep_targets_variants_and_surrogates_together() -> None:
    model = lenet()
    batch = next(load_data("mnist-samples").batches(model, ROWS))
    attacks: Sequence[Attack] = [PGD(steps=2), Corruption(kind="contrast")]

    def run(most: int) -> AuditRecord:
        net = Classifier(Small(model.net, most), labels=model.labels)
        return audit(net, (batch.x, batch.y), attacks, [0.1, 0.3], target=3, surrogates=[lenet()], batch_size=ROWS)

    whole, halved = run(ROWS), run(4)
    assert (whole.run.batch_size, halved.run.batch_size) == (ROWS, 3)
    assert whole.attacks[1].cells
    assert whole.attacks[0].targeted is not None
    assert whole.transfer
    assert halved.transfer == whole.transfer
    for one, other in zip(whole.attacks, halved.attacks, strict=True):
        assert other.predictions == one.predictions
        assert other.curve == one.curve
        assert other.cells == one.cells
        assert other.targeted == one.targeted
        assert (other.forwards, other.backwards) == (one.forwards, one.backwards)


def test_one_change_for_all_is_sought_in_smaller_batches() -> None:
    given = plane(ROWS)
    net = Small(given.net, 5)
    record = audit(net, (given.x, given.y), [Universal(epochs=3, batch=4)], [0.01, 0.02], batch_size=ROWS)
    assert record.status == "complete"
    assert record.run.batch_size == 3
    assert net.failed == 2
    # Half of the samples lie on one side of the plane, and a step towards it serves them all.
    assert record.attacks[0].success.count >= 2


def test_a_single_sample_that_does_not_fit_is_the_error() -> None:
    given = plane(ROWS)
    net = Small(given.net, ROWS, 0)
    with pytest.raises(AuditFailed, match="out of memory") as caught:
        audit(net, (given.x, given.y), [FGSM()], [0.01], batch_size=8)
    assert caught.value.record is not None
    assert caught.value.record.status == "incomplete"
    assert [rows for rows in net.asked if rows < 8][-1] == 1


def test_another_failure_is_not_taken_for_it() -> None:
    given = plane(ROWS)
    asked = []

    def broken(x: Tensor) -> Tensor:
        asked.append(len(x))
        if len(x) > 1:
            raise RuntimeError("shapes cannot be multiplied")
        return given.net(x)

    with pytest.raises(AuditFailed, match="cannot be multiplied"):
        audit(broken, (given.x, given.y), [Square(norm="linf", queries=2)], [0.01], batch_size=8)
    assert asked == [1, 8]


def test_the_layout_is_not_blamed_for_it() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 2))
    model = Classifier(Small(net, 4, kind="cpu"))
    with pytest.raises(RuntimeError, match="allocate"):
        model.logits(torch.rand(8, 1, 4, 4))
    assert model.layout.wanted
    assert model.net.asked == [8]


def test_parts_cover_the_rows_in_order() -> None:
    for total in range(6):
        for most in range(1, 7):
            batch = HalvingBatch(6)

            def work(part: slice, most: int = most) -> list[int]:
                if part.stop - part.start > most:
                    raise MemoryError
                return list(range(part.start, part.stop))

            parts = batch.parts(total, work)
            assert [row for part in parts for row in part] == list(range(total))
            assert len(parts) >= 1
            assert batch.rows <= most or total <= most


def test_batch_size_takes_auto_or_a_number(cli: Cli) -> None:
    words = ("audit", "--model", "lenet-mnist", "--attack", "fgsm", "--eps", "0.1", "--samples", "2", "--out", "sizes")
    assert cli(*words, "--batch-size", "auto").status == 0
    assert "batch-size" in cli.refuses(*words, "--batch-size", "much")
    assert "batch-size" in cli.refuses(*words, "--batch-size", "0")


_PROGRAM = """
import resource, sys, torch
from robustkit import audit
from robustkit.attacks import FGSM
from robustkit.data.dataset import Data, Sample
from robustkit.models.memory import keep_freed
from robustkit.models.load import LoadedModel, ModelSource, Preprocess

keep_freed()
torch.set_num_threads(1)
torch.manual_seed(0)

class Drawn(Data):
    def __len__(self):
        return int(sys.argv[1])

    def resolve(self, model):
        def one(number):
            return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(number)), number % 2

        return lambda: (Sample(str(n), lambda n=n: one(n)) for n in range(len(self)))

net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 2))
model = LoadedModel("tiny", ModelSource(net, "tiny", Preprocess((16, 16), 3), classes=2))
record = audit(model, Drawn("drawn", "drawn"), [FGSM()], [0.01])
assert len(record.samples.ids) == len(Drawn("", ""))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is the system's own")
def test_50_000_samples_need_no_more_memory_than_500() -> None:
    def peak(samples: int) -> int:
        """MiB"""
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _PROGRAM, str(samples)]
        return int(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)

    few, many = peak(500), peak(50_000)
    # The pictures alone are 146 MiB; the record's columns, as Python's numbers, are what is left.
    assert many - few < 40, (few, many)
