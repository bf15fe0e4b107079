"""robustkit: adversarial robustness audits for image classifiers.

Importing it costs nothing: torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from robustkit import attacks, reports
    from robustkit.auditing.certified_audit import certify
    from robustkit.auditing.run import audit
    from robustkit.certification import Bounds, Smoothing
    from robustkit.data.load import load_data
    from robustkit.models.kinds.maite import to_maite
    from robustkit.models.load import load_model

__all__ = [
    "Bounds",
    "Smoothing",
    "__version__",
    "attacks",
    "audit",
    "certify",
    "load_data",
    "load_model",
    "reports",
    "to_maite",
]

_HOMES = {
    "Bounds": "robustkit.certification",
    "Smoothing": "robustkit.certification",
    "audit": "robustkit.auditing.run",
    "certify": "robustkit.auditing.certified_audit",
    "load_data": "robustkit.data.load",
    "load_model": "robustkit.models.load",
    "to_maite": "robustkit.models.kinds.maite",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in ("attacks", "reports"):
        value = importlib.import_module(f"robustkit.{name}")
    else:
        raise AttributeError(f"module 'robustkit' has no attribute {name!r}")
    globals()[name] = value
    return value
