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
    """Render the page as HTML text."""
    from markupsafe import Markup

    style = _environment().get_template("style.css").render().strip()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    template = _environment().get_template("page.html")
    # Markup: the stylesheet as shipped, without names from outside.
    return template.render(page=page, style=Markup(style), style_hash=f"sha256-{digest}")


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
