"""The drawings: well-formed, self-contained, the same every time, and readable without colour."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from report_factory import build

from robustkit.reports import AuditRecord, charts
from robustkit.reports.svg import ROLES


def drawings(record: AuditRecord) -> list[str]:
    series = charts.series_of(record)
    both = [charts.robust_chart(record, series), charts.distortion_chart(record, series)]
    return [svg for chart in both if chart is not None for svg in (chart.wide, chart.narrow)]


def test_same_record_same_drawing(record: AuditRecord) -> None:
    assert drawings(record) == drawings(record)


def test_drawings_are_self_contained(record: AuditRecord) -> None:
    seen: set[str] = set()
    for svg in drawings(record):
        root = ElementTree.fromstring(svg)
        ids = {element.get("id") for element in root.iter()} - {None}
        assert not ids & seen
        seen |= {i for i in ids if i}
        for element in root.iter():
            assert element.tag not in ("script", "style", "image", "foreignObject", "metadata")
            assert "style" not in element.attrib
            for name, value in element.attrib.items():
                assert ":" not in name
                if name == "href":
                    assert value[1:] in ids
                for used in re.findall(r"url\(#([^)]*)\)", value):
                    assert used in ids
        assert "http" not in svg
        assert not any(colour in svg for colour in ROLES.values())
        # No colour but the page's: a fill or stroke given here would be lost in the dark.
        assert not re.findall(r'(?:fill|stroke)="#\w+"', svg)


def test_drawings_have_a_title_and_a_description_with_figures(record: AuditRecord) -> None:
    svg = drawings(record)[0]
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root[0].text == "Robust accuracy over ε"
    assert "0" in (root[1].text or "")
    assert "interval" in (root[1].text or "")
    texts = [element.text for element in root.iter("text")]
    assert {"0", "1/255", "2/255", "4/255", "0 %", "100 %", "ε (L∞)"} <= set(texts)


def test_lines_differ_without_colour() -> None:
    record = build([True] * 3, {f"A{i}": [0.01] * 3 for i in range(12)})
    looks = [(s.marker, s.dashes) for s in charts.series_of(record)]
    assert len({s.colour for s in charts.series_of(record)[1:7]}) == 6
    assert len(set(looks[:7])) == 7
    pairs = [(s.marker, s.colour) for s in charts.series_of(record)]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [0.0, 0.01, 0.02, 1.0]])
def test_labels_keep_apart(values: list[float]) -> None:
    kept = charts._apart(values, 0.085)
    assert kept[0] == values[0]
    assert kept[-1] == values[-1]
    assert all(b - a >= 0.08 for a, b in pairwise(kept))


def test_a_cumulative_line_ends_at_the_share_broken() -> None:
    x, y = charts._steps([0.3, 0.1, 0.1, 0.2], 8)
    assert (x, y) == ([0.1, 0.2, 0.3], [0.25, 0.375, 0.5])
    x, y = charts._steps([i / 5000 for i in range(5000)], 5000)
    assert len(x) <= 402
    assert y[-1] == 1


def test_nothing_to_draw() -> None:
    assert drawings(build([False], {"PGD": [None]}, eps={})) == []
    assert len(drawings(build([True], {"PGD": [None]}))) == 2
