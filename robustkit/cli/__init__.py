"""The command line. Each command builds its objects from the options, calls the library and sets the exit status.

0 passed, 1 a gate failed, 2 bad usage or bad input, 3 the run itself failed. What the user can mend is one line on
standard error. Torch is imported inside the commands that need it: `--help` answers at once.
"""

from __future__ import annotations

import click

from robustkit import __version__
from robustkit.cli.commands.audit import audit
from robustkit.cli.commands.certify import certify
from robustkit.cli.commands.compare import compare
from robustkit.cli.commands.doctor import doctor
from robustkit.cli.commands.listings import attacks, models
from robustkit.cli.commands.report import report
from robustkit.cli.exit_status import OneLine


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="robustkit")
def main() -> None:
    """Says how little it takes to make an image classifier wrong.

    \b
    robustkit audit                       audit the embedded ImageNet model
    robustkit compare photo.jpg           one picture: original + perturbation = adversarial
    """


for _command in (audit, compare, certify, doctor, report, models, attacks):
    main.add_command(_command)
