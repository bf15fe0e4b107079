"""Models behind addresses, answered by a server of the protocol that the test starts: values, shapes and kinds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from inference_server import Endpoint, served
from loader_fixtures import Refuses
from torch import Tensor

from robustkit import audit, load_model
from robustkit.attacks import HopSkipJump, Square
from robustkit.errors import ConfigError, ModelError

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def weights() -> Tensor:
    return torch.randn(3, 3 * 5 * 4, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(7, 3, 5, 4, generator=torch.Generator().manual_seed(1))


def linear(weights: Tensor, order: Sequence[int] = (0, 1, 2, 3)) -> Callable[[np.ndarray], np.ndarray]:
    """Logits of pictures that arrive with their axes in an order."""
    matrix = weights.double().numpy()
    return lambda x: x.transpose(np.argsort(order)).reshape(len(x), -1) @ matrix.T


def endpoint(function: Callable[[np.ndarray], np.ndarray], **extra: object) -> Endpoint:
    return Endpoint(function, **{"shape": (-1, 3, 5, 4), "outputs": [("out", "FP32", (-1, 3))], **extra})


@pytest.mark.parametrize(
    ("shape", "order", "size"),
    [
        ((-1, 3, 5, 4), (0, 1, 2, 3), None),
        ((-1, 5, 4, 3), (0, 2, 3, 1), None),
        ((-1, 3, -1, -1), (0, 1, 2, 3), (5, 4)),
        ((-1, -1, -1, 3), (0, 2, 3, 1), (5, 4)),
    ],
)
def test_scores_are_those_of_the_served_model(weights, x, shape, order, size) -> None:
    with served(endpoint(linear(weights, order), shape=shape)) as server:
        model = load_model(server.url, size=size)
        torch.testing.assert_close(model.logits(x), x.flatten(1) @ weights.T, rtol=1e-6, atol=1e-5)
        assert (model.access, model.outputs, model.num_classes) == ("scores", "logits", 3)
        assert (model.preprocess.channels, model.preprocess.size) == (3, (5, 4))
        assert server.seen[-1][2]["inputs"][0]["shape"] == [7, *[{1: 3, 2: 5, 3: 4}[axis] for axis in order[1:]]]


def test_every_float_arrives_to_the_bit(x) -> None:
    arrived = []

    def keep(array: np.ndarray) -> np.ndarray:
        arrived.append(array)
        return array.reshape(len(array), -1)[:, :3] - 2

    with served(endpoint(keep)) as server:
        load_model(server.url).logits(x)
    assert np.array_equal(arrived[-1].astype(np.float32), x.numpy())


def test_mean_and_std_are_applied_on_this_side(weights, x) -> None:
    with served(endpoint(linear(weights))) as server:
        model = load_model(server.url, mean=(0.1, 0.2, 0.3), std=0.5)
        normalised = (x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
        torch.testing.assert_close(model.logits(x), normalised.flatten(1) @ weights.T, rtol=1e-5, atol=1e-4)


def test_bytes_are_sent_where_bytes_are_taken(weights, x, refuses: Refuses) -> None:
    with served(endpoint(linear(weights), datatype="UINT8")) as server:
        model = load_model(server.url)
        expected = (x * 255).round().flatten(1) @ weights.T
        torch.testing.assert_close(model.logits(x), expected, rtol=1e-5, atol=1e-3)
        sent = server.seen[-1][2]["inputs"][0]["data"]
        assert all(isinstance(value, int) and 0 <= value <= 255 for value in sent)
        with refuses(ConfigError, "leave out mean and std"):
            load_model(server.url, std=0.5)


@pytest.mark.parametrize(
    ("shape", "requests"),
    [((1, 3, 5, 4), [[1, 3, 5, 4]] * 7), ((3, 3, 5, 4), [[3, 3, 5, 4]] * 3), ((3, 5, 4), [[3, 5, 4]] * 7)],
)
def test_a_fixed_batch_is_kept(weights, x, shape, requests) -> None:
    function = linear(weights)

    def single(array: np.ndarray) -> np.ndarray:
        return function(array[None])[0]

    with served(endpoint(function if len(shape) == 4 else single, shape=shape)) as server:
        model = load_model(server.url)
        before = len(server.seen)
        torch.testing.assert_close(model.logits(x), x.flatten(1) @ weights.T, rtol=1e-6, atol=1e-5)
        assert [body["inputs"][0]["shape"] for _, _, body in server.seen[before:]] == requests
        assert model.forwards == 7


def test_a_request_that_is_too_large_is_halved(weights, x) -> None:
    server = endpoint(linear(weights))
    answer = server.infer
    with served(server):
        server.infer = lambda body: (413, {}, b"") if body["inputs"][0]["shape"][0] > 3 else answer(body)
        model = load_model(server.url)
        torch.testing.assert_close(model.logits(x), x.flatten(1) @ weights.T, rtol=1e-6, atol=1e-5)
        assert model.logits(x[:0]).shape == (0, 3)


@pytest.mark.parametrize("digits", [None, 4, 2, 1])
def test_probabilities_are_told_from_logits_however_they_are_rounded(weights, x, digits: int | None) -> None:
    def answer(array: np.ndarray) -> np.ndarray:
        scores = torch.from_numpy(linear(weights)(array)).softmax(1).numpy()
        return scores if digits is None else scores.round(digits)

    with served(endpoint(answer)) as server:
        model = load_model(server.url)
        assert model.outputs == "probabilities"
        exact = (x.flatten(1) @ weights.T).softmax(1)
        error = 1e-6 if digits is None else 0.5 * 10**-digits + 1e-6
        assert (model.logits(x).exp() - exact).abs().max() <= error
        y = exact.argmax(1)
        record = audit(model, (x, y), [Square(queries=60)], [0.2])
        assert record.clean.count == 7


def test_a_thousand_classes_rounded_to_two_digits_are_probabilities() -> None:
    def answer(array: np.ndarray) -> np.ndarray:
        logits = 3 * np.sin(np.outer(array.reshape(len(array), -1).sum(1), np.arange(1, 1001)))
        return torch.from_numpy(logits).softmax(1).numpy().round(2)

    with served(endpoint(answer, outputs=[("out", "FP32", (-1, 1000))])) as server:
        model = load_model(server.url)
        assert (model.outputs, model.num_classes) == ("probabilities", 1000)
        assert torch.isfinite(model.logits(torch.rand(4, 3, 5, 4))).all()


@pytest.mark.parametrize("kind", ["INT64", "BYTES"])
def test_labels_as_numbers_or_names_go_to_the_attacks_on_labels(weights, x, kind: str, refuses: Refuses) -> None:
    names = np.array(NAMES if kind == "BYTES" else [0, 1, 2])
    with served(
        endpoint(lambda array: names[linear(weights)(array).argmax(1)], outputs=[("label", kind, (-1,))])
    ) as server:
        with refuses(ConfigError, "answers with labels .*give --labels"):
            load_model(server.url)
        model = load_model(server.url, labels=NAMES)
        assert (model.access, model.num_classes, model.labels) == ("labels", 3, tuple(NAMES))
        y = (x.flatten(1) @ weights.T).argmax(1)
        assert torch.equal(model.logits(x).argmax(1), y)
        record = audit(model, (x, y), [HopSkipJump(queries=150)], [1.0], norm="l2")
        assert record.clean.count == 7
        if kind == "BYTES":
            with refuses(ModelError, "which is none of the labels"):
                load_model(server.url, labels=["a", "b", "c"])
        else:
            server.function = lambda array: np.full(len(array), 3)
            with refuses(ConfigError, "answers class 3, but 3 labels"):
                load_model(server.url, labels=NAMES)


@pytest.mark.parametrize(
    ("extra", "kind", "reason"),
    [
        ({"shape": (-1, 3, -1, -1)}, ConfigError, "leaves the size open: give --size"),
        ({"shape": (-1, -1, -1, -1)}, ModelError, "cannot be told: declare"),
        ({"shape": (-1, 784)}, ModelError, "cannot be told: declare"),
        ({"shape": (-1, 3, 5, 3)}, ModelError, "cannot be told: declare"),
        ({"datatype": "BYTES", "shape": (-1,)}, ModelError, "pictures are FP32, FP64, FP16 or UINT8"),
        ({"outputs": [("a", "FP32", (-1, 3)), ("b", "FP32", (-1, 9))]}, ConfigError, "--output-name; it has a .*, b"),
        ({"outputs": []}, ModelError, "name no outputs: declare them"),
        ({"function": lambda x: np.ones(len(x))}, ConfigError, "one number a picture"),
        ({"function": lambda x: np.ones((2, 3))}, ModelError, r"answers \[2, 3\] to 3 pictures"),
        ({"function": lambda x: np.full((3, 3), np.inf)}, ModelError, "not finite"),
    ],
)
def test_what_cannot_be_told_is_asked_for_in_one_line(weights, extra, kind, reason: str, refuses: Refuses) -> None:
    with served(endpoint(**{"function": linear(weights), **extra})) as server, refuses(kind, reason):
        load_model(server.url)


def test_one_of_several_outputs_is_taken_by_name(weights, x, refuses: Refuses) -> None:
    outputs = [("scores", "FP32", (-1, 3)), ("features", "FP32", (-1, 60))]
    with served(endpoint(linear(weights), outputs=outputs)) as server:
        model = load_model(server.url, output_name="scores")
        torch.testing.assert_close(model.logits(x), x.flatten(1) @ weights.T, rtol=1e-6, atol=1e-5)
        assert server.seen[-1][2]["outputs"] == [{"name": "scores"}]
        with refuses(ConfigError, "no output 'logits'.*it has scores"):
            load_model(server.url, output_name="logits")


def test_options_that_do_not_apply_are_refused(weights, refuses: Refuses, monkeypatch) -> None:
    from robustkit.models.load import EndpointLimits

    for reason, name, extra in (
        ("no address of a model", "http://127.0.0.1:1/models/net", {}),
        ("leave out --size", "", {"size": 9}),
        ("leave out --arch", "", {"arch": "resnet18"}),
        ("are of an endpoint", "lenet-mnist", {"limits": EndpointLimits(rate=1)}),
    ):
        with served(endpoint(linear(weights))) as server, refuses(ConfigError, reason):
            load_model(name or server.url, **extra)
    for wrong in ({"rate": 0}, {"timeout": float("inf")}, {"retries": -1}):
        with pytest.raises(ConfigError, match="endpoint's"):
            EndpointLimits(**wrong)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with refuses(ModelError, r"needs httpx: pip install 'robustkit\[endpoint\]'"):
        load_model("http://127.0.0.1:1/v2/models/net")
