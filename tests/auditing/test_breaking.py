"""An audit that breaks off, bad arguments, and what an audit leaves behind."""

from __future__ import annotations

import gc
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from audit_tools import Counting, lenet, plane
from torch import Tensor, nn

from robustkit import audit, load_data, reports
from robustkit.attacks import FGSM, LBFGS, PGD, Classifier
from robustkit.auditing import columns, journal, results, worker
from robustkit.auditing import run as auditor
from robustkit.data.dataset import Sample
from robustkit.data.load import Data
from robustkit.errors import AuditFailed, AuditInterrupted, ConfigError, DataError, ModelError

ROWS = 12


def raises(error: BaseException) -> Callable[[Tensor], Tensor]:
    def fail(out: Tensor) -> Tensor:
        raise error

    return fail


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (lambda out: out * math.nan, "the model returned NaN"),
        (lambda out: (out, out), "the model returned a tuple"),
        (lambda out: out[:, :1], "at least two classes"),
        (raises(RuntimeError("out of\n memory")), "^out of memory$"),
        (raises(KeyError("layer")), "layer"),
        (raises(MemoryError()), "^MemoryError$"),
    ],
)
def test_a_model_that_breaks_down_later_leaves_what_was_finished(
    fail: Callable[[Tensor], Tensor], reason: str, tmp_path: Path
) -> None:
    given = plane(ROWS)
    net = Counting(given.net, after=20, fail=fail)
    with pytest.raises(AuditFailed, match=reason) as caught:
        audit(net, (given.x, given.y), [FGSM(), PGD(steps=6)], [0.003, 0.05], batch_size=4)
    record = caught.value.record
    assert record is not None
    assert record.status == "incomplete"
    assert 0 < len(record.samples.ids) < ROWS
    assert reports.AuditRecord.from_json(record.to_json()) == record
    page = reports.write(record, tmp_path / "report").read_text("utf-8")
    assert "incomplete" in page.lower()


@pytest.mark.parametrize("fail", [lambda out: out * math.nan, lambda out: (out, out), raises(RuntimeError("boom"))])
def test_a_model_that_answers_nothing_leaves_no_record(fail: Callable[[Tensor], Tensor]) -> None:
    given = plane(ROWS)
    for after in (0, 1):  # while the classes are counted, and on the first batch
        with pytest.raises((ModelError, AuditFailed), match=r"NaN|tuple|boom") as caught:
            audit(Counting(given.net, after=after, fail=fail), (given.x, given.y), [FGSM()], [0.05])
        assert "\n" not in str(caught.value)
        assert getattr(caught.value, "record", None) is None


def test_an_interrupt_leaves_what_was_finished(tmp_path: Path) -> None:
    given = plane(ROWS)
    calls = 0

    def watch(stage: str, done: int, total: int, gradients: int) -> None:
        nonlocal calls
        assert 0 <= done <= total == ROWS
        assert gradients >= 0
        calls += stage.startswith("PGD") and done == 8
        if calls == 5:
            raise KeyboardInterrupt

    with pytest.raises(AuditInterrupted) as caught:
        audit(given.net, (given.x, given.y), [FGSM(), PGD(steps=9)], [0.01], batch_size=4, watch=watch)
    record = caught.value.record
    assert record is not None
    assert record.status == "incomplete"
    assert [result.judged for result in record.attacks] == [12, 8]
    assert (record.clean.total, record.worst_case[0].robust.total) == (12, 8)
    whole = audit(given.net, (given.x, given.y), [FGSM(), PGD(steps=9)], [0.01], batch_size=4)
    for part, full in zip(record.attacks, whole.attacks, strict=True):
        assert part.distances[: part.judged] == full.distances[: part.judged]
    assert reports.read(reports.write(record, tmp_path).parent / "report.json") == record


def test_an_interrupt_at_any_line_leaves_a_record_that_holds() -> None:
    """Ctrl-C may come between any two lines, columns half appended included."""
    given = plane(4, wrong=1)
    files = {module.__file__ for module in (auditor, worker, journal, results, columns)}
    before, left = sys.gettrace(), 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(before)
                raise KeyboardInterrupt
        return trace

    def run() -> None:
        # The first thing watched is the reading of the pictures: from there on an interrupt must cost nothing.
        watching = lambda stage, *_: sys.settrace(trace) if stage == "reading the pictures" else None  # noqa: E731
        audit(
            given.net,
            (given.x, given.y),
            [FGSM(), LBFGS(steps=1, searches=1, candidates=1)],
            [0.01, 0.3],
            watch=watching,
        )

    none, kept = 0, []
    for moment in range(1, 100_000):
        left = moment
        try:
            run()
        except AuditInterrupted as stopped:
            if stopped.record is None:
                none += 1
            else:
                kept.append(stopped.record)
        else:
            break
        finally:
            sys.settrace(before)
    assert none > 5
    assert len(kept) > 100
    assert {reports.AuditRecord.from_json(record.to_json()).status for record in kept} == {"incomplete"}


class Drawn(Data):
    """Pictures drawn as they are asked for."""

    def __init__(self, count: int) -> None:
        super().__init__("drawn", "drawn pictures")
        self.count = count

    def __len__(self) -> int:
        return self.count

    def resolve(self, model: Any) -> Callable[[], Iterator[Sample]]:
        def one(number: int) -> tuple[Tensor, int]:
            return torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(number)), 8

        return lambda: (Sample(str(number), lambda number=number: one(number)) for number in range(self.count))


def live_values() -> int:
    """Values held in tensors that anybody can reach."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(each.numel() for each in gc.get_objects() if type(each) is Tensor)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    model = lenet()

    def most(count: int) -> int:
        peaks = [0]

        def watch(stage: str, done: int, total: int, gradients: int) -> None:
            # Once a batch, late in the run.
            if stage == "clean accuracy" and done >= count - 40:
                peaks.append(live_values())

        record = audit(model, Drawn(count), [FGSM()], [0.3], batch_size=20, watch=watch, out=tmp_path)
        assert len(record.samples.ids) == count
        assert record.clean.count > count / 10
        return max(peaks)

    few, many = most(200), most(5000)
    assert few > 20 * 784
    assert many < few + 25 * 784  # 4,800 samples more; the next 20 may be there already


@pytest.mark.parametrize("training", [True, False])
def test_a_bare_module_is_left_as_it_was(training: bool) -> None:
    given = plane(ROWS)
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), *given.net).train(training)
    net[3].bias.requires_grad_(False)
    net[3].weight.grad = torch.ones_like(net[3].weight)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    x, y = given.x.clone(), given.y.clone()
    runs = [audit(net, (x, y), [PGD(steps=2), LBFGS(steps=2)], [0.05]) for _ in range(2)]
    assert [module.training for module in net] == [training] * len(net)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [True, True, True, False]
    assert torch.equal(net[3].weight.grad, torch.ones_like(net[3].weight))
    assert not net._forward_hooks
    assert torch.equal(x, given.x)
    assert torch.equal(y, given.y)
    assert runs[0].worst_case == runs[1].worst_case  # dropout was off


def test_a_listener_of_the_users_is_put_back() -> None:
    model = lenet()
    told: list[int] = []
    model.listener = lambda: told.append(1)
    mine = model.listener
    audit(model, load_data("mnist-samples"), [FGSM()], [0.1], samples=2)
    assert model.listener is mine


def test_a_classifier_with_normalisation_is_audited_in_pixels() -> None:
    given = plane(ROWS)
    inside = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():  # the same function of pixels, once (x - 0.5) / 0.25 comes before it
        inside[1].weight.copy_(given.net[1].weight * 0.25)
        inside[1].bias.copy_(given.net[1].bias + 0.5 * given.net[1].weight.sum(1))
    bare = audit(given.net, (given.x, given.y), [FGSM()], [0.005, 0.02])
    folded = audit(Classifier(inside, mean=0.5, std=0.25), (given.x, given.y), [FGSM()], [0.005, 0.02])
    assert [p.robust for p in folded.worst_case] == [p.robust for p in bare.worst_case]
    assert 0 < bare.worst_case[1].robust.count < bare.worst_case[0].robust.count
    assert (folded.model.mean, folded.model.std) == ([0.5], [0.25])


GIVEN = plane(4)
PAIR = (GIVEN.x, GIVEN.y)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"attacks": []}, ConfigError, "at least one attack"),
        ({"attacks": [FGSM]}, ConfigError, "at least one attack"),
        ({"attacks": ["pgd"]}, ConfigError, "at least one attack"),
        ({"attacks": [FGSM(), PGD(norm="l2")]}, ConfigError, "one norm"),
        ({"norm": "l2"}, ConfigError, "an attack works in linf"),
        ({"norm": "l3", "attacks": [LBFGS()]}, ConfigError, "norm is one of linf, l2, l1"),
        ({"eps": []}, ConfigError, "eps is empty"),
        ({"eps": [0.0]}, ConfigError, "positive"),
        ({"eps": [-0.1]}, ConfigError, "positive"),
        ({"eps": [math.nan]}, ConfigError, "positive"),
        ({"eps": [math.inf]}, ConfigError, "positive"),
        ({"eps": [2.0]}, ConfigError, "at most 1"),
        ({"eps": 0.1}, ConfigError, "list of numbers"),
        ({"eps": "4/255"}, ConfigError, "list of numbers"),
        ({"eps": ["4/255"]}, ConfigError, "list of numbers"),
        ({"eps": [True]}, ConfigError, "list of numbers"),
        ({"eps": None}, ConfigError, "list of numbers"),
        ({"samples": 0}, ConfigError, "samples"),
        ({"samples": 1.5}, ConfigError, "samples"),
        ({"batch_size": 0}, ConfigError, "batch_size"),
        ({"batch_size": 2**63}, ConfigError, "batch_size"),
        ({"seed": -1}, ConfigError, "seed"),
        ({"seed": 2**63}, ConfigError, "seed"),
        ({"target": 2}, ConfigError, "target 2 is not a class"),
        ({"target": -1}, ConfigError, "no class called '-1'"),
        ({"target": "gibbon"}, ConfigError, "no class called 'gibbon'"),
        ({"target": "²"}, ConfigError, "no class called '²'"),
        ({"data": "mnist-samples"}, ConfigError, "pair"),
        ({"data": GIVEN.x}, ConfigError, "pair"),
        ({"data": (GIVEN.x,)}, ConfigError, "pair"),
        ({"data": (GIVEN.x.numpy(), GIVEN.y)}, ConfigError, "pair"),
        ({"data": (GIVEN.x[:0], GIVEN.y[:0])}, DataError, "."),
        ({"data": (GIVEN.x[0], GIVEN.y)}, DataError, "."),
        ({"data": (GIVEN.x * 255, GIVEN.y)}, DataError, r"scale it to \[0,1\]"),
        ({"data": ((GIVEN.x * 255).to(torch.uint8), GIVEN.y)}, DataError, "."),
        ({"data": (GIVEN.x * math.nan, GIVEN.y)}, DataError, "NaN"),
        ({"data": (GIVEN.x, GIVEN.y[:2])}, DataError, "."),
        ({"data": (GIVEN.x, GIVEN.y + 1)}, DataError, "class 2 of sample 1"),
        ({"data": (GIVEN.x, GIVEN.y.float())}, DataError, "."),
        ({"data": (GIVEN.x[:, :, :3], GIVEN.y)}, ModelError, "does not take pictures of 1×3×4"),
        ({"model": "lenet-mnist"}, ValueError, "torch.nn.Module"),
        ({"model": nn.Identity()}, ModelError, "logits of shape"),
        ({"model": GIVEN.net, "data": load_data("mnist-samples")}, ConfigError, "must come from load_model"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(change: dict[str, Any], kind: type[Exception], reason: str) -> None:
    good: dict[str, Any] = {"model": GIVEN.net, "data": PAIR, "attacks": [FGSM()], "eps": [0.1]}
    with pytest.raises(kind, match=reason) as caught:
        audit(**{**good, **change})
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_grids_of_numpy_and_repeated_eps_are_taken() -> None:
    record = audit(GIVEN.net, PAIR, [FGSM()], np.linspace(0.3, 0.1, 3))
    assert record.eps == pytest.approx([0.1, 0.2, 0.3])
    assert audit(GIVEN.net, PAIR, [FGSM()], (eps for eps in (0.2, 0.1, 0.2))).eps == [0.1, 0.2]
    assert audit(GIVEN.net, PAIR, [FGSM()], {8 / 255: "8/255"}).worst_case[0].text == "8/255"
