"""A run that ends in a report: what was finished is written, whole or marked incomplete."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from robustkit import reports
from robustkit.auditing.progress import Watch
from robustkit.cli import terminal
from robustkit.cli.progress import shown
from robustkit.cli.report_folder import Staging
from robustkit.cli.signals import Interrupt, handled
from robustkit.errors import AuditFailed, AuditInterrupted
from robustkit.reports import AuditRecord


def recorded(
    out: Path, run: Callable[[Watch, Path], AuditRecord], judge: Callable[[AuditRecord], AuditRecord]
) -> AuditRecord:
    """The record of a run, written into `out` and summed up on the terminal.

    Args:
        out: folder of the report; what was there is replaced once the new one is whole.
        run: given a watch and the folder where pictures go.
        judge: what is added to the record of a run that went to its end.

    Raises:
        AuditFailed: the run broke off; what was finished is in the report.
    """
    with handled(signal.SIGINT, signal.SIGTERM, handler=Interrupt()), Staging(out) as staging:
        failure: str | None = None
        try:
            with shown() as watch:
                record = run(watch, staging.folder)
        except (AuditInterrupted, AuditFailed) as error:
            if error.record is None:
                raise
            record, failure = error.record, str(error)
        # From here on the report is being written: a second Ctrl-C would only spoil it.
        with handled(signal.SIGINT, signal.SIGTERM, handler=signal.SIG_IGN):
            if failure is None:
                record = judge(record)
            reports.write(record, staging.folder)
            staging.publish()
    terminal.summarise(record, out)
    if failure is not None:
        raise AuditFailed(f"{failure}; what was finished is in {out / 'index.html'}, marked incomplete", record)
    return record
