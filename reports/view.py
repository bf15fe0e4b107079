"""A record as the page shows it: ready sentences, figures and tables. No HTML here."""

from __future__ import annotations

from dataclasses import dataclass

from . import words
from .charts import Chart, Series, distortion_chart, robust_chart, series_of
from .pictures import Pair, PictureSource, pairs
from .record import AuditRecord, EpsPoint, Gate, Rate
from .tables import Table, attack_tables, confidence_table, distortion_table, robust_table, sample_table

_BARS = 6  # rows of the first screen's table


@dataclass(frozen=True)
class Bar:
    """One row of the first screen: how many samples the model still gets right."""

    label: str
    kept: str
    share: str
    interval: str
    # Positions on a scale from 0 to 100; None where nothing was judged.
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Headline:
    figure: str
    caption: str
    sentence: str
    takes: str  # how little it takes


@dataclass(frozen=True)
class GateRow:
    name: str
    state: str  # "passed", "failed" or "open"
    word: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    state: str  # "passed", "failed", "open" or "none"
    word: str
    text: str
    rows: list[GateRow]

    @property
    def urgent(self) -> list[GateRow]:
        """The rows for the first screen."""
        return [row for row in self.rows if row.state == "failed"][:2]


@dataclass(frozen=True)
class Fact:
    term: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Page:
    """What index.html shows, from top to bottom."""

    model: str
    data: str
    setting: str
    created: str
    incomplete: str | None
    headline: Headline
    bars: list[Bar]
    bars_left_out: bool
    verdict: Verdict
    pairs: list[Pair]
    series: list[Series]
    robust_chart: Chart | None
    robust_table: Table
    distortion_chart: Chart | None
    distortion_table: Table
    confidence_table: Table
    attack_tables: list[Table]
    sample_table: Table
    skipped: list[Fact]
    made: list[Fact]
    command: str
    caveats: list[Fact]


def page(record: AuditRecord, source: PictureSource) -> Page:
    """Everything the page says about `record`; `source` gives the comparisons' pictures."""
    series = series_of(record)
    return Page(
        model=words.clean(record.model.title),
        data=words.clean(record.data.title),
        setting=setting(record),
        created=words.moment(record.run.created),
        incomplete=incomplete(record),
        headline=headline(record),
        bars=bars(record, _BARS),
        bars_left_out=len(record.worst_case) > _BARS,
        verdict=verdict(record),
        pairs=pairs(record, source),
        series=series,
        robust_chart=robust_chart(record, series),
        robust_table=robust_table(record),
        distortion_chart=distortion_chart(record, series),
        distortion_table=distortion_table(record),
        confidence_table=confidence_table(record),
        attack_tables=attack_tables(record),
        sample_table=sample_table(record),
        skipped=[Fact(words.clean(s.file), words.clean(s.reason, 300)) for s in record.data.skipped],
        made=_made(record),
        command=words.clean(record.run.command, 4000),
        caveats=_caveats(record),
    )


def headline(record: AuditRecord) -> Headline:
    """How bad it is, in a figure and two sentences."""
    clean, takes = record.clean, _takes(record)
    figures = f"{words.share(clean)}, {words.interval(clean)}"
    before = f"Before any attack it was right on {words.of(clean)} ({figures})."
    if clean.total == 0:
        return Headline("–", "nothing judged", "The run ended before any sample was judged.", "")
    if clean.count == 0:
        what = f"This model is wrong on {_all(clean.total)} before any attack, so there was nothing to attack."
        return Headline(words.share(clean), f"clean accuracy on {words.samples(clean.total)}", what, "")
    point = decisive(record)
    if point is None:
        broken = record.worst_distance
        what = f"Given enough change, the attacks broke {words.count(broken.count)} of the "
        what += f"{words.samples(clean.count)} that this model got right."
        median = broken.median
        if median is None:
            return Headline(f"0 of {words.count(clean.count)}", "broken", what, before)
        unit = "median change that broke a sample, "
        unit += "in levels of 255" if record.norm == "linf" else f"in {words.NORMS[record.norm]}"
        return Headline(words.distance(median, record.norm), unit, what, f"{takes} {before}")
    robust = point.robust
    if robust.total == 0:
        return Headline("–", "robust accuracy", "The run ended before any sample was attacked.", before)
    where = f"ε = {words.clean(point.text, 20)}"
    already = "Already at" if point.eps < record.eps[-1] else "At"
    sentence = (
        f"{already} {where} ({words.NORMS[record.norm]}) this model keeps {words.count(robust.count)} of "
        f"{words.samples(robust.total)} right ({words.share(robust)}, 95{words.NBSP}% interval "
        f"{words.interval(robust)})."
    )
    return Headline(words.share(robust), f"robust accuracy at {where}", sentence, f"{takes} {before}")


def decisive(record: AuditRecord) -> EpsPoint | None:
    """The ε to speak of first: the smallest that leaves nothing right, else the largest."""
    judged = [point for point in record.worst_case if point.robust.total]
    fallen = [point for point in judged if point.robust.count == 0]
    return next(iter(fallen or judged[-1:] or record.worst_case[-1:]), None)


def _takes(record: AuditRecord) -> str:
    spread = record.worst_distance
    if spread.median is None:
        return f"No attack broke any of the {words.samples(record.clean.count)} that were right."
    c, h, w = record.model.input
    change = words.change(spread.median, record.norm, c * h * w)
    if spread.count == 1:
        return f"The one sample that broke needed {change}."
    return f"Half of the {words.count(spread.count)} samples that broke needed no more than {change}."


def incomplete(record: AuditRecord) -> str | None:
    """The mark of an interrupted run, None on a whole one."""
    if record.status == "complete":
        return None
    done = [f"{words.clean(a.title, 40)} {words.count(a.judged)}" for a in record.attacks]
    total = words.samples(len(record.samples.ids))
    reach = f" Samples attacked so far, of {total}: {words.listing(done)}." if done else ""
    return f"The run was stopped before its end; the figures cover what was finished.{reach}"


def verdict(record: AuditRecord) -> Verdict:
    """Did the gates pass? A run that did not finish establishes none of them."""
    if not record.gates:
        return Verdict("none", "No gates", "This run set no condition to pass or fail.", [])
    whole = record.status == "complete"
    rows = [_gate(gate, whole) for gate in record.gates]
    total = len(rows)
    failed = sum(row.state == "failed" for row in rows)
    if not whole:
        return Verdict("open", "Not established", f"The run is incomplete: {_gates(total)} unanswered.", rows)
    if failed:
        return Verdict("failed", "Failed", f"{failed} of {_gates(total)} not met.", rows)
    return Verdict("passed", "Passed", "The gate is met." if total == 1 else f"All {total} gates are met.", rows)


def _gate(gate: Gate, whole: bool) -> GateRow:
    state = ("passed" if gate.passed else "failed") if whole else "open"
    word = {"passed": "Passed", "failed": "Failed", "open": "Not established"}[state]
    return GateRow(words.clean(gate.name, 200), state, word, words.clean(gate.detail, 500))


def _gates(n: int) -> str:
    return "1 gate" if n == 1 else f"{n} gates"


def _all(n: int) -> str:
    return "its one sample" if n == 1 else f"all {words.samples(n)}"


def bars(record: AuditRecord, most: int) -> list[Bar]:
    """Clean accuracy and the worst case for each ε, or for `most` of them, evenly chosen, ends included."""
    points = record.worst_case
    if len(points) > most:
        points = [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
    rows = [_bar(f"ε = {words.clean(point.text, 20)}", point.robust) for point in points]
    return [_bar("no attack", record.clean), *rows]


def _bar(label: str, rate: Rate) -> Bar:
    scaled = [None if v is None else round(100 * v, 2) for v in (rate.value, rate.low, rate.high)]
    return Bar(label, words.of(rate), words.share(rate), words.interval(rate), *scaled)


def setting(record: AuditRecord) -> str:
    """What was done to how many samples."""
    titles = [words.clean(attack.title, 40) for attack in record.attacks]
    by = f", attacked with {words.listing(titles)}" if titles else ", not attacked"
    aim = f", aiming at “{words.clean(record.target)}”" if record.target is not None else ""
    return f"{words.samples(len(record.samples.ids))}{by} in {words.NORMS[record.norm]}{aim}"


def _made(record: AuditRecord) -> list[Fact]:
    run, model, data = record.run, record.model, record.data
    shape = " × ".join(str(side) for side in model.input)
    judged = f"{words.count(len(record.samples.ids))} of {words.count(data.available)} available"
    facts = [
        (
            "Model",
            f"{model.name}: {words.count(model.parameters)} parameters, {words.count(model.classes)} classes",
        ),
        ("Input", f"{shape}, mean {_numbers(model.mean)}, deviation {_numbers(model.std)}"),
        ("Weights", model.digest),
        ("Data", f"{data.name}: {judged}"),
        ("Seed", str(run.seed)),
        ("Device", f"{run.device}, {run.threads} threads, batches of {run.batch_size}"),
        ("Precision", f"gradients in {run.precision}, verdicts in fp32"),
        ("Took", words.duration(run.seconds)),
        ("Made", words.moment(run.created)),
        ("Versions", f"robustkit {run.robustkit}, torch {run.torch}, Python {run.python}"),
        ("Platform", run.platform),
    ]
    return [Fact(term, words.clean(text, 300), code=term in ("Weights",)) for term, text in facts]


def _numbers(values: list[float]) -> str:
    return ", ".join(words.number(v) for v in values) or "none"


def _caveats(record: AuditRecord) -> list[Fact]:
    total = len(record.samples.ids)
    few = total < 200
    caveats = [
        (
            "An upper bound",
            "Robust accuracy here is what survived these attacks with these budgets. A stronger attack can "
            "only lower it; the truth lies at or below it. It is no proof that a sample is safe.",
        ),
        (
            "An interval for chance alone",
            f"The 95 % interval (Wilson) says how far a sample of {words.count(total)} can mislead about the "
            f"data it was drawn from. {'It is wide because the samples are few. ' if few else ''}It does not "
            "cover attacks not tried.",
        ),
        (
            "These samples",
            "The figures speak for this data set. Other pictures, other classes or another preprocessing can "
            "behave otherwise.",
        ),
        (
            "A mistake counts as a failure",
            "A sample that was wrong before any attack counts as not robust at every ε. Success rates are "
            "over the samples that were right.",
        ),
        (
            "Distances are what was found",
            "The smallest change an attack found bounds from above the smallest there is.",
        ),
    ]
    return [Fact(term, text.replace("95 %", f"95{words.NBSP}%")) for term, text in caveats]
