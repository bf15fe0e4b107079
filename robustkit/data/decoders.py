"""Picture files decoded in processes of their own, so that the interpreter that keeps a GPU busy does nothing else.

They are not `multiprocessing`'s: those run the caller's script again, which one that is not guarded by `__main__` does
not survive. These are started with the same interpreter and path, import no torch, and end when their input does, be it
because the parent was killed.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from robustkit.data.pixels import Pixels, Preprocess, read_pixels
from robustkit.errors import DataError, RobustkitError

_MOST = 8
_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from robustkit.data.decoders import serve; serve()"
)


def decoder_count(device: str) -> int:
    """Number of processes that decode for a model on such a device ("cpu", "cuda", ...).

    None for one on the CPU: there the attack itself wants the cores, and a thread reads ahead of it.
    """
    return 0 if device == "cpu" else min(_MOST, os.cpu_count() or 1)


class Decoders:
    """Processes that decode, as many as there are threads that call `read` at once; closed at the end of a `with`."""

    def __init__(self) -> None:
        self._idle: deque[_Decoder] = deque()

    def __enter__(self) -> Decoders:
        return self

    def __exit__(self, *error: object) -> None:
        while self._idle:
            self._idle.pop().close()

    def read(self, path: Path, preprocess: Preprocess) -> Pixels:
        """`pixels.read_pixels` in a process that has nothing else to do; one is started where there is none.

        Raises:
            DataError: as there.
            RobustkitError: the process cannot be started, or died.
        """
        try:
            decoder = self._idle.pop()
        except IndexError:
            decoder = _Decoder()
        try:
            pixels = decoder.read(path, preprocess)
        except DataError:
            self._idle.append(decoder)
            raise
        except BaseException:
            decoder.close()
            raise
        self._idle.append(decoder)
        return pixels


class _Decoder:
    """One process, and the two pipes to it."""

    def __init__(self) -> None:
        try:
            # In a session of its own, Ctrl-C is the parent's alone.
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise RobustkitError(f"no process to decode pictures can be started ({error.strerror})") from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.path: list[str] | None = list(sys.path)

    def read(self, path: Path, preprocess: Preprocess) -> Pixels:
        try:
            if self.path is not None:
                self._send(self.path)
                self.path = None
            self._send((os.fspath(path), preprocess))
            answer = pickle.load(self.answers)
        except (OSError, EOFError, pickle.UnpicklingError):
            status = self.process.wait()
            raise RobustkitError(
                f"{path}: the process that decodes it ended with status {status}: see whether memory ran out, "
                "else replace or remove the file"
            ) from None
        if isinstance(answer, str):
            raise DataError(answer)
        pixels: Pixels = answer
        return pixels

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.answers.close()
        with suppress(OSError):  # what was not sent has nobody to take it any more
            self.requests.close()

    def _send(self, message: Any) -> None:
        pickle.dump(message, self.requests, pickle.HIGHEST_PROTOCOL)
        self.requests.flush()


def serve() -> None:
    """Run a decoding process: decode each file that is asked for, and answer with its pixels or its fault."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not come between
    with suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            path, preprocess = pickle.load(sys.stdin.buffer)
            answer: Pixels | str
            try:
                answer = read_pixels(path, preprocess)
            except DataError as error:
                answer = str(error)
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    os._exit(0)  # what could not be written is not to be tried again
