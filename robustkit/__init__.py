"""robustkit: adversarial robustness audits for image classifiers.

Importing it costs nothing: torch comes with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from robustkit import attacks, reports
    from robustkit.auditor import audit
    from robustkit.certificates import Bounds, Smoothing
    from robustkit.certified import certify
    from robustkit.data import load_data
    from robustkit.models import load_model

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
]

_HOMES = {
    "Bounds": "robustkit.certificates",
    "Smoothing": "robustkit.certificates",
    "audit": "robustkit.auditor",
    "certify": "robustkit.certified",
    "load_data": "robustkit.data",
    "load_model": "robustkit.models",
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
