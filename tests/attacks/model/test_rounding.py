"""Probabilities that were rounded, told from those that are none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.attacks import Classifier
from robustkit.attacks.model.rounding import look_like_probabilities, rounding_step


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 1200),
    digits=st.integers(1, 7),
    size=st.sampled_from([0.1, 1.0, 5.0, 30.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    cut=st.booleans(),
)
def test_softmax_outputs_are_probabilities_to_any_number_of_digits(seed, classes, digits, size, dtype, cut) -> None:
    logits = size * torch.randn(5, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    scaled = logits.softmax(1) * 10**digits
    rounded = ((scaled.floor() if cut else scaled.round()) / 10**digits).to(dtype)
    assert look_like_probabilities(rounded)
    model = Classifier(lambda x: rounded[: len(x)], outputs="probabilities")
    assert torch.isfinite(model.logits(torch.zeros(5, 1, 2, 2))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("digits", "step"), [(1, 0.1), (3, 0.001), (6, 1e-6)])
def test_the_step_is_that_of_the_digits(dtype, digits: int, step: float) -> None:
    values = torch.rand(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert rounding_step((values * 10**digits).round().div(10**digits).to(dtype)) == pytest.approx(step)
    assert rounding_step(values) == 0


@pytest.mark.parametrize(
    "scores",
    [
        [[0.9, 0.8, 0.1], [0.1, 0.2, 0.1]],  # a sigmoid each
        [[0.91234567, 0.43219876], [0.5, 0.5]],
        [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        [[2.0, -1.0], [0.5, 0.5]],
        [[0.0, 0.0], [1.0, 0.0]],
    ],
)
def test_what_is_no_probability_is_refused(scores) -> None:
    rows = torch.tensor(scores, dtype=torch.float64)
    assert not look_like_probabilities(rows)
    with pytest.raises(ValueError, match="numbers that are no probabilities"):
        Classifier(lambda x: rows, outputs="probabilities").logits(torch.zeros(2, 1, 2, 2))
