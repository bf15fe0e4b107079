"""Run an audit and write its report: what was finished is written, whole or marked incomplete."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from robustkit import reports
from robustkit.auditing.progress import Watch
from robustkit.cli import terminal
from robustkit.cli.progress import progress_display
from robustkit.cli.report_folder import StagingFolder
from robustkit.cli.signals import Interrupt, handled
from robustkit.errors import AuditFailed, AuditInterrupted
from robustkit.reports import AuditRecord


def write_report(
    out: Path, run: Callable[[Watch, Path], AuditRecord], add_gates: Callable[[AuditRecord], AuditRecord]
) -> AuditRecord:
    """Run, write the report into `out` and sum it up on the terminal; returns the record.

    Args:
        out: folder of the report; what was there is replaced once the new one is whole.
        run: given a watch and the folder where pictures go.
        add_gates: adds its gates to the record of a run that went to its end.

    Raises:
        AuditFailed: the run broke off; what was finished is in the report.
    """
    with handled(signal.SIGINT, signal.SIGTERM, handler=Interrupt()), StagingFolder(out) as staging:
        failure: str | None = None
        try:
            with progress_display() as watch:
                record = run(watch, staging.folder)
        except (AuditInterrupted, AuditFailed) as error:
            if error.record is None:
                raise
            record, failure = error.record, str(error)
        # From here on the report is being written: a second Ctrl-C would only spoil it.
        with handled(signal.SIGINT, signal.SIGTERM, handler=signal.SIG_IGN):
            if failure is None:
                record = add_gates(record)
            reports.write(record, staging.folder)
            staging.publish()
    terminal.summarise(record, out)
    if failure is not None:
        raise AuditFailed(f"{failure}; what was finished is in {out / 'index.html'}, marked incomplete", record)
    return record
