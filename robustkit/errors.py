"""Errors, each with one sentence that says what is wrong and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustkit.reports import AuditRecord


class RobustkitError(Exception):
    """Something the user can mend: the command line prints its one line and exits with 2."""


class ModelError(RobustkitError, ValueError):
    """A model that cannot be found, loaded or trusted to answer."""


class DataError(RobustkitError, ValueError):
    """Data that cannot be found or read, or that does not fit the model."""


class ConfigError(RobustkitError, ValueError):
    """An option or parameter that is unknown or out of range."""


class AuditFailed(RobustkitError):
    """An audit that broke off while it ran. `record` holds what was finished, or None if nothing was."""

    def __init__(self, reason: str, record: AuditRecord | None) -> None:
        super().__init__(reason)
        self.record = record


class AuditInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during an audit. `record` holds what was finished, or None if nothing was."""

    def __init__(self, record: AuditRecord | None) -> None:
        super().__init__("interrupted")
        self.record = record
