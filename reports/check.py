"""Do the figures of a record agree with each other? The schema sees each one alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from itertools import pairwise

from .record import AttackResult, AuditRecord, EpsPoint, Gate, Rate, Spread

_SLACK = 1e-9  # figures are recomputed in another order of operations


def contradiction(record: AuditRecord) -> str | None:
    """The first disagreement found, as half a sentence; None where there is none."""
    return next(_faults(record), None)


def _faults(record: AuditRecord) -> Iterator[str]:
    yield from _samples(record)
    if any(b <= a for a, b in pairwise(record.eps)):
        yield "the ε grid is not ascending"
    yield from _rate("clean accuracy", record.clean)
    yield from _spread("the clean confidence", record.clean_confidence)
    yield from _curve("the worst case", record, record.worst_case)
    yield from _spread("the worst-case distances", record.worst_distance)
    for attack in record.attacks:
        yield from _attack(record, attack)
    if not any(_columns_differ(record, attack) for attack in record.attacks):
        yield from _worst_case(record)
    if record.status == "complete":
        for gate in record.gates:
            yield from _gate(gate)


def _samples(record: AuditRecord) -> Iterator[str]:
    s = record.samples
    if len({len(c) for c in (s.ids, s.names, s.labels, s.predictions, s.confidences, s.distances)}) > 1:
        yield "the columns of samples differ in length"
        return
    if len(set(s.ids)) < len(s.ids):
        yield "a sample id occurs twice"
    right = sum(label == seen for label, seen in zip(s.labels, s.predictions, strict=True))
    if (record.clean.count, record.clean.total) != (right, len(s.ids)):
        yield (
            f"clean accuracy is {record.clean.count} of {record.clean.total}, the samples say {right} of {len(s.ids)}"
        )
    rows = zip(s.labels, s.predictions, s.distances, strict=True)
    if any(label != seen and distance != 0 for label, seen, distance in rows):
        yield "a sample that was wrong before any attack has a distance other than 0"


def _attack(record: AuditRecord, attack: AttackResult) -> Iterator[str]:
    who = attack.title[:60]
    if _columns_differ(record, attack):
        yield f"the columns of {who} differ in length from those of samples"
        return
    if attack.judged > len(record.samples.ids):
        yield f"{who} judged more samples than there are"
    if record.status == "complete" and attack.judged != len(record.samples.ids):
        yield f"the run is complete, yet {who} judged {attack.judged} of {len(record.samples.ids)} samples"
    yield from _curve(who, record, attack.curve)
    yield from _rate(f"the success rate of {who}", attack.success)
    if attack.targeted is not None:
        yield from _rate(f"the targeted success of {who}", attack.targeted)
    for name in ("distortion", "rms", "confidence_before", "confidence_after"):
        yield from _spread(f"{name} of {who}", getattr(attack, name))
    rows = zip(attack.distances, attack.rms_each, attack.predictions, attack.confidences, strict=True)
    if any(len({value is None for value in row}) > 1 for row in rows):
        yield f"a sample of {who} has a distance without a prediction, or the reverse"
    broken = sum(distance is not None for distance in attack.distances)
    if broken != attack.distortion.count:
        yield f"{who} broke {broken} samples, its distortions are over {attack.distortion.count}"


def _columns_differ(record: AuditRecord, attack: AttackResult) -> bool:
    columns = (attack.distances, attack.rms_each, attack.predictions, attack.confidences)
    return any(len(column) != len(record.samples.ids) for column in columns)


def _worst_case(record: AuditRecord) -> Iterator[str]:
    s = record.samples
    for i, (label, seen, distance) in enumerate(zip(s.labels, s.predictions, s.distances, strict=True)):
        if label != seen:
            continue
        found = [d for attack in record.attacks if (d := attack.distances[i]) is not None]
        if distance != min(found, default=None):
            yield f"the distance of sample {s.ids[i]} is not the smallest that the attacks found"
            return
    if record.status == "complete":
        for attack in record.attacks:
            for point, worst in zip(attack.curve, record.worst_case, strict=False):
                if worst.robust.count > point.robust.count:
                    yield f"at ε = {point.text[:20]} the worst case is better than {attack.title[:60]} alone"


def _curve(who: str, record: AuditRecord, curve: list[EpsPoint]) -> Iterator[str]:
    if [point.eps for point in curve] != record.eps:
        yield f"the curve of {who} is not over the ε grid of the audit"
    last: Rate | None = None
    for point in curve:
        yield from _rate(f"robust accuracy of {who} at ε = {point.text[:20]}", point.robust)
        yield from _rate(f"success of {who} at ε = {point.text[:20]}", point.success)
        if point.robust.count > record.clean.count or point.robust.total > record.clean.total:
            yield f"{who} keeps more samples right at ε = {point.text[:20]} than were right before"
        if last is not None and point.robust.total == last.total and point.robust.count > last.count:
            yield f"robust accuracy of {who} rises with ε at {point.text[:20]}"
        if record.status == "complete" and point.robust.total != record.clean.total:
            yield f"the run is complete, yet {who} at ε = {point.text[:20]} is not over every sample"
        last = point.robust


def _rate(who: str, rate: Rate) -> Iterator[str]:
    if rate.count > rate.total:
        yield f"{who} counts {rate.count} of {rate.total}"
        return
    want = Rate.of(rate.count, rate.total)
    for given, computed in zip(astuple(rate), astuple(want), strict=True):
        if (given is None) != (computed is None) or (given is not None and abs(given - computed) > _SLACK):
            yield f"{who} of {rate.count} in {rate.total} does not have the value or the interval it states"
            return


def _spread(who: str, spread: Spread) -> Iterator[str]:
    values = [getattr(spread, name) for name in ("min", "p10", "p25", "median", "p75", "p90", "max")]
    every = [*values, spread.mean]
    if any((value is None) != (spread.count == 0) for value in every):
        yield f"{who} are over {spread.count} samples, which their quantiles deny"
        return
    if spread.count == 0:
        return
    slack = _SLACK * max(1.0, values[-1])
    if any(b < a - slack for a, b in pairwise(values)):
        yield f"the quantiles of {who} do not ascend"
    elif not values[0] - slack <= every[-1] <= values[-1] + slack:
        yield f"the mean of {who} lies outside its range"


def _gate(gate: Gate) -> Iterator[str]:
    if gate.measured is None:
        if gate.passed:
            yield f"gate “{gate.name[:80]}” passed without a measurement"
    elif (gate.measured >= gate.required) != gate.passed and abs(gate.measured - gate.required) > _SLACK:
        yield f"gate “{gate.name[:80]}” says the opposite of what it measured"
