"""A small server of the Open Inference Protocol (V2) whose answers and faults a test chooses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Answer = tuple[int, dict[str, str], bytes]
Fault = Callable[[], Answer | None]


@dataclass
class Endpoint:
    """What the server does and has seen.

    Args:
        function: pictures as they arrive, of the shape that is sent, to an output.
        shape, datatype: of the input in the metadata.
        outputs: (name, datatype, shape) in the metadata; the first is the function's.
        faults: the next POST requests meet them one after the other; None lets one pass.
        every: each POST meets it, once `faults` are over and `after` requests have been answered.
    """

    function: Callable[[np.ndarray], np.ndarray]
    shape: Sequence[int] = (-1, 1, 28, 28)
    datatype: str = "FP32"
    outputs: Sequence[tuple[str, str, Sequence[int]]] = (("scores", "FP32", (-1, 10)),)
    faults: list[Fault | None] = field(default_factory=list)
    every: Fault | None = None
    after: int = 0
    posts: int = 0
    answered: int = 0  # pictures
    times: list[float] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def metadata(self) -> dict[str, Any]:
        inputs = [{"name": "x", "datatype": self.datatype, "shape": list(self.shape)}]
        outputs = [{"name": name, "datatype": kind, "shape": list(shape)} for name, kind, shape in self.outputs]
        return {"name": "net", "platform": "test", "inputs": inputs, "outputs": outputs}

    def infer(self, body: dict[str, Any]) -> Answer | None:
        self.posts += 1
        self.times.append(time.monotonic())
        fault = self.faults.pop(0) if self.faults else self.every if self.posts > self.after else None
        if fault is not None:
            return fault()
        (given,) = body["inputs"]
        array = np.array(given["data"], dtype=np.uint8 if given["datatype"] == "UINT8" else np.float64)
        out = self.function(array.reshape(given["shape"]))
        self.answered += given["shape"][0]
        name, kind, _ = self.outputs[0]
        output = {"name": name, "datatype": kind, "shape": list(out.shape), "data": out.ravel().tolist()}
        return json_answer(200, {"model_name": "net", "outputs": [output]})


def json_answer(status: int, content: Any, **headers: str) -> Answer:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(content).encode()


def says(status: int, message: str = "overloaded", **headers: str) -> Fault:
    return lambda: json_answer(status, {"error": message}, **{key.replace("_", "-"): headers[key] for key in headers})


def hangs_up() -> None:
    """Close the connection without an answer."""


@contextmanager
def served(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The endpoint on a free port of 127.0.0.1, its address in `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            endpoint.seen.append((self.path, dict(self.headers), {}))
            self.reply(json_answer(200, endpoint.metadata()))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.seen.append((self.path, dict(self.headers), body))
            self.reply(endpoint.infer(body))

        def reply(self, answer: Answer | None) -> None:
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:  # the client has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v2/models/net"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
