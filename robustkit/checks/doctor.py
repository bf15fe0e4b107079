"""Is this model and data fit to be audited? The preflight checks alone, in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier, as_classifier
from robustkit.checks import CheckResult, preflight
from robustkit.data.load import Data, tensor_data
from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel
from robustkit.text import one_line


def doctor(
    model: LoadedModel | Classifier | nn.Module | Callable[[Tensor], Any],
    data: Data | tuple[Tensor, Tensor],
    samples: int = 32,
    seed: int = 0,
) -> list[CheckResult]:
    """Every check that needs no attack, on the first samples of the data.

    Args:
        model: from `load_model`; or, with tensors as data, any Classifier, module or function on pixels in [0,1].
        data: from `load_data`, or a pair (x float32 [N, C, H, W] in [0,1], y int64 [N]), of which samples all along
            are taken.
        samples: how many to look at.
        seed: of all random draws.

    Raises:
        ConfigError, DataError, ModelError: when the pieces do not fit.
    """
    if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
        raise ConfigError(f"samples must be a whole number of at least 1, got {samples!r}")
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    if isinstance(data, Data):
        if not isinstance(model, LoadedModel):
            raise ConfigError(
                "with data from load_data the model must come from load_model: it must know its input size"
            )
        batch = next(iter(data.batches(model, samples, samples)))
        x, y = batch.x, batch.y
    else:
        if not isinstance(data, tuple | list) or [isinstance(part, Tensor) for part in data] != [True, True]:
            raise ConfigError("data is what load_data gives, or a pair (x [N, C, H, W], y [N]) of tensors")
        tensor_data(*data)  # refuses what is no data
        # Arrays are often sorted by class.
        chosen = torch.linspace(0, len(data[0]) - 1, min(samples, len(data[0]))).round().long()
        x, y = (part[chosen.to(part.device)] for part in data)
    try:
        subject = as_classifier(model)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return _examined(subject, x.to(subject.device), y.to(subject.device), seed)


def _examined(model: Classifier, x: Tensor, y: Tensor, seed: int) -> list[CheckResult]:
    try:
        return preflight(model, x, y, seed)
    except ValueError as error:
        raise ModelError(one_line(error)) from None
    except Exception as error:  # whatever the network raises on an input of the wrong size
        shape = "×".join(map(str, x.shape[1:]))
        raise ModelError(f"the model does not take pictures of {shape} ({one_line(error)})") from None
