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
    from robustkit.data import load_data
    from robustkit.models import load_model

__all__ = ["__version__", "attacks", "audit", "load_data", "load_model", "reports"]

_HOMES = {
    "audit": "robustkit.auditor",
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
