"""Models of MAITE's protocol for image classification, taken in and given out; maite itself is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustkit.attacks.model.classifier import Classifier
from robustkit.attacks.model.rounding import look_like_probabilities
from robustkit.data.dataset import Data
from robustkit.data.kinds.maite import DatasetForMaite, identified, labels_by_index, names_of
from robustkit.data.pictures import Preprocess
from robustkit.errors import ConfigError, DataError, ModelError
from robustkit.models.load import LoadedModel
from robustkit.models.source import ModelSource
from robustkit.text import one_line

_SAME = 1e-4  # by which two ways of asking may differ, of the size of the scores


def is_maite_model(thing: Any) -> bool:
    """Say whether it is a model of MAITE's: it is called, and has metadata with an id."""
    return identified(thing) and callable(thing) and not isinstance(thing, type | Classifier)


class MaiteModule(nn.Module):
    """A model of MAITE's as a module: float [B, C, H, W] in [0,1] -> scores [B, K].

    Args:
        model: takes a sequence of pictures [C, H, W] and gives one of scores [K].
        scale: by which pixels are multiplied: 255 for one that goes with pictures in uint8.
        whole: pixels are rounded to uint8.
        differentiable: it is given tensors, and its scores lead back to them; otherwise it is given arrays.
    """

    def __init__(self, model: Any, scale: float = 1.0, whole: bool = False, differentiable: bool = False) -> None:
        super().__init__()
        self.model, self.scale, self.whole, self.differentiable = model, scale, whole, differentiable

    def forward(self, x: Tensor) -> Tensor:
        point = x * self.scale if self.scale != 1 else x
        if self.differentiable:
            pictures: list[Any] = list(point.unbind())
        else:
            array = point.detach().cpu().numpy()
            pictures = list(array.round().clip(0, 255).astype(np.uint8) if self.whole else array)
        rows = list(self.model(pictures))
        scores = [row if isinstance(row, Tensor) else torch.from_numpy(np.array(row)) for row in rows]
        return torch.stack(scores).to(x.device) if scores else torch.zeros(0, 2, device=x.device)


def from_maite(model: Any, x: Tensor, whole: bool = False) -> LoadedModel:
    """A model of MAITE's, ready to be attacked.

    It gives gradients where it is made of torch: tensors that go in lead to scores that lead back, and are the same as
    those for arrays. Scores that lie in [0,1] and sum to 1 are taken for probabilities, others for logits.

    Args:
        model: of `maite.protocols.image_classification.Model`.
        x: a few pictures that it goes with, float32 [B, C, H, W] in [0,1].
        whole: they were uint8, and so the model takes pixels of 0 to 255.

    Raises:
        ModelError: it does not take the pictures, or does not give a row of scores for each.
    """
    name = str(model.metadata["id"])
    net, scores = _way(model, x, name, whole)
    if scores.dim() != 2 or len(scores) != len(x) or scores.shape[1] < 2 or not scores.is_floating_point():
        raise ModelError(f"{name} gives {scores.dtype} {list(scores.shape)} for {len(x)} pictures: one score a class")
    source = ModelSource(
        net,
        title=name,
        preprocess=Preprocess((x.shape[2], x.shape[3]), x.shape[1]),
        labels=names_of(model.metadata, scores.shape[1]),
        classes=scores.shape[1],
    )
    return LoadedModel(name, source, outputs="probabilities" if look_like_probabilities(scores) else "logits")


def _way(model: Any, x: Tensor, name: str, whole: bool) -> tuple[MaiteModule, Tensor]:
    """The way to ask it that gives the most (gradients, fractions of a level) and the same scores as the plainest."""
    plain = MaiteModule(model, 255.0 if whole else 1.0, whole)
    with Classifier(plain).frozen():
        try:
            expected = plain(x).detach()
        except Exception as error:  # anybody's code
            shape = "×".join(map(str, x.shape[1:]))
            raise ModelError(f"{name} does not take pictures of {shape} ({one_line(error)})") from None
        for differentiable in (True, False):
            other = MaiteModule(model, plain.scale, False, differentiable)
            try:
                with torch.enable_grad():
                    scores = other(x.clone().requires_grad_(differentiable))
            except Exception:  # it takes no tensors, or no fractions: there are other ways
                continue
            answer, size = scores.detach().double(), _SAME * float(expected.abs().max())
            same = answer.shape == expected.shape and torch.allclose(answer, expected.double(), rtol=_SAME, atol=size)
            if same and (scores.requires_grad or not differentiable):
                return other, expected
    return plain, expected


class ModelForMaite:
    """A model of ours as MAITE's protocol has it: `maite.protocols.image_classification.Model`.

    Args:
        model: from `load_model`.

    Attributes:
        metadata: the id, and `index2label`, the names of the classes.
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.metadata: dict[str, Any] = {"id": model.name, "index2label": labels_by_index(model)}

    def __call__(self, batch: Sequence[Any], /) -> list[NDArray[np.float32]]:
        """Logits float32 [K] of each picture [C, H, W], uint8 or floating in [0,1].

        Raises:
            DataError: a picture of another size, or out of range.
        """
        wanted = (self.model.preprocess.channels, *self.model.preprocess.size)
        rows = []
        for each in batch:
            picture = np.asarray(each)
            if picture.shape != wanted:
                raise DataError(f"{self.model.name} takes pictures of {list(wanted)}, not {list(picture.shape)}")
            scaled = picture.astype(np.float32) / np.float32(255 if picture.dtype == np.uint8 else 1)
            if not (scaled.min() >= 0 and scaled.max() <= 1):
                raise DataError(f"{self.model.name} takes uint8, or float in [0,1]: it normalises by itself")
            rows.append(scaled)
        if not rows:
            return []
        logits = self.model.logits(torch.from_numpy(np.stack(rows)).to(self.model.device))
        return list(logits.float().cpu().numpy())


@overload
def to_maite(thing: LoadedModel) -> ModelForMaite: ...
@overload
def to_maite(thing: Data, model: LoadedModel) -> DatasetForMaite: ...
def to_maite(thing: LoadedModel | Data, model: LoadedModel | None = None) -> ModelForMaite | DatasetForMaite:
    """A model or data of ours for MAITE's tasks (`maite.tasks.evaluate`, `predict`).

    Args:
        thing: from `load_model`, or from `load_data`.
        model: with data, the model for which pictures are fitted and classes numbered.

    Raises:
        ConfigError: it is neither, or the model is missing.
        DataError: the data do not suit the model.
    """
    if isinstance(thing, LoadedModel):
        return ModelForMaite(thing)
    if isinstance(thing, Data) and isinstance(model, LoadedModel):
        return DatasetForMaite(thing, model)
    raise ConfigError("to_maite takes a model from load_model, or data from load_data and the model to fit them to")
