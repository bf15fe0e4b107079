"""The curves: drawn by matplotlib, then turned into SVG that takes its colours from the page.

The page's content security policy forbids style attributes, so every declaration becomes a presentation
attribute, and every colour a class which the stylesheet fills in for light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import words
from .record import AuditRecord, EpsPoint
from .svg import ROLES, to_inline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Marker for matplotlib, the same marker as an SVG path around (0, 0), dashes in line widths.
_STYLES: list[tuple[str, str, tuple[float, ...]]] = [
    ("o", "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z", ()),
    ("s", "M-3.6-3.6H3.6V3.6H-3.6Z", (5, 2)),
    ("^", "M0-4.4L4.4 4H-4.4Z", (1.5, 1.5)),
    ("D", "M0-5L5 0L0 5L-5 0Z", (6, 2, 1.5, 2)),
    ("v", "M0 4.4L4.4-4H-4.4Z", (3, 3)),
    ("P", "M-1.6-4.4H1.6V-1.6H4.4V1.6H1.6V4.4H-1.6V1.6H-4.4V-1.6H-1.6Z", (9, 3)),
]
_COLOURS = 6
_MOST_STEPS = 400  # points of a cumulative line; more cannot be told apart


@dataclass(frozen=True)
class Series:
    """A line of the charts and its sign in the legend."""

    key: str  # "worst" or "attack-0"
    title: str
    colour: str  # role, see the stylesheet
    marker: str
    path: str
    dashes: tuple[float, ...]
    curve: list[EpsPoint]
    distances: list[float | None]  # one a judged sample; 0 where it was wrong before

    @property
    def dash_array(self) -> str:
        return " ".join(f"{2 * dash:g}" for dash in self.dashes)


@dataclass(frozen=True)
class Chart:
    """One chart in two shapes; the stylesheet shows the one that fits."""

    key: str
    title: str
    description: str
    wide: str
    narrow: str


def series_of(record: AuditRecord) -> list[Series]:
    """The worst case and every attack; a single attack is the worst case, and drawn once."""
    s = record.samples
    wrong = [label != seen for label, seen in zip(s.labels, s.predictions, strict=True)]
    series = []
    if len(record.attacks) > 1:
        series.append(Series("worst", "Worst case", "ink", "", "", (), record.worst_case, s.distances))
    for i, attack in enumerate(record.attacks):
        marker, path, dashes = _STYLES[(i + i // _COLOURS) % len(_STYLES)]
        found = [0.0 if wrong[k] else attack.distances[k] for k in range(attack.judged)]
        title = words.clean(attack.title, 60)
        colour = f"c{i % _COLOURS}"
        series.append(Series(f"attack-{i}", title, colour, marker, path, dashes, attack.curve, found))
    return series


def robust_chart(record: AuditRecord, series: list[Series]) -> Chart | None:
    """Robust accuracy over ε with 95 % intervals; None where there is no ε or nothing was judged."""
    clean = record.clean.value
    drawn = [s for s in series if any(point.robust.total for point in s.curve)]
    texts = {point.eps: words.clean(point.text, 12) for point in record.worst_case}
    if clean is None or not drawn:
        return None

    def draw(axes: Axes, wide: bool) -> None:
        largest = record.eps[-1]
        for i, line in enumerate(drawn):
            # Side by side, so that intervals do not cover each other.
            shift = (i - (len(drawn) - 1) / 2) * largest * (0.006 if wide else 0.012)
            points = [p for p in line.curve if p.robust.total]
            x = [p.eps + shift for p in points]
            axes.plot(
                [0, *x],
                [clean, *(p.robust.value or 0.0 for p in points)],
                **_look(line),
                markevery=slice(1, None),
            )
            if len(drawn) <= 5 or line.key == "worst":
                low, high = [p.robust.low or 0.0 for p in points], [p.robust.high or 0.0 for p in points]
                axes.vlines(x, low, high, color=ROLES[line.colour], linewidth=1.1)
        axes.plot([0], [clean], marker="D", color=ROLES["ink"], markersize=6, linestyle="none", clip_on=False)
        axes.set_xlim(-0.02 * largest, 1.05 * largest)
        ticks = _apart([0.0, *record.eps], 0.085 if wide else 0.17)
        axes.set_xticks(ticks, ["0", *(texts[tick] for tick in ticks[1:])])
        axes.set_xlabel(f"ε ({words.NORMS[record.norm]})")

    first, last = drawn[0], [p for p in drawn[0].curve if p.robust.total][-1]
    description = (
        f"Robust accuracy over ε. Without attack {words.share(record.clean)}; "
        f"{first.title} at ε = {texts[last.eps]}: {words.share(last.robust)}, "
        f"95 % interval {words.interval(last.robust)}. The table below has every figure."
    )
    return _chart("robust", "Robust accuracy over ε", description, draw)


def distortion_chart(record: AuditRecord, series: list[Series]) -> Chart | None:
    """Share of samples broken by a change of at most so much; None where nothing broke."""
    drawn = [s for s in series if any(s.distances)]
    found = [d for s in drawn for d in s.distances if d]
    if not found:
        return None
    scale = 255.0 if record.norm == "linf" else 1.0
    smallest, largest = min(found) * scale, max(found) * scale
    logarithmic = largest > 30 * smallest

    def draw(axes: Axes, wide: bool) -> None:
        left = smallest / 1.3 if logarithmic else 0.0
        right = largest * (1.3 if logarithmic else 1.05)
        for line in drawn:
            x, y = _steps([d for d in line.distances if d is not None], len(line.distances))
            x = [left, *(max(left, v * scale) for v in x), right]
            y = [0.0, *y, y[-1]]
            every = max(1, len(x) // (10 if wide else 6))
            axes.step(x, y, where="post", **_look(line), markevery=slice(1, -1, every))
        if logarithmic:
            axes.set_xscale("log")
            from matplotlib.ticker import FuncFormatter, NullFormatter

            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.number(value)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left, right)
        unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
        axes.set_xlabel(f"smallest change found ({words.NORMS[record.norm]}, {unit})")

    median = record.worst_distance.median
    half = "" if median is None else f" The median is {words.distance(median, record.norm)}."
    description = f"Share of samples broken by a change of at most so much, for each attack.{half}"
    return _chart(
        "distortion",
        "Samples broken by a change of at most so much",
        description + " The table below has quantiles.",
        draw,
    )


def _look(line: Series) -> dict[str, Any]:
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


def _steps(found: list[float], total: int) -> tuple[list[float], list[float]]:
    found = sorted(found)
    last = {value: (i + 1) / total for i, value in enumerate(found)}  # the highest rank among equals
    steps = list(last.items())
    stride = max(1, math.ceil(len(steps) / _MOST_STEPS))
    kept = steps[::stride] + ([steps[-1]] if (len(steps) - 1) % stride else [])
    return [x for x, _ in kept], [y for _, y in kept]


def _apart(values: Sequence[float], gap: float) -> list[float]:
    """Those values whose labels have room: the first, the last, and between them what stays `gap` apart."""
    kept = [values[0]]
    span = values[-1] - values[0]
    for value in values[1:-1]:
        if value - kept[-1] >= gap * span and values[-1] - value >= gap * span:
            kept.append(value)
    return [*kept, values[-1]]


def _chart(key: str, title: str, description: str, draw: Callable[[Axes, bool], None]) -> Chart:
    shapes = {"wide": (10.0, 4.3, 12.0), "narrow": (4.9, 4.2, 12.0)}
    wide, narrow = (
        _svg(f"{key}-{shape}", title, description, size, draw, shape == "wide") for shape, size in shapes.items()
    )
    return Chart(key, title, description, wide, narrow)


def _svg(
    key: str,
    title: str,
    description: str,
    size: tuple[float, float, float],
    draw: Callable[[Axes, bool], None],
    wide: bool,
) -> str:
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height, points = size
    settings: Any = {
        "svg.hashsalt": key,
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",  # comes with matplotlib; the page's own font is narrower
        "font.size": points,
        "axes.labelcolor": ROLES["muted"],
        "axes.labelsize": points,
        "axes.edgecolor": ROLES["muted"],
        "xtick.color": ROLES["muted"],
        "ytick.color": ROLES["muted"],
        "path.simplify": False,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes, wide)
        axes.set_ylim(-0.02, 1.02)
        ticks = [0, 0.25, 0.5, 0.75, 1]
        axes.set_yticks(ticks, [f"{100 * tick:.0f} %" for tick in ticks])
        axes.grid(axis="y", color=ROLES["rule"], linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "left", "right"):
            axes.spines[side].set_visible(False)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.tick_params(axis="x", length=4)
        out = io.BytesIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return to_inline(out.getvalue(), key, title, description)
