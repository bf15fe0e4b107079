"""Every output against the one kept in tests/reports/gold.

After a change that is meant, `ROBUSTKIT_REGOLD=1 pytest tests/reports/formats/test_gold.py` writes them anew;
read the difference before you commit it. What a library's version may change is masked: the drawings, which
page/test_charts.py looks at, the PNG bytes, and the stylesheet, which the browser tests look at.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

GOLD = Path(__file__).parents[1] / "gold"


def masked(text: str) -> str:
    text = re.sub(r'(<svg viewBox=")[^"]*(" class="chart \w+").*?</svg>', r"\1…\2>…</svg>", text, flags=re.DOTALL)
    text = re.sub(r"<style>.*?</style>", "<style>…</style>", text, flags=re.DOTALL)
    text = re.sub(r"sha256-[\w+/=]+", "sha256-…", text)
    return re.sub(r"data:image/png;base64,[\w+/=]+", "data:image/png;base64,…", text)


@pytest.mark.parametrize("name", ["report.json", "index.html", "junit.xml", "summary.md"])
def test_output_is_as_kept(written: Path, name: str) -> None:
    text = masked((written / name).read_text("utf-8"))
    if os.environ.get("ROBUSTKIT_REGOLD") == "1":
        GOLD.mkdir(parents=True, exist_ok=True)
        (GOLD / name).write_text(text, "utf-8")
    assert text == (GOLD / name).read_text("utf-8")


def test_suite_is_as_kept(written_suite: Path) -> None:
    text = masked((written_suite / "index.html").read_text("utf-8"))
    if os.environ.get("ROBUSTKIT_REGOLD") == "1":
        (GOLD / "suite.html").write_text(text, "utf-8")
    assert text == (GOLD / "suite.html").read_text("utf-8")
