"""Runs robustkit's command line in a fork for every line on standard input: [words, file for stdout, for stderr].

Answers with the exit status. What takes long, importing torch, is done once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import NoReturn

import robustkit.auditing.certified_audit
import robustkit.auditing.comparison_files
import robustkit.checks.doctor
import robustkit.cli.parsing  # noqa: F401
from robustkit.cli import main


def run(words: list[str], stdout: str, stderr: str) -> NoReturn:
    status = 99
    try:
        signal.alarm(600)  # one that hangs
        for number, file in ((0, os.devnull), (1, stdout), (2, stderr)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(file, flags), number)
        sys.argv = ["robustkit", *words]
        main.main(words, prog_name="robustkit")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 98
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        run(*request)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
