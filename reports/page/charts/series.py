"""Lines of the charts: each with the curve that it draws, and with a sign that tells it apart without colour."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...record.audit_record import AuditRecord
from ...record.parts import EpsPoint
from ...record.ranking import bounded, ranked
from .. import wording

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
_CONTROLS: list[tuple[float, ...]] = [(3, 2), (1, 2), (6, 2)]
MOST = 8  # attacks in one chart; more lines cannot be told apart


@dataclass(frozen=True)
class Series:
    """Line of the charts and its sign in the legend."""

    key: str  # "worst", "certified" or "attack-0"
    title: str
    colour: str  # role, see the stylesheet
    marker: str  # of matplotlib; "" for none
    path: str  # the same marker as SVG
    dashes: tuple[float, ...]  # in line widths; none for a whole line
    curve: list[EpsPoint]
    distances: list[float | None]  # one a judged sample; 0 where it was wrong before
    kind: str = ""
    control: bool = False
    arrived: list[list[int | None]] = field(default_factory=list)
    budget: int = 0  # queries it may spend on a sample, 0 where that is not known

    @property
    def dash_array(self) -> str:
        """Dashes as SVG writes them, for a line of width 2."""
        return " ".join(f"{2 * dash:g}" for dash in self.dashes)


def series_of(record: AuditRecord) -> list[Series]:
    """Give the worst case and every attack of it a line; a single attack is the worst case, and drawn once."""
    s = record.samples
    wrong = [label != seen for label, seen in zip(s.labels, s.predictions, strict=True)]
    places, order = bounded(record), ranked(record)
    # Colours are few: where attacks are many, the strongest get those that differ.
    order = order if len(order) > _COLOURS else sorted(order)
    controls = [place for place in places if place not in order]
    series = []
    if len(places) > 1:
        series.append(
            Series(
                key="worst",
                title="Worst case",
                colour="ink",
                marker="",
                path="",
                dashes=(),
                curve=record.worst_case,
                distances=s.distances,
            )
        )
    for place in places:
        attack = record.attacks[place]
        if attack.control:
            colour, marker, path = "muted", "", ""
            dashes = _CONTROLS[controls.index(place) % len(_CONTROLS)]
        else:
            i = order.index(place)
            colour = f"c{i % _COLOURS}"
            marker, path, dashes = _STYLES[(i + i // _COLOURS) % len(_STYLES)]
        queries = attack.parameters.get("queries")
        series.append(
            Series(
                key=f"attack-{place}",
                title=wording.clean(attack.title, 60),
                colour=colour,
                marker=marker,
                path=path,
                dashes=dashes,
                curve=attack.curve,
                distances=[0.0 if wrong[k] else attack.distances[k] for k in range(attack.judged)],
                kind=attack.kind,
                control=attack.control,
                arrived=[column[: attack.judged] for column in attack.arrived],
                budget=queries if isinstance(queries, int) else 0,
            )
        )
    return series


def certified_series(record: AuditRecord) -> Series | None:
    """Give certified accuracy a line; None where nothing was certified."""
    found = record.certified
    if found is None:
        return None
    points = [
        EpsPoint(point.eps, point.text, rate, point.success, 0)
        for point, rate in zip(record.worst_case, found.curve, strict=False)
    ]
    cross = "M-4-2.6L-2.6-4L0-1.4L2.6-4L4-2.6L1.4 0L4 2.6L2.6 4L0 1.4L-2.6 4L-4 2.6L-1.4 0Z"
    return Series(
        key="certified",
        title=f"Certified ({wording.clean(found.title, 40)})",
        colour="ink",
        marker="X",
        path=cross,
        dashes=(2, 1.5),
        curve=points,
        distances=[],
    )


def select_lines(record: AuditRecord, series: list[Series]) -> tuple[list[Series], str]:
    """Select as many lines as one chart can hold, the strongest attacks first; a note tells of those left out."""
    attacks = [line for line in series if line.key != "worst" and not line.control]
    order = {f"attack-{place}": rank for rank, place in enumerate(ranked(record))}
    kept = {line.key for line in sorted(attacks, key=lambda line: order[line.key])[:MOST]}
    note = "" if len(kept) == len(attacks) else f"The {MOST} strongest of {len(attacks)} attacks; the tables have all."
    lines = [line for line in series if line.key in kept or line.key == "worst"]
    return [*lines, *[line for line in series if line.control][: len(_CONTROLS)]], note
