"""The outcome of a batch: columns of numbers, and a few points for pictures; no reference to model, data or journal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from robustkit.auditing.columns import AttackColumns, AttackCounts, SampleColumns


@dataclass(frozen=True)
class Shown:
    """A broken sample that a picture may show.

    Args:
        row: in the batch.
        point: [C, H, W], on the CPU.
        target: the class that it was to reach, None where it was to leave its own.
    """

    row: int
    point: Tensor
    target: int | None


@dataclass
class AttackOutcome:
    """One attack's results on the samples of a batch."""

    columns: AttackColumns
    counts: AttackCounts
    shown: list[Shown] = field(default_factory=list)


@dataclass
class TransferCounts:
    """Points made on each model and tried on all: on how many samples, and how many each model gets wrong of them.

    Args:
        samples: right on every model before.
        wrong: int64 [makers, models].
    """

    samples: int
    wrong: np.ndarray


@dataclass
class BatchOutcome:
    """Everything that a worker finds out about a batch; of one that was interrupted, what was finished.

    Args:
        number: of the batch, from 0.
        names: of its samples.
        samples: None until the model has answered.
        attacks: of the attacks that are through with it, in the plan's order.
        transfer: of an audit with surrogates.
        complete: False until everything is done.
    """

    number: int
    names: list[str] = field(default_factory=list)
    samples: SampleColumns | None = None
    attacks: list[AttackOutcome] = field(default_factory=list)
    transfer: TransferCounts | None = None
    complete: bool = False
