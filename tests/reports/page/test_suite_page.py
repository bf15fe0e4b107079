"""A suite of attacks in the record and on the page: ranking, black box, controls, surrogates, corruptions."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from report_factory import EPS, build
from report_suite import suite

from robustkit.reports import AuditRecord, Cell, Rate
from robustkit.reports.formats import junit, markdown
from robustkit.reports.page import first_screen, html, view
from robustkit.reports.page.attack_tables import attack_tables, other_tables, transfer_tables
from robustkit.reports.page.background import made
from robustkit.reports.page.pictures import PictureSource, pairs
from robustkit.reports.page.tables import Table, overview_table, sample_table
from robustkit.reports.page.wording import NBSP
from robustkit.reports.record.ranking import ranked, strongest

RECORD = suite()
TEXT = RECORD.to_json()
GRID = list(EPS)


def cell(table: Table, row: str, column: str) -> str:
    place = [c.title for c in table.columns].index(column)
    return next(r[place] for group in table.groups for r in group.rows if r[0] == row).replace(NBSP, " ")


@cache
def suite_page() -> str:
    return draw(RECORD)


def draw(record: AuditRecord) -> str:
    return html.render(view.page(record, PictureSource(Path("nowhere")))).replace(NBSP, " ")


def test_strongest_breaks_most_at_the_largest_epsilon_then_by_less() -> None:
    record = build(
        [True] * 4,
        {
            "FGSM": [GRID[2], GRID[2], None, None],
            "PGD": [GRID[1], GRID[1], GRID[2], None],
            "DDN": [0.001, 0.001, 0.012, 0.3],  # all four in the end, three of them within ε, with less change
            "Gaussian noise": [0.0001] * 4,
            "Patch": [0.0001] * 4,
        },
    )
    assert [record.attacks[place].title for place in ranked(record)] == ["DDN", "PGD", "FGSM"]
    assert strongest(record) == 2
    assert strongest(build([True], {"PGD": [None]})) is None
    assert strongest(build([True], {"Patch": [0.1]})) is None


def test_attack_table_tells_access_optimality_and_which_was_strongest() -> None:
    (cost, _) = attack_tables(RECORD)
    assert cell(cost, "PGD", "Access") == "white box"
    assert cell(cost, "Square", "Access") == "scores"
    assert cell(cost, "HopSkipJump", "Access") == "labels"
    assert cell(cost, "DDN", "Optimality") == "99.1 %"
    assert cell(cost, "HopSkipJump", "Optimality") == "–"
    robust = RECORD.attacks[1].curve[-1].robust
    assert cell(cost, "PGD", "Robust accuracy at 4/255") == f"{100 * (robust.value or 0):.0f} %"
    assert cell(cost, "Patch", "Robust accuracy at 4/255") == "–"
    closest = [cell(cost, a.title, "Closest on") for a in RECORD.attacks if a.kind != "free"]
    assert sum(map(int, closest)) == sum(place is not None for place in RECORD.samples.by)
    assert [group.title for group in cost.groups if group.rows][1:] == [
        "Control: noise, no search",
        "Other changes, which no norm measures",
    ]
    marked = [group.rows[group.mark][0] for group in cost.groups if group.mark is not None]
    assert marked == ["PGD"]
    page = suite_page()
    assert page.count("strongest</strong>") == 1
    assert "PGD: The gradient was zero on 2 samples" in page


def test_one_attack_is_compared_with_nothing() -> None:
    record = build([True] * 3, {"PGD": [0.01, None, None]})
    (cost, _) = attack_tables(record)
    assert not {"Closest on", "Optimality", "Judged"} & {column.title for column in cost.columns}
    page = draw(record)
    assert "strongest" not in page
    for section in ("queries", "transfer", "other"):
        assert f'id="{section}"' not in page
        assert f'href="#{section}"' not in page


def test_a_sample_is_broken_by_the_attack_that_the_record_names() -> None:
    record = build([True, True, True, False], {"FGSM": [0.01, 0.02, None, None], "DDN": [0.01, 0.004, None, None]})
    by = dataclasses.replace(record, samples=dataclasses.replace(record.samples, by=[1, 1, None, None]))
    assert AuditRecord.from_json(by.to_json()) == by  # of two equally near either may be named
    table = sample_table(by)
    assert [cell(table, f"photo-0{i}.jpg", "By") for i in range(4)] == [
        "DDN",
        "DDN",
        "not broken",
        "wrong before any attack",
    ]


def test_transfer_matrix_is_shaded_by_its_figures() -> None:
    (table,) = transfer_tables(RECORD)
    assert table.columns[1].title == "EfficientNet-Lite0 (ImageNet) (audited)"
    assert cell(table, "Other network 1 (ImageNet)", "EfficientNet-Lite0 (ImageNet) (audited)").startswith("33 % (")
    assert table.groups[0].shades[0] == [0, 10, 3, 2]
    assert '<td class="n shade-10">' in suite_page()
    only = dataclasses.replace(
        RECORD.transfer[0], makers=RECORD.transfer[0].models[1:], wrong=RECORD.transfer[0].wrong[1:]
    )
    record = dataclasses.replace(RECORD, transfer=[only])
    assert AuditRecord.from_json(record.to_json()) == record  # an audited model without gradients makes no points
    assert len(transfer_tables(record)[0].groups[0].rows) == 2


def test_corruptions_have_a_row_a_kind_a_column_a_severity_and_means() -> None:
    right = [True] * 8 + [False] * 2
    figures = {("fog", "1"): 0, ("fog", "2"): 4, ("blur", "1"): 2}  # blur at 2 was not tried
    parts = [Cell(*key, Rate.of(count, 8)) for key, count in figures.items()]
    (summary, table) = other_tables(
        build(right, {"Corruptions": [0.3] * 5 + [None] * 5}, traits={"Corruptions": {"cells": parts}})
    )
    assert cell(summary, "Corruptions", "Still right") == "3 of 10"
    assert [column.title for column in table.columns] == ["Kind", "1", "2", "Mean"]
    rows = [[text.replace(NBSP, " ") for text in row] for row in table.groups[0].rows]
    assert rows == [
        ["fog", "80 %", "40 %", "60 %"],
        ["blur", "60 %", "–", "60 %"],
        ["Mean", "70 %", "40 %", "55 %"],
    ]
    assert table.groups[0].shades[0] == [0, 2, 6, 4]


def test_overview_stands_where_attacks_are_many() -> None:
    few = build([True] * 3, {"PGD": [0.01] * 3, "FGSM": [0.01] * 3})
    assert overview_table(few).empty
    table = overview_table(RECORD)
    assert [row[0] for row in table.groups[0].rows][:2] == ["Worst case", "FGSM"]
    assert "Patch" not in [row[0] for row in table.groups[0].rows]
    assert "Counts and intervals of each attack" in suite_page()


def test_first_screen_names_few_of_many_attacks() -> None:
    assert first_screen.setting(suite(20, more=14)).startswith(
        "20 samples, attacked with FGSM, PGD, L-BFGS and 20 more in L∞"
    )


def test_pictures_of_the_strongest_attack_come_first() -> None:
    shown = pairs(RECORD, PictureSource(Path("nowhere")))
    assert [pair.setting.partition(",")[0] for pair in shown] == ["PGD", "FGSM", "Patch"]
    assert shown[0].setting == "PGD, the strongest attack, within ε = 4/255, L∞"
    assert shown[2].setting == "Patch, no limit to the change"


def test_surrogates_are_named_where_it_was_made() -> None:
    assert [fact.text.partition(",")[0] for fact in made(RECORD) if fact.term == "Surrogate"] == [
        "Other network 1 (ImageNet)",
        "Other network 2 (ImageNet)",
    ]


def test_only_changes_without_a_norm() -> None:
    record = build([True] * 4, {"Patch": [0.5, 0.5, None, None], "Corruptions": [0.5, 0.5, 0.5, None]})
    assert AuditRecord.from_json(record.to_json()) == record
    head = first_screen.headline(record)
    assert (head.figure.replace(NBSP, " "), head.caption) == ("25 %", "accuracy under Corruptions")
    assert [bar.label for bar in first_screen.bars(record, 6)] == ["no attack", "Patch", "Corruptions"]
    page = draw(record)
    assert 'id="other"' in page
    assert not re.search(r'id="(robustness|distortion)"', page)
    assert "Nothing broke" not in page
    beside = build([True] * 4, {"PGD": [None] * 4, "Patch": [0.5] * 4})
    assert "No attack in L∞ broke any of the 4 samples" in first_screen.headline(beside).takes


def test_summary_tells_strongest_first_and_transfer() -> None:
    summary = markdown.render(RECORD).replace(NBSP, " ")
    rows = [line for line in summary.splitlines() if re.match(r"\| (PGD|Gaussian noise|Patch)", line)]
    assert [row.split(" | ")[0] for row in rows] == ["| PGD", "| Gaussian noise, a control", "| Patch"]
    assert "made against Other network 1 (ImageNet) 33 % and Other network 2 (ImageNet) 22 %." in summary
    many = markdown.render(suite(20, more=14))
    assert "14 more attacks are in index.html." in many
    assert len(many.splitlines()) < 60


def test_junit_names_surrogates_and_the_strongest_attack() -> None:
    root = ElementTree.fromstring(junit.render(RECORD))
    names = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert (names["surrogates"], names["strongest attack"]) == ("other-1, other-2", "PGD")
