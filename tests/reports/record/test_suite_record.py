"""report.json of a suite of attacks: there and back, and the ways in which its parts can contradict each other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import EPS, build
from report_suite import arrivals, cells, suite

from robustkit.reports import AuditRecord, Cell, ModelInfo, Rate, RecordError, Transfer
from robustkit.reports.formats import junit, markdown
from robustkit.reports.record.decode import digest_of
from robustkit.reports.record.schema import schema

RECORD = suite()
TEXT = RECORD.to_json()
GRID = list(EPS)


def sealed(change: Callable[[dict[str, Any]], None]) -> str:
    body = json.loads(TEXT)
    del body["digest"]
    change(body)
    return json.dumps({**body, "digest": digest_of(body)})


def test_there_and_back() -> None:
    again = AuditRecord.from_json(TEXT)
    assert again == RECORD
    assert again.to_json() == TEXT
    assert isinstance(again.attacks[4].arrived[0], list)
    assert isinstance(again.surrogates[0], ModelInfo)
    assert isinstance(again.transfer[0].wrong[1][0], Rate)


def test_the_schema_names_the_fields_of_the_new_parts() -> None:
    jsonschema.Draft202012Validator(schema()).validate(json.loads(TEXT))
    for name, kind in {"cell": Cell, "transfer": Transfer}.items():
        rule = schema()["$defs"][name]
        assert set(rule["required"]) == set(rule["properties"]) == {f.name for f in dataclasses.fields(kind)}


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_there_and_back_whatever_is_in_it(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 6))
    right = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    column = st.lists(st.none() | st.floats(1e-6, 0.1), min_size=n, max_size=n)
    titles = data.draw(
        st.lists(st.sampled_from(["PGD", "Square", "DDN", "Gaussian noise", "Patch"]), min_size=1, unique=True)
    )
    distances = {title: data.draw(column) for title in titles}
    traits: dict[str, dict[str, Any]] = {title: {"notes": data.draw(st.lists(st.text(min_size=1)))} for title in titles}
    if "Square" in traits:
        traits["Square"]["arrived"] = arrivals(distances["Square"], right, GRID, 50)
        traits["Square"]["optimality"] = data.draw(st.none() | st.floats(0, 1))
    if "Patch" in traits:
        traits["Patch"]["cells"] = cells(right, data.draw(st.lists(st.text(min_size=1), unique=True)))
    try:
        record = build(right, distances, traits=traits)
        text = record.to_json()
    except UnicodeEncodeError:  # a lone surrogate among the texts
        return
    again = AuditRecord.from_json(text)
    assert again.to_json() == text
    assert [a.arrived for a in again.attacks] == [a.arrived for a in record.attacks]
    assert again.samples == record.samples
    markdown.render(again)
    ElementTree.fromstring(junit.render(again))


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = to

    return change


PGD, SQUARE, PATCH, CORRUPTIONS = 1, 4, 7, 8
ARRIVED = RECORD.attacks[SQUARE].arrived
BROKE = next(i for i, q in enumerate(ARRIVED[0]) if q is not None)  # within the smallest ε
HELD = next(i for i, q in enumerate(ARRIVED[2]) if q is None)
NEAR = RECORD.attacks[PATCH].distances
BY = next(i for i, place in enumerate(RECORD.samples.by) if place is not None and NEAR[i] is not None)


def _swap(body: dict[str, Any]) -> None:
    column = body["attacks"][SQUARE]["arrived"][2]
    column[BROKE], column[HELD] = None, 7


def _free_is_nearest(body: dict[str, Any]) -> None:
    body["samples"]["by"][BY] = PATCH
    body["attacks"][PATCH]["distances"][BY] = body["samples"]["distances"][BY]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set("attacks", PGD, "access", to="weights"), "access"),
        (_set("attacks", PGD, "control", to=1), "control"),
        (_set("attacks", PGD, "notes", to=[""]), "notes"),
        (_set("attacks", PGD, "optimality", to=1.2), "optimality"),
        (_set("attacks", PGD, "kind", to="other"), "kind"),
        (_set("attacks", PGD, "own_norm", to=""), "works in no norm"),
        (_set("attacks", PGD, "kind", to="free"), "a norm or a curve"),
        (_set("attacks", PATCH, "own_norm", to="l2"), "a norm or a curve"),
        (_set("attacks", PATCH, "curve", to=json.loads(TEXT)["worst_case"]), "a norm or a curve"),
        (_set("attacks", SQUARE, "arrived", 0, to=[]), "not a column of samples for each ε"),
        (_set("attacks", SQUARE, "arrived", to=ARRIVED[:2]), "not a column of samples for each ε"),
        (_set("attacks", SQUARE, "arrived", 0, BROKE, to=-1), "arrived/0"),
        (_set("attacks", SQUARE, "arrived", 0, BROKE, to=None), "its queries are for"),
        (_set("attacks", SQUARE, "arrived", 2, HELD, to=3), "did not break"),
        (_swap, "did not break"),
        (_set("attacks", SQUARE, "arrived", 1, BROKE, to=99_999), "takes more queries"),
        (_set("attacks", CORRUPTIONS, "cells", 0, "broken", to=dataclasses.asdict(Rate.of(1, 5))), "is over 5 samples"),
        (_set("attacks", CORRUPTIONS, "cells", 0, "broken", "value", to=0.9), "value or the interval"),
        (_set("attacks", CORRUPTIONS, "cells", 0, "level", to="2"), "two figures for one variant"),
        (_set("samples", "by", to=[]), "which attack broke them"),
        (_set("samples", "by", BY, to=None), "or the reverse"),
        (_set("samples", "by", 13, to=0), "or the reverse"),
        (_set("samples", "by", BY, to=6), "did not find its distance"),
        (_set("samples", "by", BY, to=99), "did not find its distance"),
        (_free_is_nearest, "did not find its distance"),
        (_set("surrogates", to=[]), "between the model and its surrogates"),
        (_set("transfer", 0, "models", 0, to="else"), "between the model and its surrogates"),
        (_set("transfer", 0, "makers", 1, to="else"), "not among those"),
        (_set("transfer", 0, "eps", to=0.5), "an ε that the audit has not"),
        (_set("transfer", 0, "wrong", 1, to=[]), "a row and a column"),
        (_set("transfer", 0, "wrong", 0, 1, "low", to=0.0), "value or the interval"),
        (_set("transfer", 0, "wrong", 0, 1, to=dataclasses.asdict(Rate.of(1, 5))), "different numbers of points"),
    ],
)
def test_a_contradiction_is_refused(change: Callable[[dict[str, Any]], None], why: str) -> None:
    with pytest.raises(RecordError) as caught:
        AuditRecord.from_json(sealed(change))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_no_norm_measures_is_no_part_of_the_worst_case() -> None:
    record = build([True] * 3, {"PGD": [0.01, 0.02, None], "Patch": [0.001, 0.001, 0.001]})
    assert record.samples.distances == [0.01, 0.02, None]
    assert record.samples.by == [0, 0, None]
    assert AuditRecord.from_json(record.to_json()) == record
