"""Gates: the conditions that decide whether a build passes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from robustkit.attacks.core.attack import Attack
from robustkit.auditing.journal import without_eps
from robustkit.checks import with_gates
from robustkit.errors import ConfigError
from robustkit.reports import AuditRecord, EpsPoint, Gate, Rate
from robustkit.reports.record.statistics import SAME_EPS

_HAIR = 1e-9  # 0.95 - 0.02 must not fail a build that measured 0.93


def check_baseline(
    baseline: AuditRecord,
    norm: str,
    data: str,
    samples: int,
    grid: Iterable[float],
    attacks: Sequence[Attack],
    target: str | None,
    adapt: bool = False,
) -> None:
    """Refuse, before the run, a baseline that it could not be compared with.

    Raises:
        ConfigError: another norm, other data, another number of samples, no ε in common, other attacks or another
            target, an incomplete audit, one that adapted its attacks where this run does not, or the reverse.
    """
    if baseline.status != "complete":
        raise ConfigError("the baseline's audit was interrupted: take a complete one")
    if baseline.norm != norm:
        raise ConfigError(f"the baseline was audited in {baseline.norm}, this run is in {norm}: use the same --norm")
    seen = len(baseline.samples.ids) + len(baseline.data.skipped)
    if baseline.data.name != data or samples not in (seen, len(baseline.samples.ids)):
        raise ConfigError(
            f"the baseline was audited on {len(baseline.samples.ids)} samples of {baseline.data.name}, this run is on "
            f"{samples} of {data}: use the same --data and --samples"
        )
    if not any(_at(baseline, eps) for eps in grid):
        raise ConfigError("the baseline has no eps in common with this run: use the same --eps")
    if adapt != (baseline.adapted is not None):
        how = "without --adapt, this run is with it" if adapt else "with --adapt, this run is without it"
        raise ConfigError(f"the baseline was audited {how}: run both alike, or make a new baseline")
    added = {answer.attack for answer in baseline.adapted.answers} if baseline.adapted is not None else set()
    named = [attack for place, attack in enumerate(baseline.attacks) if place not in added]
    before = [(attack.name, attack.parameters) for attack in named]
    now = [(attack.name, without_eps(attack)) for attack in attacks]
    if before != now:
        raise ConfigError(
            "the baseline was audited with other attacks or settings of them, so a weaker attack would pass for a "
            "stronger model: use the same --attack, or make a new baseline"
        )
    if baseline.target != target:
        raise ConfigError(f"the baseline's target was {baseline.target}, this run's is {target}: use the same --target")


def apply_gates(
    record: AuditRecord,
    floors: Mapping[float, tuple[str, float]],
    baseline: AuditRecord | None = None,
    max_drop: float = 0.0,
    strict: bool = False,
) -> AuditRecord:
    """The record with its gates, and with the check whether its samples are enough for them.

    Args:
        record: of a complete audit.
        floors: ε of its grid -> (ε as written, least robust accuracy in the worst case).
        baseline: an earlier record; clean accuracy and each ε that both have may fall by at most max_drop.
        strict: a failed check of the evaluation fails the build too.
    """
    gates = []
    for eps, (text, floor) in floors.items():
        point = _at(record, eps)
        if point is None:
            raise ConfigError(f"there is no robust accuracy at eps {text}: it is not in the audit's grid")
        name = f"robust accuracy at ε = {text} ≥ {floor:g}"
        gates.append(_gate(name, "fail-under", eps=eps, rate=point.robust, floor=floor))
    if baseline is not None:
        gates.append(_drop("clean accuracy", None, record.clean, baseline.clean, max_drop))
        for point in record.worst_case:
            old = _at(baseline, point.eps)
            if old is not None:
                what = f"robust accuracy at ε = {point.text}"
                gates.append(_drop(what, point.eps, point.robust, old.robust, max_drop))
    record = dataclasses.replace(record, gates=gates)
    record = dataclasses.replace(record, checks=with_gates(record))
    return dataclasses.replace(record, gates=[*gates, _trusted(record)]) if strict else record


def _trusted(record: AuditRecord) -> Gate:
    """A gate that passes where no check failed or raised, of those that have a meaning here."""
    made = [check for check in record.checks if check.status != "n/a"]
    failed = [check.id for check in made if check.status == "fail"]
    errors = [check.id for check in made if check.status == "error"]
    share = 1 - len(failed + errors) / len(made) if made else None
    detail = f"{len(failed)} of {len(made)} checks failed" + (f": {', '.join(failed)}" if failed else "")
    detail += f", {len(errors)} ended in an error: {', '.join(errors)}." if errors else "."
    return Gate(
        "no check of the evaluation fails",
        "strict",
        eps=None,
        measured=share,
        required=1.0,
        passed=bool(made) and not failed + errors,
        detail=detail,
    )


def _at(record: AuditRecord, eps: float) -> EpsPoint | None:
    return next((point for point in record.worst_case if abs(point.eps - eps) < SAME_EPS), None)


def _drop(what: str, eps: float | None, now: Rate, before: Rate, max_drop: float) -> Gate:
    floor = max(0.0, (before.value or 0.0) - max_drop)
    name = f"{what} at most {max_drop:g} below the baseline"
    more = f" The baseline had {_percent(before.value)}."
    return _gate(name, "baseline", eps=eps, rate=now, floor=floor, more=more)


def _gate(name: str, kind: str, *, eps: float | None, rate: Rate, floor: float, more: str = "") -> Gate:
    passed = rate.value is not None and rate.value >= floor - _HAIR
    detail = (
        f"{rate.count} of {rate.total} samples, {_percent(rate.value)} (95 % interval {_percent(rate.low)} to "
        f"{_percent(rate.high)}); at least {_percent(floor)} is needed.{more}"
    )
    return Gate(name, kind, eps=eps, measured=rate.value, required=floor, passed=passed, detail=detail)


def _percent(value: float | None) -> str:
    return "no figure" if value is None else f"{100 * value:.1f} %"
