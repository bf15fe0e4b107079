"""Certified accuracy beside what the attacks left, as a record holds it and a report shows it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_factory import build, spread

from robustkit.reports import AuditRecord, Certified, CheckResult, Rate, RecordError, write
from robustkit.reports.formats import markdown
from robustkit.reports.page.certified_section import certificate
from robustkit.reports.page.charts import curves
from robustkit.reports.page.charts.series import series_of
from robustkit.reports.record.schema import schema

EPS = {0.1: "0.1", 0.2: "0.2", 0.3: "0.3"}
RIGHT = [i != 4 for i in range(12)]
RADII: list[float | None] = [None if not ok else [0.0, 0.15, 0.25, 0.4][i % 4] for i, ok in enumerate(RIGHT)]
DISTANCES: list[float | None] = [0.05 if i % 4 == 0 else 0.19 if i % 4 == 1 else None for i in range(12)]


def curve(radii: list[float | None]) -> list[Rate]:
    return [Rate.of(sum(r is not None and r >= eps + 1e-6 for r in radii), len(radii)) for eps in EPS]


def certified(exact: bool = True, radii: list[float | None] | None = None, **changes: Any) -> AuditRecord:
    radii = RADII if radii is None else radii
    kind = ("crown", "CROWN", {"halvings": 3}) if exact else ("smoothing", "Randomised smoothing", {"alpha": 0.001})
    held = [r for r in radii if r is not None]
    found = Certified(kind[0], kind[1], "A paper", "linf", exact, kind[2], curve(radii), spread(held), radii)
    return build(RIGHT, {"PGD": DISTANCES}, eps=EPS, certified=found, **changes)


def resealed(record: AuditRecord, change: Callable[[dict[str, Any]], None]) -> str:
    from robustkit.reports.record.decode import digest_of

    body = json.loads(record.to_json())
    body.pop("digest")
    change(body)
    return json.dumps({**body, "digest": digest_of(body)})


def test_a_record_comes_back_and_the_figures_stand_in_order() -> None:
    record = certified()
    assert AuditRecord.from_json(record.to_json()) == record
    assert not record.refuted
    assert [rate.count for rate in record.certified.curve] == [9, 6, 3]  # type: ignore[union-attr]
    assert [point.robust.count for point in record.worst_case] == [9, 6, 6]


def test_the_schema_has_its_fields() -> None:
    rule = schema()["$defs"]["certified"]
    assert set(rule["required"]) == set(rule["properties"]) == {f.name for f in dataclasses.fields(Certified)}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c["radii"].pop(), "not a radius for each sample"),
        (lambda c: c["curve"].pop(), "a rate for each ε"),
        (lambda c: c.update(norm="l2"), "another norm"),
        (lambda c: c["radii"].__setitem__(4, 0.1), "wrong before any attack"),
        (lambda c: c["radii"].__setitem__(2, 0.35), "where its radii say"),
        (lambda c: c["curve"][0].update(value=0.9), "value or the interval"),
        (lambda c: c["radius"].update(count=3, min=None), "quantiles deny"),
        (lambda c: c["radii"].__setitem__(2, -0.1), "radii/2"),
        (lambda c: c.update(method=""), "method"),
        (lambda c: c.update(exact="yes"), "exact"),
    ],
)
def test_a_certificate_that_contradicts_itself_is_refused(change: Callable[[Any], None], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        AuditRecord.from_json(resealed(certified(), lambda body: change(body["certified"])))


def test_a_proof_broken_by_an_attack_is_refused_and_a_chance_must_be_told() -> None:
    radii = list(RADII)
    radii[1] = 0.2  # broken at 0.19
    for exact, why in ((True, "is a proof, yet an attack broke sample 1"), (False, "no check says so")):
        record = certified(exact, radii)
        assert record.refuted == [(1, 0.2, 0.19)]
        with pytest.raises(RecordError, match=why):
            AuditRecord.from_json(record.to_json())
    failed = CheckResult("certificate", "Title", "Source", 1.0, 0.0, "fail", "Found.", "Do.")
    told = certified(False, radii, checks=[failed])
    assert AuditRecord.from_json(told.to_json()) == told
    assert told.verdict == "do not trust"
    shown = certificate(told)
    assert shown is not None
    assert "broke 1 sample within the certified radius" in shown.refuted
    assert "1 (radius 51, broken at 48.5)" in shown.refuted
    with pytest.raises(RecordError, match="or the reverse"):
        AuditRecord.from_json(certified(False, checks=[failed]).to_json())


def test_the_section_says_between_which_figures_the_truth_lies() -> None:
    shown = certificate(certified())
    assert shown is not None
    assert not shown.refuted
    assert shown.sentence.startswith("At ε = 0.3 (L∞) 3 of 12 samples (25\u00a0%) are certain to be right")
    assert "6 of 12 (50\u00a0%) unbroken" in shown.sentence
    assert [[row[0], row[2], row[4], row[6]] for row in shown.table.groups[0].rows] == [
        ["0.1", "75\u00a0%", "75\u00a0%", "0"],
        ["0.2", "50\u00a0%", "50\u00a0%", "0"],
        ["0.3", "25\u00a0%", "50\u00a0%", "3"],
    ]
    assert "proof" in shown.method
    chance = certificate(certified(exact=False))
    assert chance is not None
    assert "probability of at most 0.001" in chance.method
    assert certificate(build(RIGHT, {"PGD": DISTANCES}, eps=EPS)) is None


def test_nothing_certified_and_nothing_judged_are_sentences_too() -> None:
    none = certificate(certified(radii=[0.0 if ok else None for ok in RIGHT]))
    assert none is not None
    assert none.sentence.startswith("At ε = 0.1 (L∞) 0 of 12 samples (0\u00a0%) are certain")
    empty = certificate(certified(status="incomplete", judged={"PGD": 0}))
    assert empty is not None
    assert empty.sentence == (
        "At ε = 0.3 (L∞) 3 of 12 samples (25\u00a0%) are certain to be right; the run ended before any was attacked."
    )
    assert [row[6] for row in empty.table.groups[0].rows] == ["0", "0", "0"]


def test_a_run_that_ended_halfway_compares_the_samples_that_were_attacked() -> None:
    half = certificate(certified(status="incomplete", judged={"PGD": 6}))
    assert half is not None
    assert half.sentence == (
        "At ε = 0.3 (L∞) 3 of 12 samples (25\u00a0%) are certain to be right, and the attacks left 2 of 6 (33\u00a0%) "
        "unbroken: the run ended before they came to the rest."
    )
    # Of the first six, 0, 4 and, from 0.2 on, 1 and 5 are broken or wrong; 3 is certain to 0.4, and 2 to 0.25.
    assert [row[6] for row in half.table.groups[0].rows] == ["0", "0", "1"]


def test_the_chart_has_the_line_and_the_band() -> None:
    record = certified()
    drawn = curves.robust_chart(record, series_of(record))
    plain = curves.robust_chart(dataclasses.replace(record, certified=None), series_of(record))
    assert drawn is not None
    assert plain is not None
    assert [line.title for line in drawn.series] == ["PGD", "Certified (CROWN)"]
    assert "fill-rule" in drawn.wide
    assert "fill-rule" not in plain.wide
    assert curves.distortion_chart(record, series_of(record)) is not None


def test_page_and_summary_show_it(tmp_path: Path) -> None:
    page = write(certified(), tmp_path).read_text("utf-8")
    assert 'href="#certified"' in page
    assert 'id="certified"' in page
    assert "are certain to be right" in page
    assert "are certain to be right" in markdown.render(certified())
    assert "certified" not in write(build(RIGHT, {"PGD": DISTANCES}, eps=EPS), tmp_path).read_text("utf-8").lower()
