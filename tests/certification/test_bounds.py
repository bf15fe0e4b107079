"""Bounds of small networks against closed forms, brute force, exact programs and attacks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds as Box
from scipy.optimize import LinearConstraint, milp
from torch import Tensor, nn
from torch.nn import functional as F

from robustkit import Bounds, certify, load_data, load_model
from robustkit.attacks import APGD, PGD, AutoAttack, Classifier
from robustkit.attacks.geometry import norms
from robustkit.certification.graph import read_graph
from robustkit.certification.propagate import Reach
from robustkit.errors import ModelError
from robustkit.reports import AuditRecord, RecordError

DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}


class Residual(nn.Module):
    """Two ways to the same place, functions and constants in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(12, 3)
        self.register_buffer("centre", torch.tensor([0.4]).view(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first((x - self.centre) / 0.3))
        x = torch.relu(x + self.norm(self.second(x)))
        x = F.avg_pool2d(x, 2)
        return self.last(x.view(x.size(0), -1))


def pooled(padding: int, stride: int, relu_first: bool) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(1, 3, 3, padding=1)]
    pool = nn.MaxPool2d(3 if padding else 2, stride=stride, padding=padding)
    parts += [nn.ReLU(), pool] if relu_first else [pool, nn.ReLU()]
    width = 3 * pool(torch.zeros(1, 3, 4, 4))[0, 0].numel()
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 3))


BUILDS = {
    "dense": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3)
    ),
    "pool": lambda: pooled(0, 2, True),
    "overlapping pool": lambda: pooled(1, 1, True),
    "pool before": lambda: pooled(0, 2, False),
    "residual": Residual,
    "strided": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 2, stride=2, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 3),
    ),
}


def made(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = BUILDS[name]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.3
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.normal_(module.weight)
    return net.eval()


def margin(logits: Tensor, label: int) -> Tensor:
    others = logits.clone()
    others[:, label] = -torch.inf
    return logits[:, label] - others.amax(1)


def points_of(x: Tensor, norm: str, eps: float, seed: int) -> Tensor:
    """Many points of ball ∩ box, most of them on its edge."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(400, *x.shape, generator=generator)
    sparse = draws * (torch.rand(draws.shape, generator=generator) < 0.15)
    moves = torch.cat([draws, draws.sign(), sparse, 0.2 * draws]) * eps
    rows = x.expand(len(moves), *x.shape)
    return rows + norms.get(norm).project(moves, eps, -rows, 1 - rows)


@given(
    name=st.sampled_from(list(BUILDS)),
    seed=st.integers(0, 10_000),
    norm=st.sampled_from(["linf", "l2", "l1"]),
    size=st.floats(0.01, 1.5),
)
@settings(max_examples=30, deadline=None)
def test_bounds_hold_on_random_networks(name: str, seed: int, norm: str, size: float) -> None:
    net = made(name, seed)
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(1, 4, 4, generator=generator) * 1.6 - 0.3).clamp(0, 1)  # some pixels at the edge of the box
    eps = min(1.0, size * {"linf": 0.1, "l2": 0.4, "l1": 1.0}[norm])
    model = Classifier(net)
    label = seed % 3
    points = points_of(x, norm, eps, seed)
    found = float(margin(model.logits(points), label).min())
    y = torch.tensor([label])
    attacked = PGD(norm=norm, eps=eps, steps=10, loss="margin", early_stop=False)(model, x[None], y)
    found = min(found, float(margin(model.logits(attacked), label)))
    loose = float(Bounds("ibp", norm).margins(model, x[None], y, eps))
    tight = float(Bounds("crown", norm).margins(model, x[None], y, eps))
    assert loose <= tight + 1e-9
    assert tight <= found + 1e-5
    # Every result on the way lies within its interval, too.
    steps = read_graph(model)
    reach = Reach(steps, x.double(), norms.get(norm), eps, True)
    seen = [points.double()]
    for step in steps:
        operation = step.operation
        sources = [seen[source] for source in step.sources]
        seen.append(
            operation.apply(sources[0])
            if hasattr(operation, "apply")
            else sum(sources)
            if len(sources) == 2
            else sources[0].relu()
        )
    for values, low, high in zip(seen, reach.low, reach.high, strict=True):
        assert (values >= low - 1e-6).all()
        assert (values <= high + 1e-6).all()


def exact_margin(weights: list[Tensor], biases: list[Tensor], x: Tensor, eps: float, label: int, rival: int) -> float:
    """The least margin of a network of one hidden layer over the L∞ ball, as a mixed-integer program."""
    (w, v), (b, c) = [m.numpy().astype(float) for m in weights], [m.numpy().astype(float) for m in biases]
    low = np.clip(x.numpy().astype(float) - eps, 0, 1)
    high = np.clip(x.numpy().astype(float) + eps, 0, 1)
    n, h = w.shape[1], w.shape[0]
    big = np.abs(w).sum(1) + np.abs(b) + 1
    # Variables: x, a = relu(wx + b), d (0 or 1: which side).
    eye, zeros = np.eye(h), np.zeros((h, n))
    rows = [
        LinearConstraint(np.hstack([-w, eye, np.zeros((h, h))]), b, np.inf),
        LinearConstraint(np.hstack([-w, eye, np.diag(big)]), -np.inf, b + big),
        LinearConstraint(np.hstack([zeros, eye, -np.diag(big)]), -np.inf, 0),
    ]
    cost = np.concatenate([np.zeros(n), v[label] - v[rival], np.zeros(h)])
    box = Box(np.concatenate([low, np.zeros(2 * h)]), np.concatenate([high, np.full(h, np.inf), np.ones(h)]))
    solved = milp(cost, constraints=rows, bounds=box, integrality=np.repeat([0, 0, 1], [n, h, h]))
    assert solved.success
    return float(solved.fun + c[label] - c[rival])


@pytest.mark.parametrize("seed", range(6))
def test_bounds_are_below_the_exact_least_margin_and_near_it(seed: int) -> None:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    x, eps = torch.rand(9), 0.15
    parts = [net[1], net[3]]
    weights, biases = [p.weight.detach() for p in parts], [p.bias.detach() for p in parts]
    exact = min(exact_margin(weights, biases, x, eps, 0, rival) for rival in (1, 2))
    picture, y = x.view(1, 1, 3, 3), torch.tensor([0])
    clean = float(margin(net(picture).detach(), 0))
    tight = float(Bounds("crown").margins(Classifier(net), picture, y, eps))
    loose = float(Bounds("ibp").margins(Classifier(net), picture, y, eps))
    assert loose <= tight <= exact + 1e-6
    assert clean - tight <= 1.6 * (clean - exact)


@pytest.mark.parametrize("norm", list(DUAL))
@pytest.mark.parametrize("middle", [True, False])
def test_a_linear_network_is_bounded_exactly(norm: str, middle: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 3))
    x = torch.full((5, 1, 4, 4), 0.5) if middle else torch.rand(5, 1, 4, 4).round()
    y, eps = torch.arange(5) % 3, 0.1
    matrix = (net[2].weight @ net[1].weight).detach().double()
    logits = Classifier(net).logits(x).double()
    bound = Bounds("crown", norm).margins(Classifier(net), x, y, eps)
    for row, label in enumerate(y.tolist()):
        exact = []
        for rival in {0, 1, 2} - {label}:
            w = matrix[label] - matrix[rival]
            room = (w > 0) == (x[row].flatten() > 0.5) if not middle else torch.ones(16, dtype=torch.bool)
            drop = eps * float(torch.linalg.vector_norm(w[room], DUAL[norm]))  # nothing else reaches the box
            exact.append(float(logits[row, label] - logits[row, rival]) - drop)
        assert float(bound[row]) == pytest.approx(min(exact), abs=1e-5)


@given(seed=st.integers(0, 10_000), eps=st.floats(0.01, 2.0), norm=st.sampled_from(list(DUAL)))
@settings(max_examples=50, deadline=None)
def test_no_step_of_the_set_gains_more_than_its_reach(seed: int, eps: float, norm: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    x = (torch.rand(6, 9, generator=generator, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)
    ours = norms.get(norm)
    best = (g * ours.steepest(g, eps, -x, 1 - x)).sum(1)
    reach = ours.reach(g, eps, -x, 1 - x)
    assert (reach >= best).all() or torch.allclose(reach, best, rtol=1e-12, atol=1e-12)
    assert torch.allclose(reach, best, rtol=1e-9, atol=1e-12)


def test_normalisation_is_part_of_the_network() -> None:
    net = made("pool", 3)
    x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    inside = nn.Sequential(nn.BatchNorm2d(1, affine=False), net).eval()
    inside[0].running_mean, inside[0].running_var, inside[0].eps = torch.tensor([0.3]), torch.tensor([0.25]), 0.0
    a = Bounds().margins(Classifier(net, mean=0.3, std=0.5), x, y, 0.05)
    b = Bounds().margins(Classifier(inside), x, y, 0.05)
    assert torch.allclose(a, b, atol=1e-6)


def test_half_of_the_box_is_the_end_of_it() -> None:
    """Within 1 in L∞ a bound is one over the whole box, whatever the picture."""
    net, y = made("pool", 1), torch.tensor([0])
    a, b = (Bounds("ibp").margins(Classifier(net), torch.full((1, 1, 4, 4), v), y, 1.0) for v in (0.0, 0.7))
    assert torch.allclose(a, b)


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sort(1).values[:, :3]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] if x.sum() > 0 else -x.flatten(1)[:, :3]


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Sigmoid()), "Sigmoid"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3)), "GELU"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)), "Softmax"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(32, 3)), None),
        (Sorted(), "sort"),
        (Branching(), "cannot be traced"),
    ],
)
def test_what_has_no_bounds_is_named_or_bounded(net: nn.Module, says: str | None) -> None:
    model, x, y = Classifier(net.eval()), torch.rand(1, 1, 4, 4), torch.tensor([0])
    if says is None:
        assert float(Bounds().margins(model, x, y, 0.1)) <= float(margin(model.logits(x), 0))
        return
    with pytest.raises(ModelError, match=says):
        Bounds().margins(model, x, y, 0.1)


def test_a_function_or_labels_have_no_bounds() -> None:
    net = made("dense", 0)
    for model in (Classifier(lambda x: net(x)), Classifier(nn.Sequential(net, nn.Softmax(1)), outputs="probabilities")):
        with pytest.raises(ModelError, match="--method smoothing"):
            certify(model, (torch.rand(2, 1, 4, 4), torch.tensor([0, 1])), Bounds(), [0.1])


class Shifty(nn.Module):
    """Its trace is not what it does: a hook adds to the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        self.register_forward_hook(lambda module, args, out: out + torch.tensor([0.0, 5.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_a_network_that_is_not_what_its_trace_says_is_refused() -> None:
    x = torch.rand(3, 1, 4, 4)
    with pytest.raises(ModelError, match="does not answer as its trace says"):
        certify(Shifty(), (x, torch.ones(3, dtype=torch.int64)), Bounds(), [0.1])


@pytest.mark.parametrize("wrong", [{"method": "crow"}, {"norm": "l3"}, {"halvings": -1}])
def test_bad_parameters_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"is one of|must be"):
        Bounds(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    batch = next(load_data("mnist-samples").batches(load_model("lenet-mnist-pgd", device="cpu"), 8, 8))
    return batch.x, batch.y


def test_no_attack_breaks_what_is_certified_of_the_pgd_trained_network(digits: tuple[Tensor, Tensor]) -> None:
    grid = [0.02, 0.05, 0.1, 0.2]
    model = load_model("lenet-mnist-pgd", device="cpu", precision="fp32")
    attacks = [APGD(steps=30), AutoAttack(steps=10, queries=50)]
    record = certify(model, digits, Bounds(halvings=1), grid, attacks=attacks)
    assert record.certified is not None
    assert not record.refuted
    assert record.certified.curve[1].count >= 5
    for point, rate in zip(record.worst_case, record.certified.curve, strict=True):
        assert rate.count <= point.robust.count
    # Points just inside each radius, found by an attack that starts there.
    for row, radius in enumerate(record.certified.radii):
        if radius:
            x, y = digits[0][row : row + 1], digits[1][row : row + 1]
            points = PGD(eps=radius, steps=20, restarts=2, loss="margin")(model, x, y)
            assert int(model.logits(points).argmax()) == int(y)


def test_intervals_certify_no_more_than_linear_bounds(digits: tuple[Tensor, Tensor]) -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    x, y = digits[0][:3], digits[1][:3]
    for eps in (0.002, 0.01):
        assert (Bounds("ibp").margins(model, x, y, eps) <= Bounds("crown").margins(model, x, y, eps)).all()


def test_a_proof_that_an_attack_breaks_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that are too high by far: the attack breaks them, and the record refuses to be read."""
    honest = Reach.least
    monkeypatch.setattr(Reach, "least", lambda self, weights, linear: honest(self, weights, linear) + 1.0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    x = torch.rand(8, 1, 4, 4)
    record = certify(net, (x, net(x).argmax(1)), Bounds(), [0.1, 0.5, 1.0])
    assert record.refuted
    with pytest.raises(RecordError, match="is a proof, yet an attack broke"):
        AuditRecord.from_json(record.to_json())


def test_every_corner_of_a_small_ball() -> None:
    net = made("dense", 5)
    x, eps = torch.rand(1, 4, 4) * 0.6 + 0.2, 0.05
    corners = torch.tensor(list(itertools.product([-eps, eps], repeat=12)))
    moved = x.flatten().repeat(len(corners), 1)
    moved[:, :12] += corners
    least = float(margin(Classifier(net).logits(moved.view(-1, 1, 4, 4)), 0).min())
    assert float(Bounds().margins(Classifier(net), x[None], torch.tensor([0]), eps)) <= least + 1e-6
