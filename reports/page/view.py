"""View of a record: everything that index.html shows, section by section. No HTML here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..record.audit_record import AuditRecord
from ..record.ranking import bounded
from . import wording
from .attack_tables import attack_tables, other_tables, transfer_tables
from .background import Fact, caveats, made
from .certified_section import Certificate, certificate
from .charts.curves import distortion_chart, queries_chart, robust_chart
from .charts.drawing import Chart
from .charts.series import Series, series_of
from .checks_section import Trust, trust
from .first_screen import BARS, Bar, Headline, Verdict, bars, headline, incomplete, setting, verdict
from .pictures import Pair, PictureSource, pairs
from .tables import Table, confidence_table, distortion_table, overview_table, robust_table, sample_table


@dataclass(frozen=True)
class Page:
    """Content of index.html, from top to bottom."""

    model: str
    data: str
    setting: str
    created: str
    incomplete: str | None
    headline: Headline
    bars: list[Bar]
    bars_title: str
    bars_left_out: bool
    verdict: Verdict
    trust: Trust
    pairs: list[Pair]
    series: list[Series]
    measured: bool  # by a norm: off where all attacks are of the kind that none measures
    robust_chart: Chart | None
    overview_table: Table
    robust_table: Table
    certificate: Certificate | None
    queries_chart: Chart | None
    distortion_chart: Chart | None
    distortion_table: Table
    transfer_tables: list[Table]
    other_tables: list[Table]
    confidence_table: Table
    attack_tables: list[Table]
    sample_table: Table
    skipped: list[Fact]
    made: list[Fact]
    command: str
    caveats: list[Fact]

    @property
    def sections(self) -> list[Section]:
        """Sections that this page has, from top to bottom."""
        return [section for section in SECTIONS if section.shown(self)]


def page(record: AuditRecord, source: PictureSource) -> Page:
    """Build everything that the page says about `record`; `source` gives the comparisons' pictures."""
    series = series_of(record)
    return Page(
        model=wording.clean(record.model.title),
        data=wording.clean(record.data.title),
        setting=setting(record),
        created=wording.moment(record.run.created),
        incomplete=incomplete(record),
        headline=headline(record),
        bars=bars(record, BARS),
        bars_title="Samples still right" + (", worst case over all attacks" if bounded(record) else ""),
        bars_left_out=len(record.worst_case) > BARS,
        verdict=verdict(record),
        trust=trust(record),
        pairs=pairs(record, source),
        series=series,
        measured=bool(bounded(record)) or not record.attacks,
        robust_chart=robust_chart(record, series),
        overview_table=overview_table(record),
        robust_table=robust_table(record),
        certificate=certificate(record),
        queries_chart=queries_chart(record, series),
        distortion_chart=distortion_chart(record, series),
        distortion_table=distortion_table(record),
        transfer_tables=transfer_tables(record),
        other_tables=other_tables(record),
        confidence_table=confidence_table(record),
        attack_tables=attack_tables(record),
        sample_table=sample_table(record),
        skipped=[Fact(wording.clean(s.file), wording.clean(s.reason, 300)) for s in record.data.skipped],
        made=made(record),
        command=wording.clean(record.run.command, 4000),
        caveats=caveats(record),
    )


@dataclass(frozen=True)
class Section:
    """A section of the page below its first screen, drawn by templates/sections/KEY.html."""

    key: str  # its anchor too
    entry: str  # in the navigation; "" for none
    shown: Callable[[Page], object] = lambda page: True  # left out where this is false or empty

    @property
    def template(self) -> str:
        return f"sections/{self.key}.html"


# From top to bottom.
SECTIONS = (
    Section("pictures", "Pictures", lambda page: page.pairs),
    Section("robustness", "Robust accuracy", lambda page: page.measured),
    Section("certified", "What is certain", lambda page: page.certificate),
    Section("queries", "Queries", lambda page: page.queries_chart),
    Section("distortion", "Size of the change", lambda page: page.measured),
    Section("transfer", "Transfer", lambda page: page.transfer_tables),
    Section("other", "Other changes", lambda page: page.other_tables),
    Section("confidence", "Confidence"),
    Section("attacks", "Attacks"),
    Section("trust", "Can they be trusted?", lambda page: page.trust.checked),
    Section("samples", "Samples"),
    Section("gates", "", lambda page: page.verdict.rows),
    Section("made", "How it was made"),
    Section("meaning", "What it means"),
)
