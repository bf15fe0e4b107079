"""The drawings: well-formed, self-contained, the same every time, and readable without colour."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from report_factory import EPS, build
from report_suite import suite

from robustkit.reports import AuditRecord
from robustkit.reports.page.charts import curves
from robustkit.reports.page.charts.inline_svg import ROLES
from robustkit.reports.page.charts.series import MOST, select_lines, series_of


def drawings(record: AuditRecord) -> list[str]:
    series = series_of(record)
    drawn = (curves.robust_chart, curves.queries_chart, curves.distortion_chart)
    return [
        svg
        for chart in (draw(record, series) for draw in drawn)
        if chart is not None
        for svg in (chart.wide, chart.narrow)
    ]


def test_same_record_same_drawing(record: AuditRecord) -> None:
    assert drawings(record) == drawings(record)


def test_drawings_are_self_contained() -> None:
    seen: set[str] = set()
    for svg in drawings(suite()):
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
    looks = [(s.marker, s.dashes) for s in series_of(record)]
    assert len({s.colour for s in series_of(record)[1:7]}) == 6
    assert len(set(looks[:7])) == 7
    pairs = [(s.marker, s.colour) for s in series_of(record)]
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [0.0, 0.01, 0.02, 1.0]])
def test_labels_keep_apart(values: list[float]) -> None:
    kept = curves.legible_ticks(values, 0.085)
    assert kept[0] == values[0]
    assert kept[-1] == values[-1]
    assert all(b - a >= 0.08 for a, b in pairwise(kept))


def test_a_cumulative_line_ends_at_the_share_broken() -> None:
    x, y = curves.cumulative([0.3, 0.1, 0.1, 0.2], 8)
    assert (x, y) == ([0.1, 0.2, 0.3], [0.25, 0.375, 0.5])
    x, y = curves.cumulative([i / 5000 for i in range(5000)], 5000)
    assert len(x) <= 402
    assert y[-1] == 1


def test_nothing_to_draw() -> None:
    assert drawings(build([False], {"PGD": [None]}, eps={})) == []
    assert len(drawings(build([True], {"PGD": [None]}))) == 2


def test_a_control_is_grey_and_a_change_without_a_norm_has_no_line() -> None:
    lines = {line.title: line for line in series_of(suite())}
    assert "Patch" not in lines
    assert "Corruptions" not in lines
    assert (lines["Gaussian noise"].colour, lines["Gaussian noise"].marker) == ("muted", "")
    assert lines["Gaussian noise"].dash_array


def test_a_chart_holds_the_worst_case_the_strongest_and_the_controls() -> None:
    record = suite(20, more=14)
    series = series_of(record)
    lines, note = select_lines(record, series)
    assert len(series) == 22
    assert len(lines) == 1 + MOST + 1
    assert lines[0].key == "worst"
    assert lines[-1].title == "Gaussian noise"
    assert note == "The 8 strongest of 20 attacks; the tables have all."
    left = {line.key for line in series} - {line.key for line in lines}
    reached = {line.key: line.curve[-1].success.count for line in series}
    assert max(reached[key] for key in left) <= min(reached[line.key] for line in lines[:-1])
    looks = [(line.colour, line.marker) for line in lines]
    assert len(set(looks)) == len(looks)
    assert select_lines(suite(), series_of(suite()))[1] == ""


def test_change_is_drawn_for_minimum_norm_attacks_beside_the_worst_case() -> None:
    record = suite()
    drawn = curves.distortion_chart(record, series_of(record))
    assert drawn is not None
    assert [line.title for line in drawn.series] == ["Worst case", "L-BFGS", "DDN", "HopSkipJump", "Gaussian noise"]
    budgeted = build([True] * 4, {"FGSM": [0.01] * 4, "PGD": [0.01, 0.02, None, None]})
    drawn = curves.distortion_chart(budgeted, series_of(budgeted))
    assert drawn is not None
    assert [line.title for line in drawn.series] == ["Worst case", "FGSM", "PGD"]


def test_queries_have_a_panel_for_each_epsilon_up_to_three() -> None:
    record = suite()
    drawn = curves.queries_chart(record, series_of(record))
    assert drawn is not None
    assert [line.title for line in drawn.series] == ["Square", "HopSkipJump"]
    for svg in (drawn.wide, drawn.narrow):
        texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
        assert [text for text in texts if text and text.startswith("ε")] == [f"ε = {text}" for text in EPS.values()]
    eps = {i / 255: f"{i}/255" for i in range(1, 8)}
    many = build(
        [True] * 2, {"Square": [0.0, 0.02]}, eps=eps, traits={"Square": {"arrived": [[5, None]] * 5 + [[5, 9]] * 2}}
    )
    drawn = curves.queries_chart(many, series_of(many))
    assert drawn is not None
    assert [f"ε = {i}/255" in drawn.wide for i in range(1, 8)] == [i in (1, 4, 7) for i in range(1, 8)]


def test_nothing_broken_by_queries_is_a_level_line() -> None:
    record = build([True, False], {"Square": [None, None]}, traits={"Square": {"arrived": [[None, None]] * 3}})
    drawn = curves.queries_chart(record, series_of(record))
    assert drawn is not None
    assert "Square 50 %".replace(" %", "\u00a0%") in drawn.description


def test_without_black_box_attacks_there_are_no_queries(record: AuditRecord) -> None:
    assert curves.queries_chart(record, series_of(record)) is None
