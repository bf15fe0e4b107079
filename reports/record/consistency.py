"""Consistency of a record: its figures against each other, where the schema sees each one alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from itertools import pairwise

from .adaptation_steps import steps_of
from .content import Content
from .parts import Adapted, AttackResult, Certified, EpsPoint, Gate, Transfer
from .statistics import Rate, Spread

_SLACK = 1e-9  # figures are recomputed in another order of operations


def contradiction(record: Content) -> str | None:
    """Find the first disagreement, as half a sentence; None where there is none."""
    return next(_faults(record), None)


def _faults(record: Content) -> Iterator[str]:
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
    for transfer in record.transfer:
        yield from _transfer(record, transfer)
    if record.status == "complete":
        for gate in record.gates:
            yield from _gate(gate)
    yield from _checks(record)
    if record.certified is not None:
        yield from _certified(record, record.certified)
    if record.adapted is not None:
        yield from _adapted(record, record.adapted)


def _samples(record: Content) -> Iterator[str]:
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


def _attack(record: Content, attack: AttackResult) -> Iterator[str]:
    who = attack.title[:60]
    if _columns_differ(record, attack):
        yield f"the columns of {who} differ in length from those of samples"
        return
    if attack.judged > len(record.samples.ids):
        yield f"{who} judged more samples than there are"
    if record.status == "complete" and attack.judged != len(record.samples.ids):
        yield f"the run is complete, yet {who} judged {attack.judged} of {len(record.samples.ids)} samples"
    if attack.kind == "free":
        if attack.curve or attack.own_norm:
            yield f"no norm measures {who}, yet it has a norm or a curve over ε"
    elif not attack.own_norm:
        yield f"{who} works in no norm"
    else:
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
    yield from _queries(who, record, attack)
    if len({(cell.variant, cell.level) for cell in attack.cells}) < len(attack.cells):
        yield f"{who} has two figures for one variant and level"
    for cell in attack.cells:
        name = f"{who}, {cell.variant[:40]} at level {cell.level[:20]},"
        yield from _rate(name, cell.broken)
        if cell.broken.total != attack.success.total:
            yield f"{name} is over {cell.broken.total} samples, its success over {attack.success.total}"


def _queries(who: str, record: Content, attack: AttackResult) -> Iterator[str]:
    """Compare the queries until a sample broke with the counts of the curve they end at."""
    if not attack.arrived:
        return
    if len(attack.arrived) != len(attack.curve) or {len(c) for c in attack.arrived} != {len(record.samples.ids)}:
        yield f"the queries of {who} are not a column of samples for each ε"
        return
    for column, point in zip(attack.arrived, attack.curve, strict=True):
        if any(q is not None and d is None for q, d in zip(column, attack.distances, strict=True)):
            yield f"{who} has queries at ε = {point.text[:20]} for a sample it did not break"
        broken = sum(q is not None for q in column)
        if broken != point.success.count:
            yield f"{who} broke {point.success.count} samples at ε = {point.text[:20]}, its queries are for {broken}"
    for smaller, larger in pairwise(attack.arrived):
        if any(a is not None and (b is None or b > a) for a, b in zip(smaller, larger, strict=True)):
            yield f"{who} takes more queries to break a sample within a larger ε than within a smaller one"


def _certified(record: Content, certified: Certified) -> Iterator[str]:
    s, radii = record.samples, certified.radii
    who = f"the certificate by {certified.title[:60]}"
    if len(radii) != len(s.ids) or len(certified.curve) != len(record.eps):
        yield f"{who} has not a radius for each sample and a rate for each ε"
        return
    if certified.norm != record.norm:
        yield f"{who} is in another norm than the audit"
    if any(r is not None and label != seen for r, label, seen in zip(radii, s.labels, s.predictions, strict=True)):
        yield f"{who} has a radius for a sample that was wrong before any attack"
    for eps, rate in zip(record.eps, certified.curve, strict=True):
        held = certified.held(eps)
        if (rate.count, rate.total) != (held, len(radii)):
            yield f"{who} counts {rate.count} of {rate.total} at an ε where its radii say {held} of {len(radii)}"
        yield from _rate(f"certified accuracy by {certified.title[:60]}", rate)
    yield from _spread(f"the radii of {who}", certified.radius)
    broken = [sample for sample, _, _ in record.refuted]
    if broken and certified.exact:
        yield f"{who} is a proof, yet an attack broke sample {broken[0]} within its radius"
    said = any(check.id == "certificate" and check.status == "fail" for check in record.checks)
    if record.status == "complete" and not certified.exact and bool(broken) != said:
        yield f"{who} is broken by an attack and no check says so, or the reverse"


def _columns_differ(record: Content, attack: AttackResult) -> bool:
    columns = (attack.distances, attack.rms_each, attack.predictions, attack.confidences)
    return any(len(column) != len(record.samples.ids) for column in columns)


def _worst_case(record: Content) -> Iterator[str]:
    s = record.samples
    bounded = [attack for attack in record.attacks if attack.kind != "free"]
    for i, (label, seen, distance) in enumerate(zip(s.labels, s.predictions, s.distances, strict=True)):
        if label != seen:
            continue
        found = [d for attack in bounded if (d := attack.distances[i]) is not None]
        if distance != min(found, default=None):
            yield f"the distance of sample {s.ids[i]} is not the smallest that the attacks found"
            return
    yield from _broken_by(record)
    if record.status == "complete":
        for attack in bounded:
            for point, worst in zip(attack.curve, record.worst_case, strict=False):
                if worst.robust.count > point.robust.count:
                    yield f"at ε = {point.text[:20]} the worst case is better than {attack.title[:60]} alone"


def _broken_by(record: Content) -> Iterator[str]:
    s, attacks = record.samples, record.attacks
    if len(s.by) != len(s.ids):
        yield "the samples do not each say which attack broke them"
        return
    for i, (label, seen, distance, by) in enumerate(zip(s.labels, s.predictions, s.distances, s.by, strict=True)):
        if (by is not None) != (label == seen and distance is not None):
            yield f"sample {s.ids[i]} is broken by an attack and is not, or the reverse"
            return
        if by is None:
            continue
        if by >= len(attacks) or attacks[by].kind == "free" or attacks[by].distances[i] != distance:
            yield f"the attack said to have broken sample {s.ids[i]} did not find its distance"
            return


def _transfer(record: Content, transfer: Transfer) -> Iterator[str]:
    who = f"the transfer of {transfer.attack[:60]}"
    if transfer.models != [record.model.title, *(model.title for model in record.surrogates)]:
        yield f"{who} is not between the model and its surrogates"
    if not set(transfer.makers) <= set(transfer.models):
        yield f"{who} is from a model that is not among those it names"
    if transfer.eps is not None and transfer.eps not in record.eps:
        yield f"{who} is at an ε that the audit has not"
    if [len(row) for row in transfer.wrong] != [len(transfer.models)] * len(transfer.makers):
        yield f"{who} has not a row and a column for each model"
        return
    rates = [rate for row in transfer.wrong for rate in row]
    for rate in rates:
        yield from _rate(who, rate)
    if len({rate.total for rate in rates}) > 1:
        yield f"{who} shows the models different numbers of points"


def _curve(who: str, record: Content, curve: list[EpsPoint]) -> Iterator[str]:
    if [point.eps for point in curve] != record.eps:
        yield f"the curve of {who} is not over the ε grid of the audit"
    last: Rate | None = None
    # Where no norm measures any attack, the worst case is over nothing.
    whole = record.status == "complete" and (not record.attacks or any(a.kind != "free" for a in record.attacks))
    for point in curve:
        yield from _rate(f"robust accuracy of {who} at ε = {point.text[:20]}", point.robust)
        yield from _rate(f"success of {who} at ε = {point.text[:20]}", point.success)
        if point.robust.count > record.clean.count or point.robust.total > record.clean.total:
            yield f"{who} keeps more samples right at ε = {point.text[:20]} than were right before"
        if last is not None and point.robust.total == last.total and point.robust.count > last.count:
            yield f"robust accuracy of {who} rises with ε at {point.text[:20]}"
        if whole and point.robust.total != record.clean.total:
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


def _checks(record: Content) -> Iterator[str]:
    if len({check.id for check in record.checks}) < len(record.checks):
        yield "a check occurs twice"
    failed = any(check.status in ("fail", "error") for check in record.checks)
    for gate in record.gates:
        if gate.kind == "strict" and gate.passed == failed:
            yield "the gate on the checks says the opposite of what they found"


def _adapted(record: Content, adapted: Adapted) -> Iterator[str]:
    """Compare the answers with the attacks that they name, and with the curves before and after them."""
    places = [answer.attack for answer in adapted.answers if answer.attack is not None]
    if len(set(places)) < len(places) or any(
        place >= len(record.attacks) or record.attacks[place].kind == "free" for place in places
    ):
        yield "an answer names an attack that it cannot be"
        return
    known = {check.id for check in record.checks}
    if any(not set(answer.checks) <= known for answer in adapted.answers):
        yield "an answer is to a check that was not made"
    yield from _curve("the worst case before the answers", record, adapted.before)
    if adapted.after != record.worst_case:
        yield "the accuracy after the answers is not the worst case"
    if any(_columns_differ(record, attack) for attack in record.attacks):
        return
    first, *rest = steps_of(record, adapted)
    if [point.robust.count for point in adapted.before] != first.right:
        yield "the accuracy before the answers is not what the other attacks leave"
    for answer, step in zip(adapted.answers, rest, strict=True):
        if answer.broken != step.broken:
            yield f"an answer says it broke {answer.broken} samples, its attack broke {step.broken}"
            return
