"""The command `robustkit report`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from robustkit.cli.options import out_option
from robustkit.errors import ConfigError


@click.command()
@click.argument("record")
@out_option(None, "Folder to draw into; by default beside the record.")
def report(record: str, out: str | None) -> None:
    """Draw a report again from its report.json."""
    from robustkit import reports
    from robustkit.cli.report_folder import output_folder

    try:
        with nullcontext() if out is None else output_folder(Path(out)) as folder:
            page = reports.redraw(record, folder)
    except reports.RecordError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{error.filename or out}: cannot be written ({error.strerror})") from None
    click.echo(f"report: {page}")
