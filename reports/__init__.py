"""Reports of an audit: report.json, index.html, junit.xml and summary.md, from plain data alone."""

from .formats.files import read, redraw, write
from .record.audit_record import AuditRecord
from .record.parts import (
    Adapted,
    Answer,
    AttackResult,
    Cell,
    Certified,
    Comparison,
    DataInfo,
    EpsPoint,
    Gate,
    ModelInfo,
    Picture,
    RunInfo,
    Samples,
    Skipped,
    Transfer,
)
from .record.reading import RecordError
from .record.statistics import Rate, Spread
from .record.verdicts import CheckResult

__all__ = [
    "Adapted",
    "Answer",
    "AttackResult",
    "AuditRecord",
    "Cell",
    "Certified",
    "CheckResult",
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
    "Transfer",
    "read",
    "redraw",
    "write",
]
