"""AttackBench's optimality against figures worked out by hand, and against the curves integrated numerically."""

from __future__ import annotations

import numpy as np
import pytest

from robustkit.auditing.optimality import optimality


def integrated(distances: dict[str, np.ndarray]) -> dict[str, float]:
    """The definition itself: areas under robust accuracy over distance, by small steps."""
    best = np.min(list(distances.values()), axis=0)
    grid = np.linspace(0, best[np.isfinite(best)].max(), 200_001)
    middles = (grid[1:] + grid[:-1]) / 2

    def area(found: np.ndarray) -> float:
        robust = 1 - np.searchsorted(np.sort(found), middles, side="right") / len(found)
        return float(robust.sum() * (grid[1] - grid[0]))

    least = area(best)
    return {name: 1 - (area(found) - least) / (grid[-1] - least) for name, found in distances.items()}


def test_a_case_worked_out_by_hand() -> None:
    # Best: 1, 2, 4; so d_max = 4 and A* = 7/3. Of "a", whose 3 and 4 stand for 2 and 4: A = 8/3.
    # Of "b", that breaks two, one of them beyond d_max: A = (4 + 2 + 4)/3 = 10/3. 4 - A* = 5/3.
    found = optimality({"a": np.array([1.0, 3.0, 4.0]), "b": np.array([6.0, 2.0, np.inf])})
    assert found == pytest.approx({"a": 1 - 1 / 5, "b": 1 - 3 / 5})


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_integrating_the_curves_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distances = {name: rng.gamma(2.0, 1.0, 40) for name in "abc"}
    distances["b"][rng.random(40) < 0.2] = np.inf
    distances["c"][rng.random(40) < 0.9] = np.inf
    got, want = optimality(distances), integrated(distances)
    assert {name: round(value, 3) for name, value in want.items()} == pytest.approx(got, abs=2e-3)


def test_the_best_on_every_sample_has_one_and_what_breaks_nothing_zero() -> None:
    best = np.array([0.5, 1.0, 0.1, np.inf])
    found = optimality({"best": best, "worse": 1.1 * best, "nothing": np.full(4, np.inf)})
    assert found["best"] == 1
    assert found["nothing"] == 0
    assert 0 < found["worse"] < 1


def test_it_does_not_depend_on_the_unit_or_the_order_of_samples() -> None:
    rng = np.random.default_rng(0)
    distances = {name: rng.gamma(2.0, 1.0, 30) for name in "ab"}
    order = rng.permutation(30)
    want = optimality(distances)
    assert optimality({name: 255 * each[order] for name, each in distances.items()}) == pytest.approx(want)


@pytest.mark.parametrize(
    "distances",
    [
        {"a": np.full(3, np.inf), "b": np.full(3, np.inf)},  # nothing is broken
        {"a": np.array([2.0, 2.0]), "b": np.array([2.0, 3.0])},  # the curve has no room above it
        {"a": np.zeros(3), "b": np.zeros(3)},
        {"a": np.array([]), "b": np.array([])},
        {"a": np.array([1.5])},
    ],
)
def test_where_it_is_not_defined_there_is_none(distances: dict[str, np.ndarray]) -> None:
    assert optimality(distances) == dict.fromkeys(distances)
