"""The audit: every attack on every sample over a grid of ε, judged again by the model in full precision."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.attacks import norms
from robustkit.attacks.base import Attack
from robustkit.attacks.classifier import Classifier
from robustkit.compare import Subject, class_name, save_comparison
from robustkit.data import Batch, Data
from robustkit.errors import AuditFailed, AuditInterrupted, ModelError, RobustkitError
from robustkit.ledger import TOLERANCE, Ledger, Tally, spread
from robustkit.models import LoadedModel
from robustkit.plan import LEAST_LIKELY, Plan, Watch, make_plan, target_name
from robustkit.reports import AuditRecord, DataInfo, Skipped
from robustkit.rows import Found, Rows

PICTURES = 6  # comparisons in a report
_LEVEL = 1 / 255  # of an 8-bit picture


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
        ConfigError, DataError, ModelError: when the pieces do not fit, before an attack has run.
        AuditFailed: on the way; its `record` holds what was finished.
        AuditInterrupted: a KeyboardInterrupt whose `record` holds what was finished.
    """
    plan = make_plan(model, data, attacks, eps, seed, norm, samples, batch_size, target, out, watch, command)
    run = _Run(plan)
    try:
        run.go()
        return run.record("complete")
    except KeyboardInterrupt:
        raise AuditInterrupted(run.finished()) from None
    except Exception as error:  # the model and the attacks may be anybody's code
        reason = " ".join(str(error).split()) or type(error).__name__
        record = run.finished()
        if record is None and isinstance(error, RobustkitError):
            raise
        if record is None and isinstance(error, ValueError):  # the model's first answers were of no use
            raise ModelError(reason) from error
        raise AuditFailed(reason, record) from error


class _Run:
    """One audit under way."""

    def __init__(self, plan: Plan) -> None:
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
        listener, plan.model.listener = plan.model.listener, self._tell
        try:
            for batch in batches:
                self._batch(batch)
        finally:
            plan.model.listener = listener

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
        ledger.extend(batch.ids.tolist(), batch.names, batch.y.tolist(), predicted.tolist(), confidence.tolist())
        # The rows that are wrong already are not attacked.
        rows = right.cpu()
        survivors = Rows(x[right], y[right], self._targets(y[right], logits[right]), batch.ids[rows], rows)
        names = [batch.names[row] for row in rows.tolist()]
        for number, tally in enumerate(ledger.tallies, 1):
            self._enter(f"{tally.attack.title}, {number} of {len(ledger.tallies)} attacks", tally.judged)
            found = self._attack(tally, survivors)
            columns = (found.distances, found.rms, found.predictions, found.confidences)
            tally.extend(len(batch.ids), rows.numpy(), *(column.numpy() for column in columns))
            self._pictures(tally, survivors, found, names)

    def _targets(self, y: Tensor, logits: Tensor) -> Tensor | None:
        target = self.plan.target
        if target is None:
            return None
        return logits.argmin(1) if target == LEAST_LIKELY else torch.full_like(y, int(target))

    def _attack(self, tally: Tally, rows: Rows) -> Found:
        """Run one attack on the rows of a batch, over the grid if it is budgeted, and judge every point."""
        model, attack, grid = self.plan.model, tally.attack, list(self.plan.eps)
        found = Found.none(len(rows.x))
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
        tally.aimed += aimed
        tally.reached += reached
        return found

    def _points(self, attack: Attack, rows: Rows) -> Tensor:
        """What the attack returns; a row whose label is its target is attacked untargeted."""
        model, seed = self.plan.model, self.plan.seed
        # An attack gets copies: one that wrote into its input would move what its distances are measured from.
        if rows.targets is None:
            return attack(model, rows.x.clone(), rows.y.clone(), ids=rows.ids, seed=seed)
        points = rows.x.clone()
        for group, aimed in ((rows.targets != rows.y, True), (rows.targets == rows.y, False)):
            where = group.nonzero().squeeze(1)
            if len(where):
                part = rows.take(where)
                target = part.targets if aimed else None
                points[where] = attack(model, part.x, part.y, target=target, ids=part.ids, seed=seed)
        return points

    def _judge(
        self, attack: Attack, eps: float | None, rows: Rows, points: Tensor, left: Tensor, found: Found
    ) -> tuple[Tensor, Tensor]:
        """Ask the model again, in full precision, and note what is broken; box and budget must hold.

        Returns whether each row is wrong now, and whether it is at its target.
        """
        if not isinstance(points, Tensor) or points.shape != rows.x.shape or not bool(torch.isfinite(points).all()):
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
        # Kept for the pictures: the first few broken rows, and where one later gets to its target, that point.
        for row, point, arrived in zip(left.tolist(), points, there.tolist(), strict=True):
            if (arrived and row in found.points) or (bool(found.broken[row]) and len(found.points) < PICTURES):
                found.points[row] = point
        return wrong, there

    def _pictures(self, tally: Tally, rows: Rows, found: Found, names: list[str]) -> None:
        """Comparisons of the first samples that an attack breaks, shared among the attacks."""
        plan, ledger, attack = self.plan, self.ledger, tally.attack
        if plan.pictures is None:
            return
        share = -(-PICTURES // len(plan.attacks))
        taken = [comparison.sample for comparison in ledger.comparisons]
        room = share - sum(comparison.attack == attack.title for comparison in ledger.comparisons)
        # Samples that no other attack shows come first.
        order = sorted(found.points, key=lambda row: int(rows.ids[row]) in taken)[: max(0, room)]
        if order:
            self._enter(f"pictures of {attack.title}", tally.judged)
        for row in order:
            only = rows.take(torch.tensor([row], device=rows.x.device))
            eps, point = self._shown(attack, only, found.points[row])
            target = None if only.targets is None or bool(only.targets == only.y) else int(only.targets)
            subject = Subject(int(only.ids), names[row], int(only.y), only.x[0], point, attack, plan.norm, eps, target)
            stem = f"{len(ledger.comparisons):02d}-{attack.name}"
            ledger.comparisons.append(save_comparison(plan.model, subject, plan.pictures, stem))

    def _shown(self, attack: Attack, only: Rows, point: Tensor) -> tuple[float | None, Tensor]:
        """The ε and the point to show of a broken row.

        An attack lets a row go the moment it is fooled, at half a level if it can; the picture shows what it can
        do with all its steps, at an ε that 8 bits can express where the grid has one.
        """
        if attack.minimum_norm:
            return None, point
        distance = float(self.norm.size((point - only.x).double()))
        broke = next(eps for eps in self.plan.eps if distance <= eps + TOLERANCE)
        visible = [
            eps for eps in self.plan.eps if eps >= broke and (self.plan.norm != "linf" or eps >= _LEVEL - TOLERANCE)
        ]
        for eps in visible[:1]:
            shown = self._points(attack.at(eps, early_stop=False), only)
            seen = self.plan.model.logits(shown).argmax(1)
            if bool(seen != only.y if only.targets is None else seen == only.targets):
                return eps, shown[0]
        return broke, point

    def finished(self) -> AuditRecord | None:
        """The record of an audit that broke off, None if it had hardly begun."""
        self.ledger.settle()
        return self.record("incomplete") if len(self.ledger) else None

    def record(self, status: str) -> AuditRecord:
        """What has been found so far."""
        plan, ledger, model = self.plan, self.ledger, self.plan.model
        worst, judged = ledger.worst()
        right = ledger.right()
        broken = worst[right & np.isfinite(worst)]
        skipped = [Skipped(file, reason) for file, reason in plan.data.skipped]
        return AuditRecord(
            status=status,
            norm=plan.norm,
            eps=list(plan.eps),
            target=target_name(model, plan.target),
            model=plan.model_info(),
            data=DataInfo(plan.data.name, plan.data.title, len(plan.data), skipped),
            run=plan.run_info(time.monotonic() - self.started),
            clean=ledger.clean(),
            clean_confidence=spread(np.asarray(ledger.confidences)),
            worst_case=ledger.curve(worst[:judged]),
            worst_distance=spread(broken),
            attacks=[ledger.result(tally, plan.target is not None) for tally in ledger.tallies],
            samples=ledger.samples(worst),
            classes=ledger.classes(lambda index: class_name(model, index)),
            comparisons=list(ledger.comparisons),
        )
