"""Reports of an audit: report.json, index.html, junit.xml and summary.md, from plain data alone."""

from .figures import Rate, Spread
from .files import read, redraw, write
from .reading import RecordError
from .record import (
    Adapted,
    Answer,
    AttackResult,
    AuditRecord,
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
from .verdicts import CheckResult

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
