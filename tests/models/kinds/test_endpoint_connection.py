"""Connections to endpoints: retries, rate, timeouts, and secrets that are shown to nobody."""

from __future__ import annotations

import base64
import copy
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate

import numpy as np
import pytest
import torch
from inference_server import Endpoint, hangs_up, json_answer, says, served
from loader_fixtures import Refuses
from torch import Tensor

from robustkit import load_model
from robustkit.attacks import HopSkipJump, Square
from robustkit.attacks.core.query_trace import Trace
from robustkit.errors import ConfigError, ModelError
from robustkit.models.kinds import http_client
from robustkit.models.load import EndpointLimits, LoadedModel

SECRET = "Zt0ken-9Q"


@pytest.fixture
def server() -> Iterator[Endpoint]:
    """A linear model of three classes."""
    weights = np.random.default_rng(0).normal(size=(48, 3))
    endpoint = Endpoint(
        lambda x: (x - 0.5).reshape(len(x), -1) @ weights, (-1, 3, 4, 4), outputs=[("out", "FP32", (-1, 3))]
    )
    with served(endpoint):
        yield endpoint


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(http_client, "_BACKOFF", 0.01)


def load(server: Endpoint, **limits: float) -> LoadedModel:
    return load_model(server.url, limits=EndpointLimits(**limits))


@pytest.mark.parametrize("fault", [says(429), says(502), says(503), says(504), hangs_up])
def test_a_request_is_sent_again_until_it_is_answered(server, x, quick, fault) -> None:
    model = load(server)
    expected = model.logits(x)
    posts, answered = server.posts, server.answered
    server.faults = [fault, fault]
    assert torch.equal(model.logits(x), expected)
    assert (server.posts - posts, server.answered - answered) == (3, 5)
    assert model.net.connection.retries == 2
    assert model.forwards == 10  # each row once, however often it was sent


def test_the_wait_doubles_and_a_retry_after_is_honoured(server, x, monkeypatch) -> None:
    model = load(server)
    slept: list[float] = []
    monkeypatch.setattr(http_client.time, "sleep", slept.append)
    server.faults = [says(503)] * 4
    model.logits(x)
    assert slept == [0.25, 0.5, 1, 2]
    slept.clear()
    server.faults = [says(429, Retry_After="7"), says(503, Retry_After=formatdate(time.time() + 60, usegmt=True))]
    model.logits(x)
    assert slept[0] == 7
    assert 50 < slept[1] <= 60


def test_retries_are_bounded_and_a_lost_server_is_left_alone(server, x, quick, refuses: Refuses) -> None:
    model = load(server, retries=2)
    posts = server.posts
    server.every = says(503)
    with refuses(ModelError, r"answers 503, 'overloaded', 3 times: start it"):
        model.logits(x)
    assert server.posts - posts == 3
    for _ in range(20):  # as each of an audit's checks would
        with refuses(ModelError, "answers 503"):
            model.logits(x)
    assert server.posts - posts == 3
    server.every = None
    model.net.connection._lost = (0.0, "")  # as after a minute
    model.logits(x)


def test_a_server_that_asks_for_an_hour_is_given_up(server, x, refuses: Refuses) -> None:
    model = load(server)
    server.faults = [says(429, "quota", Retry_After="3600")]
    with refuses(ModelError, "429, 'quota' and asks to come back in 3600 s"):
        model.logits(x)


def test_a_slow_server_is_not_waited_for(server, x, quick, refuses: Refuses) -> None:
    model = load(server, timeout=0.3, retries=1)

    given_up = threading.Event()

    def slow() -> None:
        given_up.wait(600)  # a client that waited for its answer would be told nothing before that

    server.every = slow
    posts = server.posts
    with refuses(ModelError, "does not answer within 0.3 s, 2 times"):
        model.logits(x)
    assert server.posts - posts == 2
    given_up.set()


def test_so_many_pictures_a_second(server, x) -> None:
    model = load(server, rate=100)
    began, answered = time.monotonic(), server.answered
    for _ in range(8):
        model.logits(x)
    took = time.monotonic() - began
    assert server.answered - answered == 40
    assert took >= 0.34  # 35 pictures before the last request may go
    gaps = np.diff(server.times[-8:])
    assert gaps.min() > 0.03


@pytest.mark.parametrize("attack", [Square(queries=40, eps=0.05), HopSkipJump(norm="l2", queries=120)])
def test_the_query_budget_is_kept_on_a_server_that_fails_now_and_then(server, x, quick, attack) -> None:
    model = load(server)
    y = model.logits(x).argmax(1)
    clean = Trace(len(x))
    answered, forwards = server.answered, model.forwards
    points = attack(model, x, y, seed=1, trace=clean)
    assert server.answered - answered == model.forwards - forwards == int(clean.forwards.sum())
    assert int(clean.forwards.max()) <= attack.queries
    server.faults = [says(503), None, None, hangs_up, None, says(429)] * 3
    shaky, answered = Trace(len(x)), server.answered
    assert torch.equal(attack(model, x, y, seed=1, trace=shaky), points)
    assert torch.equal(shaky.forwards, clean.forwards)
    assert server.answered - answered == int(clean.forwards.sum())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda: (200, {}, b'{"outputs": [{'), "no JSON object"),
        (lambda: (200, {}, b"[1, 2]"), "no JSON object"),
        (lambda: json_answer(200, {}), "without its output out"),
        (lambda: answers(shape=[4, 3]), "do not have the shape"),
        (lambda: answers(shape=[3, 5]), r"answers \[3, 5\] to 5 pictures"),
        (lambda: answers(shape=[5, 3], data=[None] * 14 + [{}]), "do not have the shape"),
        (lambda: answers(shape=[5, 3], data=["a"] * 15), "do not have the shape"),
        (says(400, "bad\nrequest"), "answers 400, 'bad request': look"),
        (says(500, "boom"), "answers 500, 'boom'"),
        (says(404, "no model"), "is not there"),
        (says(401), r"lets nobody in \(401, 'overloaded'\): set the token in ROBUSTKIT_TOKEN"),
        (says(307, Location="https://user:pass@elsewhere/v2/models/net"), r"has moved .*https://\*\*\*@elsewhere"),
    ],
)
def test_what_is_no_answer_is_said_in_one_line_at_once(server, x, fault, reason: str, refuses: Refuses) -> None:
    model = load(server)
    posts = server.posts
    server.every = fault
    with refuses(ModelError, reason):
        model.logits(x)
    assert server.posts - posts == 1


def answers(shape: list[int], data: list[object] | None = None) -> tuple[int, dict[str, str], bytes]:
    output = {"name": "out", "datatype": "FP32", "shape": shape, "data": data or [0.5] * 15}
    return json_answer(200, {"outputs": [output]})


def test_nobody_at_the_address(refuses: Refuses, quick) -> None:
    with refuses(ModelError, r"127.0.0.1:9/v2/models/net cannot be reached \(.*refused\), 3 times: start it"):
        load_model("http://127.0.0.1:9/v2/models/net", limits=EndpointLimits(retries=2))


def test_the_token_is_sent_and_shown_nowhere(server, x, monkeypatch, refuses: Refuses) -> None:
    monkeypatch.setenv("ROBUSTKIT_TOKEN", f" {SECRET}\n")
    model = load(server)
    assert [headers["Authorization"] for _, headers, _ in server.seen] == [f"Bearer {SECRET}"] * 2
    shown = [repr(model.net), repr(model), repr(model.net.connection), str(vars(model)), model.name, model.title]
    assert not any(SECRET in each for each in shown)
    assert copy.deepcopy(model.net).connection is model.net.connection
    server.every = says(403, f"the token {SECRET} has expired")
    with refuses(ModelError, r"403, 'the token \*\*\* has expired'\): it does not take what you log in with"):
        model.logits(x)
    for bad in (f"{SECRET}\nX-Header: 1", "tökén"):
        monkeypatch.setenv("ROBUSTKIT_TOKEN", bad)
        with refuses(ConfigError, "^ROBUSTKIT_TOKEN holds characters that no header takes: set it again$"):
            load(server)


def test_password_and_query_of_the_address_are_sent_and_shown_nowhere(server, x, monkeypatch, refuses) -> None:
    bare, password = server.url, "p%40ss/w%3Ard".replace("/", "%2F")
    url = f"{bare.replace('http://', f'http://me:{password}@')}?key={SECRET}"
    model = load_model(url)
    model.logits(x)
    expected = "Basic " + base64.b64encode(b"me:p@ss/w:rd").decode()
    assert {headers["Authorization"] for _, headers, _ in server.seen} == {expected}
    assert [path for path, *_ in server.seen] == [f"/v2/models/net{end}?key={SECRET}" for end in ("", *["/infer"] * 2)]
    assert model.name == f"{bare.replace('http://', 'http://***@')}?***"
    assert "***" in repr(model.net)
    server.every = says(500, f"p@ss/w:rd and {password} and {SECRET} at http://me:x@host")
    with refuses(ModelError, r"'\*\*\* and \*\*\* and \*\*\* at http://\*\*\*@host'"):
        model.logits(x)
    with refuses(ConfigError, "leave out --size"):
        load_model(url, size=9)
    monkeypatch.setenv("ROBUSTKIT_TOKEN", SECRET)
    with refuses(ConfigError, r"two ways to log in: give one$"):
        load_model(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hush/hush@127.0.0.1/v2/models/net",
        "http://me:hush#hush@127.0.0.1/v2/models/net",
        "http://me:hush?hush@127.0.0.1/v2/models/net",
        "http://me:hush hush@127.0.0.1/v2/models/net",
        "http://me:hush@127.0.0.1/v1/models/net?key=hush",
        "http://me:hush@127.0.0.1:99999/v2/models/net",
        "http://me:hush@[::1/v2/models/net",
        "http://:hush@/v2/models/net",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(url)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
