"""Exit status of a command, and what the user can mend in one line on standard error."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from robustkit.errors import AuditFailed, RobustkitError


class OneLine(click.Group):
    """A group whose mistakes are answered in one line."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        status = 3
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ε gets a question mark
                stream.reconfigure(errors="replace")
        try:
            outcome = super().main(*args, **{**extra, "standalone_mode": False})
            status = outcome if isinstance(outcome, int) else 0
            sys.stdout.flush()
        except click.UsageError as error:
            where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
            status = _complain(error.format_message().rstrip(".") + where, 2)
        except click.ClickException as error:
            status = _complain(error.format_message(), 2)
        except AuditFailed as error:
            status = _complain(str(error), 3)
        except RobustkitError as error:
            status = _complain(str(error), 2)
        except (KeyboardInterrupt, click.Abort):
            status = _complain("interrupted", 3)
        except BrokenPipeError:
            # The reader of our output went away; nothing is left to say, nor anyone to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except OSError as error:
            status = _complain(f"{error.filename or 'input or output'}: {error.strerror or error}", 3)
        except Exception as error:
            if os.environ.get("ROBUSTKIT_TRACEBACK"):
                traceback.print_exc()
            kind = type(error).__name__
            status = _complain(f"{kind}: {error} (a defect of robustkit; ROBUSTKIT_TRACEBACK=1 shows where)", 3)
        sys.exit(status)


def _complain(message: str, status: int) -> int:
    click.echo(f"robustkit: {' '.join(message.split())}", err=True)
    return status
