"""Curves: robust accuracy over ε, over the size of the change, and over queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...record.audit_record import AuditRecord
from .. import wording
from ..tables import spaced
from .drawing import Chart, chart, line_style
from .inline_svg import ROLES
from .series import Series, certified_series, select_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_STEPS = 400  # points of a cumulative line; more cannot be told apart
_MOST_PANELS = 3


def robust_chart(record: AuditRecord, series: list[Series]) -> Chart | None:
    """Draw robust accuracy over ε with 95 % intervals; None where there is no ε or nothing was judged."""
    clean = record.clean.value
    drawn, note = select_lines(record, [s for s in series if any(point.robust.total for point in s.curve)])
    certain = certified_series(record)
    if certain is not None and any(point.robust.total for point in certain.curve):
        drawn = [*drawn, certain]
    texts = {point.eps: wording.clean(point.text, 12) for point in record.worst_case}
    if clean is None or not drawn:
        return None

    def draw(panels: list[Axes], wide: bool) -> None:
        (axes,) = panels
        largest = record.eps[-1]
        # Side by side, so that intervals do not cover each other.
        step = largest * min(0.006 if wide else 0.012, 0.04 / len(drawn))
        if certain is not None:
            _band(axes, record, certain)
        for i, line in enumerate(drawn):
            shift = (i - (len(drawn) - 1) / 2) * step
            points = [p for p in line.curve if p.robust.total]
            x = [p.eps + shift for p in points]
            axes.plot(
                [0, *x],
                [clean, *(p.robust.value or 0.0 for p in points)],
                **line_style(line),
                markevery=slice(1, None),
            )
            if len(drawn) <= 5 or line.key == "worst":
                low, high = [p.robust.low or 0.0 for p in points], [p.robust.high or 0.0 for p in points]
                axes.vlines(x, low, high, color=ROLES[line.colour], linewidth=1.1)
        axes.plot([0], [clean], marker="D", color=ROLES["ink"], markersize=6, linestyle="none", clip_on=False)
        axes.set_xlim(-0.02 * largest, 1.05 * largest)
        ticks = legible_ticks([0.0, *record.eps], 0.085 if wide else 0.17)
        axes.set_xticks(ticks, ["0", *(texts[tick] for tick in ticks[1:])])
        axes.set_xlabel(f"ε ({wording.NORMS[record.norm]})")

    first, last = drawn[0], [p for p in drawn[0].curve if p.robust.total][-1]
    description = (
        f"Robust accuracy over ε. Without attack {wording.share(record.clean)}; "
        f"{first.title} at ε = {texts[last.eps]}: {wording.share(last.robust)}, "
        f"95 % interval {wording.interval(last.robust)}. The table below has every figure."
    )
    return chart("robust", "Robust accuracy over ε", description, draw, lines=drawn, note=note)


def _band(axes: Axes, record: AuditRecord, certain: Series) -> None:
    """Fill the band in which true robust accuracy lies: above what is certain, below what the attacks left."""
    pairs = [pair for pair in zip(record.worst_case, certain.curve, strict=False) if pair[0].robust.total]
    x = [0.0, *(point.eps for point, _ in pairs)]
    top, bottom = (
        [record.clean.value or 0.0, *(p.robust.value or 0.0 for p in line)] for line in zip(*pairs, strict=True)
    )
    axes.fill_between(x, bottom, top, color=ROLES["rule"], linewidth=0, alpha=0.55)


def distortion_chart(record: AuditRecord, series: list[Series]) -> Chart | None:
    """Draw robust accuracy over the size of the change; None where nothing broke.

    Attacks that search the smallest change, beside the worst case over all attacks and the controls; without any
    of them, all attacks.
    """
    minimum = any(s.kind == "minimum" and not s.control for s in series)
    asked = [s for s in series if s.key == "worst" or s.kind == "minimum" or s.control or not minimum]
    drawn, note = select_lines(record, [s for s in asked if any(s.distances)])
    found = [d for s in drawn for d in s.distances if d]
    if not found:
        return None
    scale = 255.0 if record.norm == "linf" else 1.0
    smallest, largest = min(found) * scale, max(found) * scale
    logarithmic = largest > 30 * smallest

    def draw(panels: list[Axes], wide: bool) -> None:
        (axes,) = panels
        left = smallest / 1.3 if logarithmic else 0.0
        right = largest * (1.3 if logarithmic else 1.05)
        for line in drawn:
            before = sum(d == 0 for d in line.distances) / len(line.distances)
            x, y = cumulative([d for d in line.distances if d], len(line.distances))
            x = [left, *(v * scale for v in x), right]
            y = [1 - before, *(1 - before - share for share in y)]
            every = max(1, len(x) // (10 if wide else 6))
            axes.step(x, [*y, y[-1]], where="post", **line_style(line), markevery=slice(1, -1, every))
        axes.set_xlim(left, right)
        if logarithmic:
            _logarithmic(axes)
        unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
        axes.set_xlabel(f"size of the change ({wording.NORMS[record.norm]}, {unit})")

    median = record.worst_distance.median
    half = "" if median is None else f" The median of the worst case is {wording.distance(median, record.norm)}."
    description = f"Share of samples still right once each may be changed by so much, for each attack.{half}"
    title = "Robust accuracy over the size of the change"
    return chart("distortion", title, description + " The table below has quantiles.", draw, lines=drawn, note=note)


def queries_chart(record: AuditRecord, series: list[Series]) -> Chart | None:
    """Draw robust accuracy over the queries of black-box attacks, a panel for each ε or for three of them."""
    drawn, note = select_lines(record, [s for s in series if s.arrived and s.distances])
    if not drawn:
        return None
    grid = range(len(record.eps))
    shown = [grid[i] for i in spaced(len(grid), _MOST_PANELS)]
    most = max([2, *(q for s in drawn for column in s.arrived for q in [s.budget, *column] if q is not None)])
    texts = [wording.clean(point.text, 12) for point in record.worst_case]

    def draw(panels: list[Axes], wide: bool) -> None:
        for axes, k in zip(panels, shown, strict=True):
            for line in drawn:
                total = len(line.distances)
                before = sum(d == 0 for d in line.distances) / total
                x, y = cumulative([float(max(1, q)) for q in line.arrived[k] if q is not None], total)
                ends = [1 - before, *(1 - before - share for share in y)]
                every = max(1, (len(x) + 2) // (5 if len(shown) > 1 else 10))
                x, ends = [1.0, *x, float(most)], [*ends, ends[-1]]
                axes.step(x, ends, where="post", **line_style(line), markevery=slice(1, None, every))
            axes.set_xlim(1, most * 1.15)
            _logarithmic(axes)
            axes.set_title(f"ε = {texts[k]}")
            if axes is panels[-1] or wide:
                axes.set_xlabel("queries of a sample")

    ends = [f"{line.title} {wording.share(line.curve[-1].robust)}" for line in drawn]
    description = (
        f"Share of samples still right once so many queries were spent on each. In the end, at ε = {texts[-1]}: "
        f"{', '.join(ends)}."
    )
    title = "Robust accuracy over queries"
    return chart("queries", title, description, draw, lines=drawn, note=note, panels=len(shown))


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: wording.number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_xlim()
    if high > 100 * low:  # decades say enough, and the ticks between them are most of the time it takes to draw
        axes.xaxis.set_minor_locator(NullLocator())


def cumulative(found: list[float], total: int) -> tuple[list[float], list[float]]:
    """Compute the cumulative distribution of `found` over `total` samples: where it steps, and to which share.

    At most about 400 points; the last stays.
    """
    found = sorted(found)
    last = {value: (i + 1) / total for i, value in enumerate(found)}  # the highest rank among equals
    steps = list(last.items())
    stride = max(1, math.ceil(len(steps) / _MOST_STEPS))
    kept = steps[::stride] + ([steps[-1]] if (len(steps) - 1) % stride else [])
    return [x for x, _ in kept], [y for _, y in kept]


def legible_ticks(values: Sequence[float], gap: float) -> list[float]:
    """Select the values whose labels have room: the first, the last, and between them what stays `gap` apart.

    Args:
        values: ascending, at least two.
        gap: as a share of their range.
    """
    kept = [values[0]]
    span = values[-1] - values[0]
    for value in values[1:-1]:
        if value - kept[-1] >= gap * span and values[-1] - value >= gap * span:
            kept.append(value)
    return [*kept, values[-1]]
