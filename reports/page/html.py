"""index.html: one file, no script, no request."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING

from .view import Page

if TYPE_CHECKING:
    from jinja2 import Environment


def render(page: Page) -> str:
    """The page as HTML text."""
    from markupsafe import Markup

    style = _environment().get_template("style.css").render().strip()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    # Ours and without names from outside: the stylesheet as shipped, and SVG serialised by ElementTree.
    charts = {
        chart.key: (Markup(chart.wide), Markup(chart.narrow))
        for chart in (page.robust_chart, page.queries_chart, page.distortion_chart)
        if chart is not None
    }
    template = _environment().get_template("page.html")
    return template.render(page=page, charts=charts, style=Markup(style), style_hash=f"sha256-{digest}")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    assert __package__ is not None
    return Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
