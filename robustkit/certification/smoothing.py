"""Randomised smoothing: the class that a network gives most noisy copies of a picture, with a certified radius."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustkit.attacks.core.random_draws import row_generator
from robustkit.attacks.core.validation import check_count, check_positive, is_number, require
from robustkit.attacks.model.classifier import Classifier
from robustkit.certification.certifier import Certifier, Parameters, Prediction
from robustkit.models.load import LoadedModel, ModelSource
from robustkit.models.memory import HalvingBatch

_BLOCK = 200_000  # noise values drawn at once, about: fixed, so that a row's draws do not depend on the batch
_PREDICT = 1000  # draws for an attacked point at most: it needs no radius
_SELECT, _ESTIMATE, _SURROGATE = 71, 72, 73  # streams of noise
_Row = tuple[int, bool, float, float]  # class, without an answer, confidence, radius


def clopper_pearson(successes: int, draws: int, alpha: float) -> float:
    """The one-sided lower bound of a probability at confidence 1 - alpha, exact (Clopper & Pearson 1934).

    >>> round(clopper_pearson(100_000, 100_000, 0.001), 6)
    0.999931
    """
    from scipy.stats import beta

    return float(beta.ppf(alpha, successes, draws - successes + 1)) if successes else 0.0


@dataclass(frozen=True)
class Smoothing:
    """The classifier g that answers what a network f says most often of x + N(0, sigma² I).

    Cohen et al. 2019, arXiv 1902.02918. A class is chosen by `select` draws; from `draws` others follows a lower bound
    p of its probability, at confidence 1 - alpha. Unless p > ½ there is no answer; else g gives that class everywhere
    within sigma · Φ⁻¹(p) of x in L2. The noise is not clipped to the box: the theorem needs all of it.

    Args:
        sigma: deviation of the noise, in pixel units of [0,1].
        draws, select: n and n0 of the paper.
        alpha: the probability, for each sample, that what is said of it is wrong.
        eot: noisy copies that an attack on g averages its gradient over (Salman et al. 2019, arXiv 1906.04584).

    Raises:
        ValueError: a parameter out of range.

    >>> how = Smoothing(sigma=0.5, draws=100_000)
    >>> round(how.radius(100_000) / how.sigma, 2)  # the ceiling of so many draws, in sigmas
    3.81
    """

    sigma: float = 0.25
    draws: int = 1000
    select: int = 100
    alpha: float = 0.001
    eot: int = 16

    def __post_init__(self) -> None:
        check_positive("sigma", self.sigma)
        check_count("draws", self.draws)
        check_count("select", self.select)
        check_count("eot", self.eot)
        inside = is_number(self.alpha) and 0 < self.alpha < 1
        require(inside, f"alpha must be a number between 0 and 1, got {self.alpha!r}")
        require(
            self.alpha ** (1 / self.draws) > 0.5,
            f"draws must be more: {self.draws} that all agree do not establish a majority at alpha = {self.alpha:g}",
        )

    def radius(self, successes: int) -> float | None:
        """Certified radius of a class that so many of the draws gave; None where they establish no majority."""
        from scipy.stats import norm

        least = clopper_pearson(successes, self.draws, self.alpha)
        return float(self.sigma * norm.ppf(least)) if least > 0.5 else None


class Smoothed(nn.Module):
    """The log of the mean of the softmax over fixed noisy copies of a picture: g made differentiable, for attacks.

    Every picture meets the same noise, [draws, C, H, W], so that its answer does not depend on its batch. It is an
    attack's model of g and no more: what an attack brings is judged by fresh noise.
    """

    def __init__(self, model: Classifier, noise: Tensor) -> None:
        super().__init__()
        self.model = model
        self.net = model.net
        self.differentiable = model.access == "gradient"
        self.register_buffer("noise", noise)

    def forward(self, x: Tensor) -> Tensor:
        noise = self.get_buffer("noise").to(x)
        noisy = (x[:, None] + noise).flatten(0, 1)
        mean = self.model.graph(noisy).softmax(1).view(len(x), len(noise), -1).mean(1)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def smoothed(model: LoadedModel, how: Smoothing, seed: int) -> LoadedModel:
    """The classifier that attacks on g are given, with g's name."""
    shape = (model.preprocess.channels, *model.preprocess.size)
    noise = torch.randn(how.eot, *shape, generator=row_generator(seed, 0, _SURROGATE))
    source = ModelSource(
        Smoothed(model, (how.sigma * noise).to(model.device)),
        title=f"{model.title}, smoothed with σ = {how.sigma:g}",
        preprocess=model.preprocess,
        labels=model.labels,
        classes=model.num_classes,
        digest=model.digest,
    )
    found = LoadedModel(model.name, source)
    found.parameters = model.parameters
    found.prepared = model.prepared
    found.notes = model.notes
    return found


class SmoothingCertifier(Certifier):
    """Cohen's CERTIFY and PREDICT for a model; a sample's noise comes from (seed, id) alone."""

    exact: ClassVar[bool] = False

    name = "smoothing"
    title = "Randomised smoothing"
    paper = "Cohen et al. 2019, arXiv 1902.02918"
    norm = "l2"

    def __init__(self, model: Classifier, how: Smoothing, seed: int, batch: HalvingBatch) -> None:
        self.model, self.how, self.seed, self.batch = model, how, seed, batch

    def parameters(self) -> Parameters:
        return dataclasses.asdict(self.how)

    def certify(self, x: Tensor, y: Tensor, ids: Tensor) -> Prediction:
        return _prediction([self._certified(row, int(sample)) for row, sample in zip(x, ids, strict=True)], x.device)

    def predict(self, x: Tensor, ids: Tensor) -> Prediction:
        return _prediction([self._predicted(row, int(sample)) for row, sample in zip(x, ids, strict=True)], x.device)

    def votes(self, x: Tensor, sample: int, draws: int, stream: int = _ESTIMATE) -> Tensor:
        """Counts of the classes that the network gives noisy copies of a picture [C, H, W]: int64 [K] on the CPU."""
        generator = row_generator(self.seed, sample, stream)
        total: Tensor | None = None
        for noise in _noise(x.shape, draws, generator):
            noisy = x + self.how.sigma * noise.to(x)
            for logits in self.batch.parts(len(noisy), partial(self._logits, noisy)):
                counts = torch.bincount(logits.argmax(1).cpu(), minlength=logits.shape[1])
                total = counts if total is None else total + counts
        assert total is not None  # there is at least one draw
        return total

    def _logits(self, x: Tensor, part: slice) -> Tensor:
        return self.model.logits(x[part])

    def _certified(self, x: Tensor, sample: int) -> _Row:
        how = self.how
        chosen = int(self.votes(x, sample, how.select, _SELECT).argmax())
        count = int(self.votes(x, sample, how.draws)[chosen])
        radius = how.radius(count)
        return chosen, radius is None, count / how.draws, math.nan if radius is None else radius

    def _predicted(self, x: Tensor, sample: int) -> _Row:
        from scipy.stats import binomtest

        draws = min(self.how.draws, _PREDICT)
        counts, classes = self.votes(x, sample, draws).topk(2)
        most, next_most = counts.tolist()
        unsure = binomtest(most, most + next_most, 0.5).pvalue > self.how.alpha
        return int(classes[0]), bool(unsure), most / draws, math.nan


def _noise(shape: torch.Size, draws: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Normal noise in blocks of one size, so that its first entries are the same however many follow."""
    block = max(1, _BLOCK // shape.numel())
    for done in range(0, draws, block):
        yield torch.randn(block, *shape, generator=generator)[: draws - done]


def _prediction(rows: list[_Row], device: torch.device) -> Prediction:
    kinds = (torch.int64, torch.bool, torch.float64, torch.float64)
    columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Prediction(
        *(torch.tensor(column, dtype=kind, device=device) for column, kind in zip(columns, kinds, strict=True))
    )
