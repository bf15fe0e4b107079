"""Randomised smoothing against closed forms, exact binomial tails and attacks on the smoothed classifier."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, norm
from torch import Tensor, nn

from robustkit import Bounds, Smoothing, certify
from robustkit.attacks import PGD, Classifier, Square
from robustkit.auditing.resolve import resolved
from robustkit.certification.smoothing import SmoothingCertifier, clopper_pearson, smoothed
from robustkit.errors import ConfigError
from robustkit.models.memory import HalvingBatch
from robustkit.reports import AuditRecord

ROWS, SIDE = 12, 4


def linear(rows: int = ROWS, scale: float = 1.0, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """Two classes apart by a plane; x, y and the distances to it, from 0.1 to 1.2, inside the box all the way."""
    generator = torch.Generator().manual_seed(seed)
    w = torch.rand(SIDE * SIDE, generator=generator) * 0.5 + 0.75
    w *= torch.randn(SIDE * SIDE, generator=generator).sign()
    w /= w.norm()
    distances = torch.linspace(0.1, 1.2, rows)
    y = torch.arange(rows) % 2
    x = 0.5 + (distances * (1 - 2.0 * y))[:, None] * w
    assert ((x >= 0) & (x <= 1)).all()
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    with torch.no_grad():
        net[1].weight.copy_(scale * torch.stack([w, -w]))
        net[1].bias.copy_(scale * torch.stack([-0.5 * w.sum(), 0.5 * w.sum()]))
    return net, x.view(rows, 1, SIDE, SIDE), y, distances


def certifier(net: nn.Module, how: Smoothing, seed: int = 0, rows: int = 256) -> SmoothingCertifier:
    return SmoothingCertifier(Classifier(net), how, seed, HalvingBatch(rows))


@given(
    n=st.integers(1, 3000),
    share=st.floats(0, 1),
    alpha=st.sampled_from([1e-6, 0.001, 0.05, 0.3]),
)
@settings(deadline=None)
def test_the_lower_bound_is_scipys(n: int, share: float, alpha: float) -> None:
    k = round(share * n)
    theirs = binomtest(k, n, alternative="greater").proportion_ci(1 - alpha, method="exact").low
    assert clopper_pearson(k, n, alpha) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("n", [1, 10, 100, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_lower_bound_is_wrong_no_more_often_than_alpha(n: int, alpha: float) -> None:
    bounds = [clopper_pearson(k, n, alpha) for k in range(n + 1)]
    for p in [0.05 * i for i in range(1, 20)]:
        wrong = sum(float(binom.pmf(k, n, p)) for k, bound in enumerate(bounds) if bound > p)
        assert wrong <= alpha * (1 + 1e-9)


def test_certificates_of_a_coin_are_wrong_no_more_often_than_alpha() -> None:
    """All of the procedure, on a network whose noisy answers are a coin of known probability."""
    net, x, y, distances = linear(rows=1)
    how = Smoothing(sigma=float(distances[0]) / 0.5, draws=60, select=10, alpha=0.1)
    runs = 300
    seen = certifier(net, how).certify(x.expand(runs, -1, -1, -1), y.expand(runs), torch.arange(runs))
    wrong = int((seen.radius > distances[0]).sum())  # at Φ(0.5) a certificate is too large exactly when p is
    assert 0 < wrong <= binom.ppf(0.999, runs, how.alpha)


def test_the_ceiling_is_the_papers() -> None:
    assert Smoothing(sigma=1.0, draws=100_000, alpha=0.001).radius(100_000) == pytest.approx(3.81, abs=0.005)
    every = Smoothing(sigma=0.5, draws=1000).radius(1000)
    assert every == pytest.approx(0.5 * norm.ppf(0.001 ** (1 / 1000)), rel=1e-12)


def test_no_majority_no_answer() -> None:
    how = Smoothing(draws=1000)
    assert how.radius(500) is None
    assert how.radius(540) is None  # its lower bound is 0.49
    assert how.radius(560) == pytest.approx(how.sigma * norm.ppf(clopper_pearson(560, 1000, 0.001)))
    net, x, y, _ = linear(rows=2)
    middle = torch.full_like(x, 0.5)  # on the plane
    seen = certifier(net, Smoothing(sigma=0.5)).certify(middle, y, torch.arange(2))
    assert seen.abstained.all()
    assert seen.radius.isnan().all()
    assert certifier(net, Smoothing(sigma=0.5)).predict(middle, torch.arange(2)).abstained.all()


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_the_radius_of_a_linear_classifier_comes_up_to_the_true_one(sigma: float) -> None:
    """Smoothing does not change a linear classifier: the true radius is its distance to the plane, whatever σ.

    Clipped noise would not do: near the edge of the box it leans inwards.
    """
    net, x, y, distances = linear()
    gaps = []
    for draws in (200, 2000, 20_000):
        how = Smoothing(sigma=sigma, draws=draws, alpha=1e-5)
        seen = certifier(net, how).certify(x, y, torch.arange(ROWS))
        held = ~seen.abstained
        assert (seen.predicted == y)[held].all()
        assert (seen.radius <= distances)[held].all()
        below = held & (distances < 2 * sigma)  # above, the ceiling of so many draws
        gaps.append(float((distances - seen.radius)[below].max()) / sigma)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.1
    assert held[distances > 0.06 * sigma].all()


def test_a_row_depends_on_its_sample_alone() -> None:
    net, x, y, _ = linear()
    how, ids = Smoothing(sigma=0.5, draws=500), torch.arange(ROWS) * 7 + 3
    whole = certifier(net, how).certify(x, y, ids)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    mixed = certifier(net, how, rows=7).certify(x[order], y[order], ids[order])
    alone = [certifier(net, how, rows=1000).certify(x[i : i + 1], y[i : i + 1], ids[i : i + 1]) for i in range(ROWS)]
    for name in ("predicted", "abstained", "confidence", "radius"):
        column = getattr(whole, name)
        assert torch.equal(torch.nan_to_num(column[order]), torch.nan_to_num(getattr(mixed, name)))
        assert torch.equal(torch.nan_to_num(column), torch.nan_to_num(torch.cat([getattr(a, name) for a in alone])))
    other = certifier(net, how, seed=1).certify(x, y, ids)
    assert not torch.equal(whole.confidence, other.confidence)
    assert len(set(certifier(net, how).certify(x[:1].expand(9, -1, -1, -1), y[:9], ids[:9]).confidence.tolist())) > 3


def test_selection_and_estimate_are_of_other_noise() -> None:
    net, x, _, _ = linear()
    ours = certifier(net, Smoothing(sigma=2.0))
    assert not torch.equal(ours.votes(x[0], 0, 500, 71), ours.votes(x[0], 0, 500, 72))
    first, more = ours.votes(x[0], 0, 100), ours.votes(x[0], 0, 130)
    assert ((more - first) >= 0).all()  # the first draws are the same however many follow


def check_two_sided(record: AuditRecord, distances: Tensor, sigma: float) -> None:
    assert record.certified is not None
    assert not record.refuted
    assert record.norm == record.certified.norm == "l2"
    for point, rate in zip(record.worst_case, record.certified.curve, strict=True):
        true = int((distances > point.eps).sum())
        assert rate.count <= true <= point.robust.count
    assert record.certified.curve[0].count >= 0.6 * len(distances)
    # The attack gets close: what it leaves beyond the true radius is what the vote is not sure of.
    last = record.worst_case[-1]
    assert last.robust.count <= int((distances > last.eps - 0.35 * sigma).sum())
    assert AuditRecord.from_json(record.to_json()) == record


def test_certified_true_and_attacked_stand_in_their_order() -> None:
    net, x, y, distances = linear(rows=20, scale=20.0)
    record = certify(net, (x, y), Smoothing(sigma=0.25), [0.2, 0.4, 0.6, 0.8])
    check_two_sided(record, distances, 0.25)
    assert record.model.title.endswith("smoothed with σ = 0.25")
    (attack,) = record.attacks
    assert attack.title == "PGD"
    assert "did not count as broken" in attack.notes[-1]


def test_a_record_has_the_normalisation_of_the_network_under_the_noise() -> None:
    net, x, y, _ = linear(rows=4)
    model = Classifier(net, mean=(0.25,), std=(0.5,))
    records = [
        certify(model, (x, y), how, [0.2], attacks=[PGD(norm="l2", steps=1)])
        for how in (Smoothing(), Bounds(norm="l2"))
    ]
    assert [(record.model.mean, record.model.std) for record in records] == 2 * [([0.25], [0.5])]


def test_a_model_of_labels_alone_can_be_smoothed() -> None:
    net, x, y, distances = linear(rows=8)

    def answer(pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return net(pictures).argmax(1)

    model = Classifier(answer, outputs="labels", classes=2)
    record = certify(model, (x, y), Smoothing(sigma=0.25), [0.2, 0.4])
    assert record.certified is not None
    assert [attack.name for attack in record.attacks] == ["square"]
    assert not record.refuted
    for eps, rate in zip(record.eps, record.certified.curve, strict=True):
        assert 0 < rate.count <= int((distances > eps).sum())
    with pytest.raises(ConfigError, match="PGD needs gradients"):
        certify(model, (x, y), Smoothing(sigma=0.25), [0.2], attacks=[PGD(norm="l2")])


def test_a_false_certificate_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Radii half as long again: the attack breaks them, and the record says so before it can be trusted."""
    honest = Smoothing.radius

    def boast(self: Smoothing, successes: int) -> float | None:
        radius = honest(self, successes)
        return None if radius is None else 1.5 * radius

    monkeypatch.setattr(Smoothing, "radius", boast)
    net, x, y, _ = linear(rows=20, scale=20.0)
    record = certify(net, (x, y), Smoothing(sigma=0.5), [0.2, 0.4, 0.6, 0.8, 1.0])
    assert record.refuted
    assert [(check.id, check.status) for check in record.checks] == [("certificate", "fail")]
    assert record.verdict == "do not trust"
    assert AuditRecord.from_json(record.to_json()) == record


def test_the_surrogate_answers_row_by_row() -> None:
    net, x, y, _ = linear()
    (model,), _ = resolved((Classifier(net),), (x, y))
    ours = smoothed(model, Smoothing(sigma=0.25, eot=8), seed=3)
    whole = ours.logits(x)
    assert torch.allclose(whole.exp().sum(1), torch.ones(ROWS), atol=1e-5)
    assert torch.allclose(whole[4:5], ours.logits(x[4:5]), atol=1e-6)
    _, _, slope = ours.gradient(x, lambda logits: logits[:, 0])
    w = net[1].weight[0].view(1, SIDE, SIDE)
    cosine = (slope * w).flatten(1).sum(1) / (slope.flatten(1).norm(dim=1) * w.norm())
    assert torch.allclose(cosine, torch.ones(ROWS), atol=1e-4)
    hidden = smoothed(resolved((lambda x: net(x).detach(),), (x, y))[0][0], Smoothing(), seed=0)
    assert hidden.access == "scores"
    points = Square(norm="l2", eps=0.3, queries=20)(hidden, x, y)
    assert points.shape == x.shape


def test_nothing_of_the_model_is_changed() -> None:
    net, x, y, _ = linear()
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    certify(net, (x, y), Smoothing(sigma=0.25), [0.2])
    assert net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sigma": 0}, "sigma must be a positive"),
        ({"sigma": -0.5}, "sigma must be a positive"),
        ({"sigma": math.nan}, "sigma must be a positive"),
        ({"draws": 0}, "draws must be a whole"),
        ({"draws": 1.5}, "draws must be a whole"),
        ({"draws": 5}, "draws must be more"),
        ({"select": 0}, "select must be a whole"),
        ({"alpha": 0}, "alpha must be a number"),
        ({"alpha": 1}, "alpha must be a number"),
        ({"alpha": math.nan}, "alpha must be a number"),
        ({"eot": 0}, "eot must be a whole"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Smoothing(**wrong)  # type: ignore[arg-type]


def test_a_grid_is_needed_and_a_ball() -> None:
    from robustkit.attacks import Spatial

    net, x, y, _ = linear()
    with pytest.raises(ConfigError, match="eps is empty"):
        certify(net, (x, y), Smoothing(), [])
    with pytest.raises(ConfigError, match="about a ball"):
        certify(net, (x, y), Smoothing(), [0.1], attacks=[Spatial()])
    with pytest.raises(ConfigError, match="one norm"):
        certify(net, (x, y), Smoothing(), [0.1], attacks=[PGD(norm="linf")])
