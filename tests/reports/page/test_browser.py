"""The page in a real browser, as a reader opens it: from the disk, with JavaScript off."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from report_edges import EDGES
from report_suite import suite

from robustkit.reports import write

pytestmark = pytest.mark.browser
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
# What the first screen must answer: model, data, how bad, on how many samples, whether to trust it, the gates.
ANSWERS = [
    "h1",
    ".subject p >> nth=0",
    ".subject .setting",
    ".figure",
    ".sentence",
    ".first .trust",
    ".first .gates:not(.trust)",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing: the CI must run the browser tests")
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(
    scope="module", params=["realistic", "hostile", "incomplete", "many eps", "minimum only", "suite", "twenty attacks"]
)
def report(request: pytest.FixtureRequest, written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "realistic":
        return written / "index.html"
    return write(EDGES[request.param][0], tmp_path_factory.mktemp("edge"))


def opened(browser: Browser, report: Path, **context: Any) -> tuple[Page, list[str], list[str]]:
    """The page, with what it wrote to the console and what it asked for."""
    page = browser.new_context(**context).new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    return page, said, [url for url in asked if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_opens_without_script_request_or_complaint(
    browser: Browser, report: Path, size: dict[str, int], scheme: str
) -> None:
    page, said, asked = opened(browser, report, viewport=size, color_scheme=scheme, java_script_enabled=False)
    assert said == []
    assert asked == [report.as_uri()]
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(253, 253, 252)" if scheme == "light" else "rgb(18, 20, 23)")
    page.context.close()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_first_screen_answers(browser: Browser, written: Path, size: dict[str, int]) -> None:
    page, _, _ = opened(browser, written / "index.html", viewport=size, java_script_enabled=False)
    for answer in ANSWERS:
        box = page.locator(answer).bounding_box()
        assert box is not None, answer
        assert box["y"] + box["height"] <= size["height"], answer
    assert "Do not trust these numbers" in page.locator(".first .trust").inner_text()
    assert "Gates: failed" in page.locator(".first .gates:not(.trust)").inner_text()
    page.context.close()


@pytest.mark.parametrize("width", [320, 390, 640, 1000, 1280])
def test_page_never_scrolls_sideways(browser: Browser, report: Path, width: int) -> None:
    page, _, _ = opened(browser, report, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_pictures_decode(browser: Browser, written: Path) -> None:
    page, _, _ = opened(browser, written / "index.html")
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert widths == [32] * 9
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_axe_finds_nothing_serious(browser: Browser, report: Path, size: dict[str, int], scheme: str) -> None:
    # axe is a script, which the page's own policy forbids.
    page, _, _ = opened(browser, report, viewport=size, color_scheme=scheme, bypass_csp=True)
    found = Axe().run(page).response["violations"]
    serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in serious] == []
    page.context.close()


def test_keyboard_reaches_the_tables_and_shows_where_it_is(browser: Browser, written: Path) -> None:
    page, _, _ = opened(browser, written / "index.html", viewport=PHONE)
    page.keyboard.press("Tab")
    box = page.locator(".skip").bounding_box()
    assert box is not None
    assert box["y"] >= 0
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    regions = page.locator(".scroll")
    for i in range(regions.count()):
        assert regions.nth(i).get_attribute("tabindex") == "0"
    regions.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.context.close()


def test_prints(browser: Browser, report: Path) -> None:
    page, _, _ = opened(browser, report, java_script_enabled=False)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.context.close()


def test_a_large_report_is_drawn_in_time(browser: Browser, tmp_path: Path) -> None:
    # What a browser draws are elements: of ten times as many samples it gets hardly more.
    elements = []
    for samples in (1_000, 10_000):
        report = write(suite(samples, more=14), tmp_path)
        assert report.stat().st_size < 5_000_000
        page, _, _ = opened(browser, report)
        assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") > 0
        elements.append(page.evaluate("document.getElementsByTagName('*').length"))
        page.context.close()
    assert elements[1] < min(1.1 * elements[0], 20_000)
