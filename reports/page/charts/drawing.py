"""Drawing of a chart as inline SVG: matplotlib draws it in two shapes, the page's stylesheet gives its colours.

The page's content security policy forbids style attributes, so every declaration becomes a presentation
attribute, and every colour a class which the stylesheet fills in for light, dark and print.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .inline_svg import ROLES, to_inline
from .series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["list[Axes]", bool], None]  # onto the panels, of the wide shape or the narrow one
_POINTS = 12.0


@dataclass(frozen=True)
class Chart:
    """Chart in two shapes; the stylesheet shows the one that fits."""

    key: str
    title: str
    description: str
    wide: str
    narrow: str
    series: list[Series] = field(default_factory=list)  # of its legend
    note: str = ""


def line_style(line: Series) -> dict[str, Any]:
    """Describe a line to matplotlib, as the keywords of `plot`."""
    worst = line.key == "worst"
    return {
        "color": ROLES[line.colour],
        "marker": line.marker,
        "linewidth": 2.6 if worst else 1.6,
        "markersize": 5.5,
        "linestyle": (0, line.dashes) if line.dashes else "-",
        "dash_capstyle": "butt",
        "solid_capstyle": "butt",
    }


def chart(
    key: str, title: str, description: str, draw: Draw, *, lines: list[Series], note: str, panels: int = 1
) -> Chart:
    """Draw a chart in both shapes; `panels` side by side in the wide one, under each other in the narrow one."""
    sizes = {"wide": (10.0, 4.3 if panels == 1 else 3.8), "narrow": (4.9, 4.2 if panels == 1 else 3.1 * panels)}
    shapes = {}
    for shape, size in sizes.items():
        drawn = _svg(f"{key}-{shape}", size, draw, panels, wide=shape == "wide")
        shapes[shape] = to_inline(drawn, f"{key}-{shape}", title, description)
    wide, narrow = shapes["wide"], shapes["narrow"]
    return Chart(key=key, title=title, description=description, wide=wide, narrow=narrow, series=lines, note=note)


def _svg(salt: str, size: tuple[float, float], draw: Draw, panels: int, *, wide: bool) -> bytes:
    """Let matplotlib draw; ids in the SVG follow from `salt` and the content, `size` is in inches."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": salt,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",  # comes with matplotlib; the page's own font is narrower
        "font.size": _POINTS,
        "axes.labelcolor": ROLES["muted"],
        "axes.labelsize": _POINTS,
        "axes.titlesize": _POINTS,
        "axes.titlecolor": ROLES["ink"],
        "axes.titlelocation": "left",
        "axes.edgecolor": ROLES["muted"],
        "xtick.color": ROLES["muted"],
        "ytick.color": ROLES["muted"],
        "path.simplify": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        shape = (1, panels) if wide else (panels, 1)
        every = list(figure.subplots(*shape, squeeze=False).flat)
        draw(every, wide)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        for axes in every:
            axes.set_ylim(-0.02, 1.02)
            labelled = not wide or axes is every[0]
            axes.set_yticks(ticks, [f"{100 * tick:.0f} %" if labelled else "" for tick in ticks])
            axes.grid(axis="y", color=ROLES["rule"], linewidth=0.8)
            axes.set_axisbelow(True)
            for side in ("top", "left", "right"):
                axes.spines[side].set_visible(False)
            axes.tick_params(axis="y", length=0, pad=8)
            axes.tick_params(axis="x", length=4)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()
