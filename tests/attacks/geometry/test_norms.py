"""The norms against independent exact solvers."""

from __future__ import annotations

from typing import NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from attack_models import NORMS, best_gain, nearest
from exact_planes import shortest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import kstest
from torch import Tensor

from robustkit.attacks.core.random_draws import row_generator
from robustkit.attacks.geometry import norms

few = settings(max_examples=120, deadline=None, derandomize=True)
DTYPES = (torch.float32, torch.float64)


class Case(NamedTuple):
    x: Tensor
    r: Tensor
    eps: float

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        return -self.x, 1 - self.x

    def rows(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        low, high = self.bounds
        return [tuple(t.flatten().double().numpy() for t in row) for row in zip(self.r, low, high, strict=True)]


@st.composite
def cases(draw: st.DrawFn, largest: float = 1e3) -> Case:
    """Pixels with many exactly black or white, and perturbations of all sizes, equal and zero entries too."""
    dtype = draw(st.sampled_from(DTYPES))
    width = 32 if dtype == torch.float32 else 64
    shape = (draw(st.integers(1, 3)), *draw(st.sampled_from([(1,), (3,), (8,), (1, 2, 2), (3, 2, 2)])))
    pixel = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, width=width))
    push = st.one_of(
        st.sampled_from([0.0, 0.5, -1.0]),
        st.floats(-2, 2, width=width),
        st.floats(-largest, largest, width=width, allow_subnormal=False),
    )
    kind = np.float32 if width == 32 else np.float64
    x, r = (torch.from_numpy(draw(hnp.arrays(kind, shape, elements=e))) for e in (pixel, push))
    return Case(x, r, draw(st.one_of(st.sampled_from([0.5, 1.0]), st.floats(1e-4, 5))))


def outside(case: Case, p: Tensor, name: str) -> float:
    """By how much p leaves ball or box at most."""
    low, high = case.bounds
    over = norms.get(name).size(p.double()) - case.eps
    return max(float(over.max()), float((low - p).max()), float((p - high).max()))


@few
@given(case=cases(), name=st.sampled_from(NORMS))
def test_projection_is_feasible_and_a_second_one_changes_nothing(case: Case, name: str) -> None:
    norm = norms.get(name)
    p = norm.project(case.r, case.eps, *case.bounds)
    assert p.dtype == case.r.dtype
    assert p.shape == case.r.shape
    assert outside(case, p, name) <= 1e-6
    torch.testing.assert_close(norm.project(p, case.eps, *case.bounds), p, atol=1e-6, rtol=1e-6)


@few
@given(case=cases(), name=st.sampled_from(NORMS))
def test_projection_is_the_nearest_point(case: Case, name: str) -> None:
    p = norms.get(name).project(case.r, case.eps, *case.bounds)
    for got, (r, low, high) in zip(p.flatten(1).double().numpy(), case.rows(), strict=True):
        want = nearest(r, case.eps, low, high, name)
        # Rounding of r itself moves the answer; beyond that the projection is unique.
        np.testing.assert_allclose(got, want, atol=2e-6 * max(1, np.abs(r).max()), rtol=0)


@few
@given(case=cases(), name=st.sampled_from(NORMS), share=st.floats(0, 0.999))
def test_a_point_inside_stays(case: Case, name: str, share: float) -> None:
    norm = norms.get(name)
    inside = norm.project(case.r, case.eps, *case.bounds) * share
    assert torch.equal(norm.project(inside, case.eps, *case.bounds), inside)


@few
@given(case=cases(largest=2.0**100), name=st.sampled_from(NORMS))
def test_huge_perturbations_are_projected_without_nan(case: Case, name: str) -> None:
    p = norms.get(name).project(case.r, case.eps, *case.bounds)
    assert torch.isfinite(p).all()
    assert outside(case, p, name) <= 1e-6


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_the_reference_projection_agrees_with_slsqp(name: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(10):
        x, r = generator.random(5).round(1), generator.normal(size=5)
        eps, order = generator.uniform(0.1, 1.5), 1 if name == "l1" else 2
        # r = p - q, which makes the l1 ball smooth.
        found = minimize(
            lambda v, r=r: ((v[:5] - v[5:] - r) ** 2).sum(),
            np.zeros(10),
            method="SLSQP",
            bounds=[(0, h) for h in 1 - x] + [(0, h) for h in x],
            constraints={"type": "ineq", "fun": lambda v, e=eps, o=order: e**o - (v[:5] ** o + v[5:] ** o).sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        want = nearest(r, eps, -x, 1 - x, name)
        np.testing.assert_allclose(found.x[:5] - found.x[5:], want, atol=1e-4)


@few
@given(case=cases(), name=st.sampled_from(NORMS))
def test_steepest_is_feasible_and_optimal(case: Case, name: str) -> None:
    r = norms.get(name).steepest(case.r, case.eps, *case.bounds)
    assert outside(case, r, name) <= 1e-6
    for got, (g, low, high) in zip(r.flatten(1).double().numpy(), case.rows(), strict=True):
        scale = np.abs(g).max()
        assert scale == 0 or got @ (g / scale) >= best_gain(g / scale, case.eps, low, high, name) - 1e-5


@few
@given(case=cases(), name=st.sampled_from(NORMS))
def test_a_step_goes_uphill_within_its_length_and_the_box(case: Case, name: str) -> None:
    move = norms.get(name).step(case.r, case.eps, *case.bounds)
    assert outside(case, move, name) <= 1e-6 * max(1, case.eps)
    room = torch.where(case.r > 0, case.bounds[1], -case.bounds[0]) * (case.r.abs() > 1e-9)
    assert bool(((move * case.r).flatten(1).sum(1) > 0)[(room > 1e-3).flatten(1).any(1)].all())


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_steepest_does_not_depend_on_the_size_of_the_gradient(name: str, scale: float) -> None:
    g, x = torch.randn(4, 50), torch.rand(4, 50)
    norm = norms.get(name)
    torch.testing.assert_close(norm.steepest(g * scale, 0.7, -x, 1 - x), norm.steepest(g, 0.7, -x, 1 - x))


@pytest.mark.parametrize("name", NORMS)
def test_steepest_of_no_gradient_is_no_move(name: str) -> None:
    x = torch.rand(2, 6)
    r = norms.get(name).steepest(torch.zeros(2, 6), 0.5, -x, 1 - x)
    assert torch.equal(r, torch.zeros(2, 6))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tail", [1e-3, 1e-5, 1e-9])
def test_l2_steepest_spends_the_budget_where_one_pixel_takes_it_all(tail: float, dtype: torch.dtype) -> None:
    g, x = torch.tensor([[1.0, tail]], dtype=dtype), torch.full((1, 2), 0.5, dtype=dtype)
    assert float(norms.get("l2").steepest(g, 0.5, -x, 1 - x)[0, 0]) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_projection_of_a_point_outside_lands_on_the_sphere(name: str, dtype: torch.dtype) -> None:
    """Thousands of rows: root searches fail in few of them."""
    torch.manual_seed(1)
    norm, x = norms.get(name), torch.rand(3000, 12, dtype=dtype)
    x[x < 0.2], x[x > 0.8] = 0, 1
    r = torch.randn(3000, 12, dtype=dtype)
    keep = norm.size(r.clamp(-x, 1 - x)) > 0.3
    size = norm.size(norm.project(r[keep], 0.3, -x[keep], 1 - x[keep]))
    torch.testing.assert_close(size, torch.full_like(size, 0.3))


@pytest.mark.parametrize("name", NORMS)
def test_a_row_is_projected_alike_whatever_the_others_are(name: str) -> None:
    torch.manual_seed(2)
    norm, x, r = norms.get(name), torch.rand(60, 30), torch.randn(60, 30) * torch.logspace(-2, 2, 60)[:, None]
    together = norm.project(r, 0.9, -x, 1 - x)
    alone = torch.cat([norm.project(r[i : i + 1], 0.9, -x[i : i + 1], 1 - x[i : i + 1]) for i in range(60)])
    torch.testing.assert_close(together, alone, atol=1e-7, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "eps"), [("linf", 0.03), ("l2", 5.0), ("l1", 10.0), ("l1", 3000.0)])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_point_of_150k_pixels_is_within_eps_in_double(name: str, eps: float, spread: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    norm, x = norms.get(name), torch.rand(1, 3, 224, 224, dtype=dtype)
    z = norm.point(x, spread * torch.randn_like(x), eps)
    assert float(norm.size(z.double() - x.double())) <= eps + 1e-6
    assert float(z.min()) >= 0
    assert float(z.max()) <= 1
    if spread == 1:  # and the budget is used
        assert float(norm.size(z.double() - x.double())) >= 0.999 * eps


def test_l1_steepest_looks_past_the_largest_gains_when_they_have_no_room() -> None:
    torch.manual_seed(4)
    g, x = torch.rand(2, 4000) + 0.1, torch.ones(2, 4000)
    x[:, ::7] = 0.999  # room here and there, a thousandth each
    r = norms.get("l1").steepest(g, 0.4, -x, 1 - x)
    for got, row, bounds in zip(r, g, 1 - x, strict=True):
        want = float(row[bounds > 0].sort(descending=True).values[:400].sum()) * 1e-3
        assert float(got @ row) == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize(("name", "second"), [("linf", 1 / 3), ("l2", 1 / 7), ("l1", 2 / 42)])
def test_samples_are_uniform_in_the_ball(name: str, second: float) -> None:
    """In n dimensions (size/eps)^n is uniform on [0,1], and each coordinate has a known second moment."""
    norm, n, eps = norms.get(name), 5, 0.3
    draws = torch.stack([norm.sample((n,), eps, row_generator(0, i, 0)) for i in range(4000)])
    sizes = norm.size(draws.double())
    assert float(sizes.max()) <= eps + 1e-6
    assert kstest(((sizes / eps) ** n).numpy(), "uniform").pvalue > 1e-3
    torch.testing.assert_close(draws.mean(0), torch.zeros(n), atol=0.012, rtol=0)
    torch.testing.assert_close(draws.square().mean(0) / eps**2, torch.full((n,), second), atol=0.0, rtol=0.1)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (150_528,)], ids=str)
def test_a_sample_has_the_shape_asked_for_and_lies_in_the_ball(name: str, shape: tuple[int, ...]) -> None:
    r = norms.get(name).sample(shape, 2.0, torch.Generator().manual_seed(0))
    assert r.shape == shape
    assert r.dtype == torch.float32
    assert float(norms.get(name).size(r[None].double())) <= 2 + 1e-6


@pytest.mark.parametrize("name", ["l3", "", None, 2, ["l2"]])
def test_an_unknown_norm_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="norm is one of linf, l2, l1"):
        norms.get(name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_onto_a_plane_is_the_shortest_way_within_the_box(name: str, dtype: torch.dtype) -> None:
    generator, norm = np.random.default_rng(6), norms.get(name)
    x, w = generator.uniform(-0.3, 1.3, (60, 12)).clip(0, 1), generator.normal(size=(60, 12))
    w[generator.random(w.shape) < 0.2] = 0
    w *= 10.0 ** generator.uniform(-3, 3, (60, 1))
    most, least = ((np.where(w * s > 0, 1 - x, -x) * w).sum(1) for s in (1, -1))
    gap = generator.uniform(1.3 * least, 1.3 * most)
    low, high, slope, want = (torch.tensor(value, dtype=dtype) for value in (-x, 1 - x, w, gap))
    r = norm.onto_plane(slope, want, low, high)
    assert bool(((r >= low) & (r <= high)).all())
    scale = np.abs(w).sum(1)
    got = (r.double().numpy() * w).sum(1)
    np.testing.assert_allclose(got / scale, gap.clip(least, most) / scale, atol=1e-6)
    for row in ((gap > 0.999 * least) & (gap < 0.999 * most)).nonzero()[0]:
        exact = shortest(w[row], gap[row], -x[row], 1 - x[row], name)
        assert float(norm.size(r[row : row + 1])) == pytest.approx(exact, rel=1e-4, abs=1e-5)
    none = norm.onto_plane(torch.zeros_like(slope), want, low, high)
    assert torch.equal(none, torch.zeros_like(none))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_onto_a_plane_does_not_depend_on_the_scale(name: str, scale: float) -> None:
    w, x, norm = torch.randn(4, 50), torch.rand(4, 50), norms.get(name)
    gap = torch.tensor([1.0, -2.0, 0.0, 100.0])
    torch.testing.assert_close(norm.onto_plane(w * scale, gap * scale, -x, 1 - x), norm.onto_plane(w, gap, -x, 1 - x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("eps", "length"), [(8 / 255, 0.1), (1 / 255, 2.5 / 255), (0.3, 0.02), (1.0, 1.0), (1e-6, 1e-7)]
)
def test_the_short_climb_in_linf_is_the_long_one_to_the_last_bit(dtype, eps: float, length: float) -> None:
    norm, draw = norms.get("linf"), torch.Generator().manual_seed(0)
    anywhere = torch.rand(64, 3, 8, 8, dtype=dtype, generator=draw)
    dark = anywhere**8
    for x in (anywhere, (anywhere * 255).round() / 255, anywhere.round(), dark, 1 - dark):
        z = (x + (2 * torch.rand(x.shape, dtype=dtype, generator=draw) - 1) * eps).clamp(0, 1)
        for _ in range(4):
            g = torch.randn(x.shape, dtype=dtype, generator=draw)
            g[torch.rand(x.shape, generator=draw) < 0.1] = 0
            kept = g.clone(), x.clone(), z.clone()
            long = norm.point(x, norm.step(g, length, -z, 1 - z) + z - x, eps)
            short = norm.climb(x, z, g, length, eps)
            assert torch.equal(short, long)
            assert all(torch.equal(*pair) for pair in zip(kept, (g, x, z), strict=True))
            z = short
