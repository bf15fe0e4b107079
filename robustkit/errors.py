"""What goes wrong, in one sentence each that says how to mend it."""

from __future__ import annotations


class RobustkitError(Exception):
    """Something the user can mend: the command line prints its one line and exits with 2."""


class ModelError(RobustkitError, ValueError):
    """A model that cannot be found, loaded or trusted to answer."""


class DataError(RobustkitError, ValueError):
    """Data that cannot be found or read, or that does not fit the model."""


class ConfigError(RobustkitError, ValueError):
    """An option or parameter that is unknown or out of range."""
