"""PyTorch without a name that we go by: the check is an error that says so, and the answers of an audit tell it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from museum import MUSEUM, digits, honest
from torch import Tensor

from robustkit import audit
from robustkit.adaptive.gradient_modes import StraightThrough
from robustkit.attacks import PGD, Classifier
from robustkit.checks import torch_internals
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.gradients import optimises_inside
from robustkit.checks.torch_internals import (
    ENGINE,
    BrokenInternals,
    counted_optimisation,
    require_function_names,
    tensor_data_getter,
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for cached in (require_function_names, tensor_data_getter):
        cached.cache_clear()
    yield
    for cached in (require_function_names, tensor_data_getter):
        cached.cache_clear()


def test_a_missing_engine_is_an_error_of_the_check_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = CheckedModel(Classifier(honest("lenet-mnist")), *digits(4), seed=0)
    assert optimises_inside.run(checked).status == "pass"
    monkeypatch.delattr(torch.autograd, ENGINE)
    result = optimises_inside.run(checked)
    assert result.status == "error"
    assert f"PyTorch {torch.__version__} has no torch.autograd._engine_run_backward" in result.detail


def test_an_engine_that_nobody_calls_by_its_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(output: Tensor, leaf: Tensor) -> tuple[Tensor]:
        return (torch.zeros_like(leaf),)

    engine = getattr(torch.autograd, ENGINE)
    monkeypatch.setattr(torch.autograd, "grad", elsewhere)
    with pytest.raises(BrokenInternals, match=r"differentiates without torch\.autograd"), counted_optimisation():
        pass
    assert getattr(torch.autograd, ENGINE) is engine


def test_the_count_starts_at_none_and_leaves_the_engine_as_it_was() -> None:
    engine = getattr(torch.autograd, ENGINE)
    with torch.inference_mode(), counted_optimisation() as calls:
        assert calls == [0]
    assert getattr(torch.autograd, ENGINE) is engine


def test_a_function_that_goes_by_another_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_internals._NAMED, "masked_fill", lambda: torch.ones(1).fill_(0))
    with pytest.raises(BrokenInternals, match=r"PyTorch .* tells a TorchFunctionMode of “masked_fill” by no such name"):
        StraightThrough()


def test_a_getter_that_is_not_told_is_told_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_internals, "_told_of", lambda call: [])
    with pytest.raises(BrokenInternals, match=r"nothing of tensor\.data"):
        tensor_data_getter()


def test_the_answers_of_an_audit_tell_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_internals._NAMED, "round", lambda: torch.ones(1).floor())
    exhibit = next(exhibit for exhibit in MUSEUM if exhibit.name == "quantised")
    record = audit(exhibit.net(), digits(8), [PGD(steps=5)], [0.2], adapt=True)
    assert record.adapted is not None
    (answer,) = record.adapted.answers
    assert answer.attack is None
    assert answer.what.startswith(f"Error: no attack could be chosen (PyTorch {torch.__version__}")
    assert "“round”" in answer.what
