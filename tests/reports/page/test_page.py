"""Content of the page, for every kind of record, and that no name from outside becomes markup."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report_edges import EDGES
from report_factory import build, check, gate, realistic
from report_suite import hostile

from robustkit.reports import AuditRecord, CheckResult, Gate, write
from robustkit.reports.formats import junit, markdown
from robustkit.reports.page import html, view, wording
from robustkit.reports.page.pictures import PictureSource
from robustkit.reports.record.statistics import Rate


def draw(record: AuditRecord, folder: Path = Path("nowhere")) -> str:
    return html.render(view.page(record, PictureSource(folder)))


class Outline(HTMLParser):
    """Tags, attributes and headings of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("case", EDGES)
def test_every_kind_of_record_is_drawn(case: str, tmp_path: Path) -> None:
    record, sentence = EDGES[case]
    page = write(record, tmp_path).read_text("utf-8")
    # &#39; and the like aside, the sentence stands there as it is.
    assert sentence in page.replace(wording.NBSP, " ")
    for text in (page, (tmp_path / "summary.md").read_text("utf-8")):
        assert "None" not in text
        assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", text)
    ElementTree.fromstring((tmp_path / "junit.xml").read_text("utf-8"))


@pytest.mark.parametrize("case", EDGES)
def test_structure(case: str) -> None:
    outline = Outline(draw(EDGES[case][0]))
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
        else:
            assert attributes.get("href") in (None, "data:,")
    assert not outline.all("script")
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(a.get("scope") for a in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))


def test_policy_names_the_one_stylesheet() -> None:
    page = draw(realistic())
    policy = next(a["content"] for a in Outline(page).all("meta") if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.count("<style>") == 1


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    write(hostile(), tmp_path)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "<script" not in page
    assert "49" not in re.findall(r"שלום (\S+)", page)
    for name in ("index.html", "junit.xml", "summary.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert not set(text) & set("\0\x1b\u202e")
    summary = (tmp_path / "summary.md").read_text("utf-8")
    assert "<" not in re.sub(r"\\.", "", summary)
    for line in summary.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", re.sub(r"\\[^|]", "", line))) in (4, 5, 6)


def test_pictures_are_read_from_within_the_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    inside = tmp_path / "report"
    inside.mkdir()
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    (inside / "fake.png").write_text("<svg onload=alert(1)>")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    os.mkfifo(inside / "pipe.png")
    for file, why in {
        "../secret.png": "not a path within",
        str(tmp_path / "secret.png"): "not a path within",
        "link.png": "outside the report",
        "fake.png": "not a PNG",
        "absent.png": "missing",
        "loop.png": "missing",
        "pipe.png": "missing",
        ".": "missing",
        "a" * 5000: "missing",
    }.items():
        picture = PictureSource(inside).load(file, "alt")
        assert picture.src is None
        assert why in picture.note or "missing" in picture.note


def test_each_section_has_its_template_and_anchor() -> None:
    folder = Path(html.__file__).parent / "templates"
    assert {f"sections/{path.name}" for path in (folder / "sections").iterdir()} == {s.template for s in view.SECTIONS}
    for section in view.SECTIONS:
        text = (folder / section.template).read_text("utf-8")
        assert f'<section class="part" id="{section.key}" aria-labelledby="heading-{section.key}">' in text
        assert f'<h2 id="heading-{section.key}">' in text


def test_missing_pictures_leave_a_visible_note(tmp_path: Path) -> None:
    page = draw(realistic(), tmp_path)
    assert page.count("missing beside report.json") == 9
    assert "<img" not in page


def test_small_pictures_are_enlarged_by_pixels(written: Path) -> None:
    images = Outline((written / "index.html").read_text("utf-8")).all("img")
    assert len(images) == 9
    for image in images:
        assert image["class"] == "pixelated"
        assert image["width"] == "32"
        assert len(image["alt"] or "") > 30


def test_rounding_that_undid_an_attack_is_said() -> None:
    page = draw(realistic())
    assert "Rounding to 8 bits undid this attack" in page
    assert "Undone by rounding: still <bdi>otter</bdi>" in page


GATES = [gate("one | two", 4 / 255, 0.1, 0.3), gate("three", None, 0.9, 0.8)]


def _junit(**fields: Any) -> ElementTree.Element:
    return ElementTree.fromstring(junit.render(build([True] * 4, {"PGD": [0.01] * 4}, **fields)))


def test_junit_has_a_case_for_each_gate() -> None:
    root = _junit(gates=GATES)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    failure = root.find("testsuite/testcase[@name='one | two']/failure")
    assert failure is not None
    assert failure.get("message") == "measured 0.10, required 0.30"
    assert root.find("testsuite/testcase[@name='three']/failure") is None
    names = {p.get("name"): p.get("value") for p in root.iter("property")}
    assert names["model"] == "efficientnet-lite0"
    assert names["seed"] == "0"


def test_junit_of_an_incomplete_run_establishes_nothing() -> None:
    root = _junit(gates=GATES, status="incomplete")
    assert (root.get("failures"), root.get("errors")) == ("0", "2")
    assert len(root.findall("testsuite/testcase/error")) == 2
    assert not root.findall("testsuite/testcase/failure")


def test_junit_without_gates_is_empty() -> None:
    assert _junit().get("tests") == "0"


CHECKS = [
    check("first", "pass"),
    check("second", "warn", 0.1),
    check("third", "fail", 1.0),
    check("fourth", "n/a", None),
]
ERROR = check("fifth", "error", None)


@pytest.mark.parametrize(
    ("checks", "status", "word", "text"),
    [
        ([], "complete", "These numbers were not checked", "No checks of the evaluation were run with this audit."),
        (CHECKS[3:], "complete", "These numbers were not checked", "None of the checks could be made."),
        (CHECKS[:1], "complete", "Trust these numbers", "All 1 checks of the evaluation passed."),
        (CHECKS[:2], "complete", "Trust them with reservations", "Of 2 checks of the evaluation 1 warned."),
        (CHECKS, "complete", "Do not trust these numbers", "Of 3 checks of the evaluation 1 failed and 1 warned."),
        ([ERROR], "complete", "Trust them with reservations", "Of 1 checks of the evaluation 1 ended in an error."),
        (
            [*CHECKS, ERROR],
            "complete",
            "Do not trust these numbers",
            "Of 4 checks of the evaluation 1 failed, 1 ended in an error and 1 warned.",
        ),
        (CHECKS[:1], "incomplete", "These numbers were not checked", "the run is incomplete"),
        (CHECKS, "incomplete", "Do not trust these numbers", "the run is incomplete"),
    ],
)
def test_the_verdict_on_the_numbers_is_said_everywhere(
    checks: list[CheckResult], status: str, word: str, text: str
) -> None:
    record = build([True] * 4, {"PGD": [0.01] * 4}, checks=checks, status=status)
    page, summary = draw(record), markdown.render(record)
    for where in (page[: page.index("<nav")], summary):
        assert word in where
        assert text in where
    section = page.partition('id="trust"')[2]
    assert bool(section) == bool(checks)
    for each in checks:
        assert f"{each.id} found" in section or f"Why {each.id} could" in section
        assert (each.remedy in section) == (each.remedy in summary) == (each.status in ("warn", "fail", "error"))


def test_failed_checks_come_first_and_the_passed_are_folded() -> None:
    page = draw(build([True] * 4, {"PGD": [0.01] * 4}, checks=CHECKS))
    section = page.partition('id="trust"')[2]
    places = [
        section.index(f"third. Expected: {CHECKS[2].title}"),
        section.index("second. "),
        section.index("<details>"),
    ]
    assert sorted([*places, section.index(CHECKS[0].title)]) == [*places, section.index(CHECKS[0].title)]
    assert "Measured 1, at most 0." in section


def test_a_failed_check_is_a_failure_of_a_strict_build_alone() -> None:
    gates = [Gate("no check of the evaluation fails", "strict", None, 2 / 3, 1.0, False, "third failed.")]
    loose, strict = _junit(checks=CHECKS), _junit(checks=CHECKS, gates=gates)
    assert (loose.get("tests"), loose.get("failures")) == ("4", "0")
    assert (strict.get("tests"), strict.get("failures")) == ("5", "2")
    for root in (loose, strict):
        suite = root.find("testsuite")
        assert suite is not None
        assert suite.get("skipped") == "1"
        assert len(root.findall("testsuite/testcase/skipped")) == 1
        assert len(root.findall("testsuite/testcase[@classname='robustkit.check']")) == 4
    assert [case.text for case in loose.iter("system-out")][1].startswith("fail: What third found.")  # type: ignore[union-attr]


def test_a_check_that_raised_is_an_error_whatever_the_build() -> None:
    root = _junit(checks=[*CHECKS, ERROR])
    assert (root.get("errors"), root.get("failures")) == ("1", "0")
    (error,) = root.iter("error")
    assert error.get("message") == ERROR.detail
    strict = Gate("no check of the evaluation fails", "strict", None, 0.5, 1.0, False, "fifth raised.")
    record = build([True] * 4, {"PGD": [0.01] * 4}, checks=[CHECKS[0], ERROR], gates=[strict])
    assert AuditRecord.from_json(record.to_json()) == record


def test_summary_stays_short() -> None:
    eps = {i / 255: f"{i}/255" for i in range(1, 60)}
    gates = [gate(f"gate {i}", None, 0.9 if i else 0.1, 0.8) for i in range(50)]
    many = [check(f"check-{i}", "fail") for i in range(30)]
    record = build([True] * 9, {f"A{i}": [0.1] * 9 for i in range(30)}, eps=eps, gates=gates[::-1], checks=many)
    summary = markdown.render(record)
    assert len(summary.splitlines()) < 60
    assert "| gate 0 | Failed |" in summary


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (0, 20, "0 %"),
        (20, 20, "100 %"),
        (17, 20, "85 %"),
        (1, 199, "1 %"),
        (998, 999, "99.9 %"),
        (9999, 10000, "99.99 %"),
        (1, 50000, "0.002 %"),
        (500, 1000, "50.0 %"),
    ],
)
def test_percent_is_nothing_or_everything_only_where_it_is(count: int, total: int, text: str) -> None:
    assert wording.share(Rate.of(count, total)) == text.replace(" ", wording.NBSP)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4 / 255, "4/255"),
        (0.5 / 255, "0.5/255"),
        (0.3, "0.3"),
        (1.0, "1"),
        (0.1, "0.1"),
        (0.2, "0.2"),
        (7.5 / 255, "7.5/255"),
        (0.007, "0.007"),
        (3.0, "3"),
    ],
)
def test_eps_is_read_in_levels(value: float, text: str) -> None:
    assert wording.eps(value) == text
