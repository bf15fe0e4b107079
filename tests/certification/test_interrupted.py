"""A certification that breaks off: what was finished is a record that holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit import Bounds, Smoothing, certify
from robustkit.attacks import FGSM, PGD
from robustkit.checks import PREFLIGHT
from robustkit.errors import AuditFailed, AuditInterrupted
from robustkit.reports import AuditRecord
from robustkit.reports.page.certified_section import certificate

GRID = [0.1, 0.3, 0.9]
SMOOTH = Smoothing(sigma=0.25, draws=100, select=10, eot=2)
ROWS = 7


def network() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.rand(ROWS, 1, 4, 4, generator=generator), torch.randn(3, 16, generator=generator)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        net[1].weight.copy_(4 * w)
        net[1].bias.zero_()
    y = net(x).argmax(1)
    y[2] = (y[2] + 1) % 3
    return net, x, y


class Moments:
    """A watch that raises at its `last` call; it counts them."""

    def __init__(self, last: int | None) -> None:
        self.last, self.calls = last, 0

    def __call__(self, stage: str, done: int, total: int, queries: int) -> None:
        self.calls += 1
        if self.calls == self.last:
            raise KeyboardInterrupt


def run(how: Smoothing | Bounds, watch: Moments, checks: bool) -> AuditRecord:
    net, x, y = network()
    norm = "l2" if isinstance(how, Smoothing) else how.norm
    attacks = [FGSM(norm=norm), PGD(norm=norm, steps=2)]
    room = 4 if isinstance(how, Smoothing) else 2  # two samples at a time, of the smoothed one two copies each
    return certify(net, (x, y), how, GRID, attacks=attacks, batch_size=room, watch=watch, checks=checks)


@pytest.mark.parametrize("how", [SMOOTH, Bounds(method="ibp")], ids=lambda how: type(how).__name__)
@pytest.mark.parametrize("checks", [False, True])
def test_an_interrupt_leaves_what_was_finished(how: Smoothing | Bounds, checks: bool) -> None:
    counted = Moments(None)
    whole = run(how, counted, checks)
    assert whole.certified is not None
    seen = set()
    moments = (1, 2, 12, counted.calls // 2, counted.calls) if checks else range(1, counted.calls + 1, 3)
    for moment in moments:
        with pytest.raises(AuditInterrupted) as caught:
            run(how, Moments(moment), checks)
        record = caught.value.record
        if record is None:
            seen.add(0)
            continue
        assert AuditRecord.from_json(record.to_json()) == record
        count = len(record.samples.ids)
        seen.add(count)
        assert (record.status, record.verdict) == ("incomplete", "not checked")
        assert [check.id for check in record.checks] == [check.id for check in PREFLIGHT if checks]
        assert record.certified is not None
        assert record.certified.radii == whole.certified.radii[:count]
        assert record.samples.predictions == whole.samples.predictions[:count]
        for part, full in zip(record.attacks, whole.attacks, strict=True):
            assert part.distances[: part.judged] == full.distances[: part.judged]
    assert {0, ROWS} <= seen
    assert checks or seen == {0, 2, 4, 6, ROWS}


def test_a_false_certificate_is_told_by_a_run_that_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radii of a thousand: whatever an attack breaks in the first samples refutes them."""
    monkeypatch.setattr(Smoothing, "radius", lambda self, successes: 1000.0)
    counted = Moments(None)
    assert run(SMOOTH, counted, False).refuted
    with pytest.raises(AuditInterrupted) as caught:
        run(SMOOTH, Moments(counted.calls), False)
    record = caught.value.record
    assert record is not None
    assert record.refuted
    assert [(check.id, check.status) for check in record.checks] == [("certificate", "fail")]
    assert record.verdict == "do not trust"


def test_a_network_that_breaks_down_later_leaves_what_was_finished() -> None:
    net, x, y = network()
    calls = 0

    def falter(_: nn.Module, __: object, out: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return out * torch.nan if calls > 40 else out

    net.register_forward_hook(falter)
    with pytest.raises(AuditFailed, match="NaN") as caught:
        certify(net, (x, y), SMOOTH, GRID, attacks=[FGSM(norm="l2")], batch_size=64)
    record = caught.value.record
    assert record is not None
    assert record.attacks[0].judged == 0
    assert AuditRecord.from_json(record.to_json()) == record
    shown = certificate(record)
    assert shown is not None
    assert shown.sentence.endswith("are certain to be right; the run ended before any was attacked.")
