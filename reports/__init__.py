"""Reports of an audit: report.json, index.html, junit.xml and summary.md, from plain data alone."""

from .files import read, redraw, write
from .record import (
    AttackResult,
    AuditRecord,
    Comparison,
    DataInfo,
    EpsPoint,
    Gate,
    ModelInfo,
    Picture,
    Rate,
    RecordError,
    RunInfo,
    Samples,
    Skipped,
    Spread,
)

__all__ = [
    "AttackResult",
    "AuditRecord",
    "Comparison",
    "DataInfo",
    "EpsPoint",
    "Gate",
    "ModelInfo",
    "Picture",
    "Rate",
    "RecordError",
    "RunInfo",
    "Samples",
    "Skipped",
    "Spread",
    "read",
    "redraw",
    "write",
]
