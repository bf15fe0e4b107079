"""The audit: every attack on every sample over a grid of ε, judged again by the model in full precision."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import robustkit
from robustkit.attacks import norms
from robustkit.attacks.base import Attack, check_eps
from robustkit.attacks.classifier import Classifier, as_classifier
from robustkit.compare import Subject, class_index, class_name, save_comparison
from robustkit.data import Batch, Data, tensor_data
from robustkit.errors import AuditFailed, AuditInterrupted, ConfigError
from robustkit.ledger import TOLERANCE, Ledger, Tally, spread
from robustkit.models import LoadedModel, Preprocess
from robustkit.reports import AuditRecord, DataInfo, ModelInfo, RunInfo, Skipped

PICTURES = 6  # comparisons in a report
_LEVEL = 1 / 255  # of an 8-bit picture
_BATCH_FLOATS = 3_100_000  # input values per batch: 20 photographs of 224×224
LEAST_LIKELY = "least-likely"

Watch = Callable[[str, int, int, int], None]  # what is going on, samples done with it, samples in all, gradients


def audit(
    model: LoadedModel | Classifier | nn.Module,
    data: Data | tuple[Tensor, Tensor],
    attacks: Sequence[Attack],
    eps: Iterable[float] | Mapping[float, str] = (),
    *,
    seed: int = 0,
    norm: str | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
    target: int | str | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    command: str = "",
) -> AuditRecord:
    """Attack a model on labelled pictures and record how little it takes.

    A sample whose clean prediction is wrong counts as not robust and is not attacked. The others meet every attack;
    what a budgeted attack breaks at one ε counts as broken at each larger one, whose ball holds the point too.
    Memory does not grow with the number of samples but for a few numbers each.

    Args:
        model: from `load_model`; or, with tensors as data, any Classifier or module on pixels in [0,1].
        data: from `load_data`, or a pair (x float32 [N, C, H, W] in [0,1], y int64 [N]).
        attacks: budgeted ones take their ε from the grid, whatever their own eps says.
        eps: the grid, in pixel units; needed if an attack is budgeted. A mapping also says how to write each.
        seed: of all random draws; a sample's draws depend on (seed, sample id) alone.
        norm: "linf", "l2" or "l1", in which distances are measured; by default that of the budgeted attacks.
        samples: how many to judge; all by default.
        batch_size: samples at a time; by default what fits pictures of this size.
        target: a class (index or name) or "least-likely" for targeted attacks. A sample of that very class is
            attacked untargeted.
        out: folder of the report; the pictures of the comparisons are written to `out/comparisons`. Without it
            there are none.
        watch: called with what is going on, samples done with it, samples in all, and gradients taken for it.
        command: what the report says reproduces it.

    Raises:
        ConfigError, DataError, ModelError: before any work, when the pieces do not fit.
        AuditFailed: on the way; its `record` holds what was finished.
        AuditInterrupted: a KeyboardInterrupt whose `record` holds what was finished.
    """
    plan = _plan(model, data, attacks, eps, seed, norm, samples, batch_size, target, out, watch, command)
    run = _Run(plan)
    try:
        run.go()
    except KeyboardInterrupt:
        raise AuditInterrupted(run.record("incomplete") if len(run.ledger) else None) from None
    except (ValueError, RuntimeError, MemoryError, OSError) as error:
        if not len(run.ledger) and isinstance(error, ValueError):
            raise  # nothing ran yet: the input was at fault
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AuditFailed(reason, run.record("incomplete") if len(run.ledger) else None) from error
    return run.record("complete")


@dataclass(frozen=True)
class _Plan:
    model: LoadedModel
    data: Data
    attacks: list[Attack]
    eps: dict[float, str]
    norm: str
    seed: int
    samples: int | None
    batch_size: int
    target: int | str | None
    pictures: Path | None
    watch: Watch
    command: str


def _plan(
    model: LoadedModel | Classifier | nn.Module,
    data: Data | tuple[Tensor, Tensor],
    attacks: Sequence[Attack],
    eps: Iterable[float] | Mapping[float, str],
    seed: int,
    norm: str | None,
    samples: int | None,
    batch_size: int | None,
    target: int | str | None,
    out: str | Path | None,
    watch: Watch | None,
    command: str,
) -> _Plan:
    if not attacks or not all(isinstance(attack, Attack) for attack in attacks):
        raise ConfigError("attacks must be a list of at least one attack, such as [PGD()]")
    budgets = {attack.norm for attack in attacks if not attack.minimum_norm}
    if norm is None:
        norm = min(budgets) if budgets else attacks[0].norm
    if budgets - {norm}:
        raise ConfigError(f"an audit has one norm, here {norm}, but an attack works in {min(budgets - {norm})}")
    grid = dict(eps) if isinstance(eps, Mapping) else {value: f"{value:.6g}" for value in eps}
    try:
        for value in grid:
            check_eps(norm, value)
        norms.get(norm)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if budgets and not grid:
        raise ConfigError("eps is empty: give at least one, such as [4/255]")
    for name, number in (("samples", samples), ("batch_size", batch_size)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ConfigError(f"{name} must be a whole number of at least 1, got {number!r}")
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed must be a whole number of at least 0, got {seed!r}")
    if not isinstance(data, Data):
        model = model if isinstance(model, LoadedModel) else _fitted(as_classifier(model), data[0])
        data = tensor_data(*data)
    if not isinstance(model, LoadedModel):
        raise ConfigError("with data from load_data the model must come from load_model: it must know its input size")
    height, width = model.preprocess.size
    values = model.preprocess.channels * height * width
    return _Plan(
        model,
        data,
        list(attacks),
        dict(sorted((float(value), text) for value, text in grid.items())),
        norm,
        seed,
        samples,
        batch_size or max(1, min(256, _BATCH_FLOATS // values)),
        _target(model, target),
        None if out is None else Path(out) / "comparisons",
        watch or (lambda *_: None),
        command,
    )


def _fitted(model: Classifier, x: Tensor) -> LoadedModel:
    """A bare classifier with what an audit must know of it, read off the data it will see."""
    if not isinstance(x, Tensor) or x.dim() != 4 or not len(x):
        raise ConfigError("data as tensors must be a pair (x [N, C, H, W], y [N]) of at least one sample")
    name = type(model.net).__name__
    return LoadedModel(
        model.net,
        name=name,
        title=name,
        preprocess=Preprocess(size=(x.shape[2], x.shape[3]), channels=x.shape[1]),
        num_classes=model.logits(x[:1].to(model.device)).shape[1],
        mean=model.mean,
        std=model.std,
        labels=model.labels,
        precision=model.precision,
    )


def _target(model: LoadedModel, target: int | str | None) -> int | str | None:
    if target is None or target == LEAST_LIKELY:
        return target
    return class_index(model, target)


class _Run:
    """One audit under way."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.norm = norms.get(plan.norm)
        self.ledger = Ledger(plan.eps, [Tally(attack, inherited=[0] * len(plan.eps)) for attack in plan.attacks])
        self.started = time.monotonic()
        self.total = min(len(plan.data), plan.samples or len(plan.data))
        self.stage, self.done, self.base = "", 0, 0

    def go(self) -> None:
        plan = self.plan
        batches = plan.data.batches(plan.model, plan.batch_size, plan.samples)
        self._enter("reading the pictures", 0)
        plan.model.listener = self._tell
        try:
            for batch in batches:
                self._batch(batch)
        finally:
            plan.model.listener = None

    def _enter(self, stage: str, done: int) -> None:
        self.stage, self.done, self.base = stage, done, self.plan.model.backwards
        self._tell()

    def _tell(self) -> None:
        self.plan.watch(self.stage, self.done, self.total, self.plan.model.backwards - self.base)

    def _batch(self, batch: Batch) -> None:
        plan, ledger, device = self.plan, self.ledger, self.plan.model.device
        self._enter("clean accuracy", len(ledger))
        x, y = batch.x.to(device), batch.y.to(device)
        logits = plan.model.logits(x)
        confidence, predicted = logits.softmax(1).max(1)
        right = (predicted == y).nonzero().squeeze(1)
        ledger.ids.extend(batch.ids.tolist())
        ledger.names.extend(batch.names)
        ledger.labels.extend(batch.y.tolist())
        ledger.predictions.extend(predicted.tolist())
        ledger.confidences.extend(confidence.tolist())
        # The rows that are wrong already are not attacked.
        rows = right.cpu()
        survivors = _Survivors(x[right], y[right], self._targets(y[right], logits[right]), batch.ids[rows], rows)
        names = [batch.names[row] for row in rows.tolist()]
        for number, tally in enumerate(ledger.tallies, 1):
            self._enter(f"{tally.attack.title}, {number} of {len(ledger.tallies)} attacks", tally.judged)
            found = self._attack(tally, survivors)
            columns = (found.distances, found.rms, found.predictions, found.confidences)
            tally.extend(len(batch.ids), rows.numpy(), *(column.numpy() for column in columns))
            self._enter(f"pictures of {tally.attack.title}", tally.judged)
            self._pictures(tally.attack, survivors, found, names)

    def _targets(self, y: Tensor, logits: Tensor) -> Tensor | None:
        target = self.plan.target
        if target is None:
            return None
        return logits.argmin(1) if target == LEAST_LIKELY else torch.full_like(y, int(target))

    def _attack(self, tally: Tally, rows: _Survivors) -> _Found:
        """Run one attack on the rows of a batch, over the grid if it is budgeted, and judge every point."""
        model, attack, grid = self.plan.model, tally.attack, list(self.plan.eps)
        found = _Found.none(len(rows.x))
        left = torch.arange(len(rows.x), device=rows.x.device)
        started, forwards, backwards = time.monotonic(), 0, 0
        reached = aimed = 0
        inherited = [0] * len(grid)
        stages = [None] if attack.minimum_norm else grid
        for place, eps in enumerate(stages):
            if eps is not None:
                inherited[place] = len(rows.x) - len(left)
            if not len(left):
                continue
            part = rows.take(left)
            before = model.forwards, model.backwards
            points = self._points(attack if eps is None else attack.at(eps), part)
            forwards += model.forwards - before[0]
            backwards += model.backwards - before[1]
            wrong, there = self._judge(attack, eps, part, points, left, found)
            gone = wrong
            if part.targets is not None:
                aiming = part.targets != part.y
                gone = torch.where(aiming, there, wrong)
                aimed += int(aiming.sum()) if place == 0 else 0
                reached += int((there & aiming).sum())
            left = left[~gone]
        tally.attacked += len(rows.x)
        tally.forwards += forwards
        tally.backwards += backwards
        tally.seconds += time.monotonic() - started
        tally.inherited = [old + new for old, new in zip(tally.inherited, inherited, strict=True)]
        tally.reached += reached
        tally.aimed += aimed
        return found

    def _points(self, attack: Attack, rows: _Survivors) -> Tensor:
        """What the attack returns; a row whose label is its target is attacked untargeted."""
        model, seed = self.plan.model, self.plan.seed
        if rows.targets is None:
            return attack(model, rows.x, rows.y, ids=rows.ids, seed=seed)
        points = rows.x.clone()
        for group, aimed in ((rows.targets != rows.y, True), (rows.targets == rows.y, False)):
            where = group.nonzero().squeeze(1)
            if len(where):
                part = rows.take(where)
                target = part.targets if aimed else None
                points[where] = attack(model, part.x, part.y, target=target, ids=part.ids, seed=seed)
        return points

    def _judge(
        self, attack: Attack, eps: float | None, rows: _Survivors, points: Tensor, left: Tensor, found: _Found
    ) -> tuple[Tensor, Tensor]:
        """Ask the model again, in full precision, and note what is broken; box and budget must hold.

        Returns whether each row is wrong now, and whether it is at its target.
        """
        if points.shape != rows.x.shape or not bool(torch.isfinite(points).all()):
            raise RuntimeError(f"{attack.title} returned points of the wrong shape, or NaN")
        low, high = (float(bound) for bound in torch.aminmax(points))
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise RuntimeError(f"{attack.title} left the box [0,1]: its points span [{low:.7g}, {high:.7g}]")
        change = (points - rows.x).double()
        sizes = self.norm.size(change)
        if eps is not None and float(sizes.max()) > eps + TOLERANCE:
            raise RuntimeError(
                f"{attack.title} left the ball: {float(sizes.max()):.7g} from the picture, ε is {eps:.7g}"
            )
        confidence, predicted = self.plan.model.logits(points).softmax(1).max(1)
        wrong = predicted != rows.y
        there = wrong if rows.targets is None else predicted == rows.targets
        fresh = (wrong & ~found.broken.to(left.device)[left]).nonzero().squeeze(1)
        place = left[fresh].cpu()
        found.broken[place] = True
        found.distances[place] = sizes[fresh].cpu()
        found.rms[place] = change[fresh].flatten(1).square().mean(1).sqrt().cpu()
        found.predictions[place] = predicted[fresh].cpu()
        found.confidences[place] = confidence[fresh].double().cpu()
        for row, point in zip(place.tolist(), points[fresh], strict=True):
            if len(found.points) < PICTURES:
                found.points[row] = point
        return wrong, there

    def _pictures(self, attack: Attack, rows: _Survivors, found: _Found, names: list[str]) -> None:
        """Comparisons of the first samples that an attack breaks, shared among the attacks."""
        plan, ledger = self.plan, self.ledger
        if plan.pictures is None:
            return
        share = -(-PICTURES // len(plan.attacks))
        taken = [comparison.sample for comparison in ledger.comparisons]
        room = share - sum(comparison.attack == attack.title for comparison in ledger.comparisons)
        # Samples that no other attack shows come first.
        order = sorted(found.points, key=lambda row: int(rows.ids[row]) in taken)
        for row in order[: max(0, room)]:
            only = rows.take(torch.tensor([row], device=rows.x.device))
            eps, point = self._shown(attack, only, float(found.distances[row]), found.points[row])
            target = None if only.targets is None or bool(only.targets == only.y) else int(only.targets)
            subject = Subject(int(only.ids), names[row], int(only.y), only.x[0], point, attack, plan.norm, eps, target)
            stem = f"{len(ledger.comparisons):02d}-{attack.name}"
            ledger.comparisons.append(save_comparison(plan.model, subject, plan.pictures, stem))

    def _shown(self, attack: Attack, only: _Survivors, distance: float, point: Tensor) -> tuple[float | None, Tensor]:
        """The ε and the point to show of a broken row.

        An attack lets a row go the moment it is fooled, at half a level if it can; the picture shows what it can
        do with all its steps, at an ε that 8 bits can express where the grid has one.
        """
        if attack.minimum_norm:
            return None, point
        broke = next(eps for eps in self.plan.eps if distance <= eps + TOLERANCE)
        visible = [
            eps for eps in self.plan.eps if eps >= broke and (self.plan.norm != "linf" or eps >= _LEVEL - TOLERANCE)
        ]
        for eps in visible[:1]:
            shown = self._points(attack.at(eps, early_stop=False), only)
            if bool(self.plan.model.logits(shown).argmax(1) != only.y):
                return eps, shown[0]
        return broke, point

    def record(self, status: str) -> AuditRecord:
        """What has been found so far."""
        plan, ledger, model = self.plan, self.ledger, self.plan.model
        worst, judged = ledger.worst()
        right = ledger.right()
        broken = worst[right & np.isfinite(worst)]
        target = plan.target if plan.target in (None, LEAST_LIKELY) else class_name(model, int(plan.target or 0))
        skipped = [Skipped(file, reason) for file, reason in plan.data.skipped]
        return AuditRecord(
            status=status,
            norm=plan.norm,
            eps=list(plan.eps),
            target=None if target is None else str(target),
            model=_model_info(model),
            data=DataInfo(plan.data.name, plan.data.title, len(plan.data), skipped),
            run=self._run_info(),
            clean=ledger.clean(),
            clean_confidence=spread(np.asarray(ledger.confidences)),
            worst_case=ledger.curve(worst[:judged]),
            worst_distance=spread(broken),
            attacks=[ledger.result(tally, plan.target is not None) for tally in ledger.tallies],
            samples=ledger.samples(worst),
            classes=ledger.classes(lambda index: class_name(model, index)),
            comparisons=list(ledger.comparisons),
        )

    def _run_info(self) -> RunInfo:
        plan = self.plan
        return RunInfo(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - self.started,
            command=plan.command,
            seed=plan.seed,
            batch_size=plan.batch_size,
            device=str(plan.model.device),
            precision=plan.model.precision,
            robustkit=robustkit.__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            platform=platform.platform(),
            threads=torch.get_num_threads(),
        )


@dataclass(frozen=True)
class _Survivors:
    """The rows of a batch that the model gets right."""

    x: Tensor
    y: Tensor
    targets: Tensor | None
    ids: Tensor  # on the CPU
    places: Tensor  # in the batch, on the CPU

    def take(self, keep: Tensor) -> _Survivors:
        targets = None if self.targets is None else self.targets[keep]
        host = keep.cpu()
        return _Survivors(self.x[keep], self.y[keep], targets, self.ids[host], self.places[host])


@dataclass
class _Found:
    """What one attack did to the rows of a batch; on the CPU."""

    broken: Tensor
    distances: Tensor
    rms: Tensor
    predictions: Tensor
    confidences: Tensor
    points: dict[int, Tensor]  # the first few broken rows' points, for the pictures

    @classmethod
    def none(cls, rows: int) -> _Found:
        empty = torch.full((rows,), math.nan, dtype=torch.float64)
        return cls(
            torch.zeros(rows, dtype=torch.bool),
            empty,
            empty.clone(),
            torch.full((rows,), -1),
            empty.clone(),
            {},
        )


def _model_info(model: LoadedModel) -> ModelInfo:
    height, width = model.preprocess.size
    return ModelInfo(
        name=model.name,
        title=model.title,
        classes=model.num_classes,
        input=[model.preprocess.channels, height, width],
        mean=list(model.mean or ()),
        std=list(model.std or ()),
        parameters=model.parameters,
        digest=model.digest,
    )
