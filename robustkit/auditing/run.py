"""The audit: every attack on every sample over a grid of ε, judged again by the model in full precision."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.adaptive import Nondeterminism, determinised_judge, find_nondeterminism
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import answered
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing import check_stage
from robustkit.auditing.adaptive_stage import Adaptation
from robustkit.auditing.columns import Found, Rows
from robustkit.auditing.comparison_files import class_name
from robustkit.auditing.comparisons import Gallery
from robustkit.auditing.plan import LEAST_LIKELY, Plan, Watch, make_plan, target_name
from robustkit.auditing.results import Ledger, Tally, spread
from robustkit.auditing.transfer_matrix import Exchange
from robustkit.auditing.worker import Attacker
from robustkit.certification import Certifier
from robustkit.data.load import Batch, Data
from robustkit.errors import AuditFailed, AuditInterrupted, ModelError, RobustkitError
from robustkit.models.load import LoadedModel
from robustkit.models.memory import Room
from robustkit.reports import Adapted, AuditRecord, CheckResult, DataInfo, Skipped


def audit(
    model: LoadedModel | Classifier | nn.Module | Callable[[Tensor], Any],
    data: Data | tuple[Tensor, Tensor],
    attacks: Sequence[Attack],
    eps: Iterable[float] | Mapping[float, str] = (),
    *,
    seed: int = 0,
    norm: str | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
    target: int | str | None = None,
    surrogates: Sequence[LoadedModel | Classifier | nn.Module] = (),
    out: str | Path | None = None,
    watch: Watch | None = None,
    command: str = "",
    checks: bool = False,
    certifier: Certifier | None = None,
    adapt: bool = False,
) -> AuditRecord:
    """Attack a model on labelled pictures and record how little it takes.

    A sample whose clean prediction is wrong counts as not robust and is not attacked. The others meet every attack;
    what a budgeted attack breaks at one ε counts as broken at each larger one, whose ball holds the point too. What an
    attack off the ball (a patch, a rotation, a corruption) breaks is reported, and is no part of the worst case.
    Memory does not grow with the number of samples but for a few numbers each.

    Args:
        model: from `load_model`; or, with tensors as data, any Classifier, module or function on pixels in [0,1].
        data: from `load_data`, or a pair (x float32 [N, C, H, W] in [0,1], y int64 [N]).
        attacks: budgeted ones take their ε from the grid, whatever their own eps says.
        eps: the grid, in pixel units; needed if an attack is budgeted. A mapping also says how to write each.
        seed: of all random draws; a sample's draws depend on (seed, sample id) alone.
        norm: "linf", "l2" or "l1", in which distances are measured; by default that of the budgeted attacks. A
            minimum-norm attack searches in the norm that it was made with, which the record names.
        samples: how many to judge; all by default.
        batch_size: samples at a time; by default what suits pictures of this size. It is halved, and what was under way
            done again, whenever memory runs out.
        target: a class (index or name) or "least-likely" for targeted attacks. A sample of that very class is
            attacked untargeted.
        surrogates: other models of the same classes. Points made on each are tried on the model, and the record tells
            which model's points fool which.
        out: folder of the report; the pictures of the comparisons are written to `out/comparisons`. Without it
            there are none.
        watch: called with what is going on, samples done with it, samples in all, and queries of the model for it,
            which is what every attack takes.
        command: what the report says reproduces it.
        checks: also see whether the figures can be trusted, before the attacks and after them; the record tells. It
            takes seconds for a small network, and up to a minute for a large one on a CPU.
        certifier: answers in the model's place and says how far each answer is certain, which the record tells beside
            what the attacks find; see `robustkit.certify`. The checks look at the network that it asks.
        adapt: where a check finds a fault, also attack as the literature prescribes against it, and judge the points of
            a model that answers at random by many draws; the record tells what was done. Makes the checks too.

    Raises:
        ConfigError, DataError, ModelError: when the pieces do not fit, before an attack has run.
        AuditFailed: on the way; its `record` holds what was finished.
        AuditInterrupted: a KeyboardInterrupt whose `record` holds what was finished.
    """
    plan = make_plan(
        model, data, attacks, eps, seed, norm, samples, batch_size, target, surrogates, out, watch, command, certifier
    )
    run = _Run(plan)
    try:
        if (checks or adapt) and len(plan.data):
            run.checks = check_stage.before(plan)
        if adapt:
            run.settle_in()
        run.go()
        if checks or adapt:
            run.checks += check_stage.after(plan, run.record("complete"))
        if adapt:
            run.adapt()
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
        self.ledger = Ledger(plan.eps, [self._tally(attack) for attack in plan.attacks])
        self.room = Room(plan.batch_size)
        self.attacker = Attacker(plan, self.ledger.tallies, self.room)
        self.gallery = Gallery(plan, self.ledger, self.attacker, self._enter)
        self.exchange = Exchange(plan, self.room) if plan.surrogates else None
        self.started = time.monotonic()
        self.total = min(len(plan.data), plan.samples or len(plan.data))
        self.stage, self.done, self.base = "", 0, 0
        self.checks: list[CheckResult] = []
        self.nondeterminism = Nondeterminism()
        self.stopped = False  # whether the model gives no gradient, so that named attacks that need one cannot run
        self.adapted: Adapted | None = None

    def _tally(self, attack: Attack) -> Tally:
        grid, classes = len(self.plan.eps), self.plan.model.num_classes
        counted = attack.ball and attack.access != "gradient" and attack.norm == self.plan.norm
        arrived = [array("q") for _ in range(grid if counted and attack.queried else 0)]
        return Tally(attack, inherited=[0] * grid, arrived=arrived, notes=list(attack.notes(classes)))

    def go(self) -> None:
        plan = self.plan
        listener, plan.model.listener = plan.model.listener, self._tell
        try:
            for place, tally in enumerate(self.ledger.tallies):
                if type(tally.attack).fitted is not Attack.fitted:
                    self._enter(f"fitting {tally.attack.title}", 0)
                    self.attacker.fit(place)
            batches = plan.data.batches(plan.model, plan.batch_size, plan.samples)
            self._enter("reading the pictures", 0)
            with closing(batches):
                for batch in batches:
                    self._batch(batch)
        finally:
            plan.model.listener = listener

    def settle_in(self) -> None:
        """Find out what the model's answers depend on besides the picture, and judge accordingly from now on."""
        self.stopped = any(check.id == "gradient-unavailable" and check.status == "fail" for check in self.checks)
        for tally in self.ledger.tallies if self.stopped else []:
            if tally.attack.access == "gradient":
                tally.notes.append("The model gives it no gradient, so it broke nothing")
        first = check_stage.first_samples(self.plan)
        if first is not None:
            self.nondeterminism = find_nondeterminism(self.plan.model, *first, self.plan.seed)
            self.attacker.judge = determinised_judge(self.plan.model, self.nondeterminism)

    def adapt(self) -> None:
        """Attack anew where a check found a fault."""
        plan, model = self.plan, self.plan.model
        before = self.record("complete").worst_case
        listener, model.listener = model.listener, self._tell
        try:
            answers = Adaptation(
                plan,
                self.ledger,
                self.attacker,
                self.nondeterminism,
                self.checks,
                check_stage.drawer(plan),
                self._targets,
                self._tally,
                self._enter,
            ).run()
        finally:
            model.listener = listener
        self.adapted = Adapted(before, self.record("complete").worst_case, str(self.nondeterminism), answers)
        self.checks = check_stage.again(self.record("complete"))

    def _enter(self, stage: str, done: int) -> None:
        self.stage, self.done, self.base = stage, done, self.plan.model.forwards
        self._tell()

    def _tell(self) -> None:
        self.plan.watch(self.stage, self.done, self.total, self.plan.model.forwards - self.base)

    def _batch(self, batch: Batch) -> None:
        plan, ledger, device = self.plan, self.ledger, self.plan.model.device
        self._enter("clean accuracy", len(ledger))
        x, y = batch.x.to(device, non_blocking=True), batch.y.to(device)
        logits = torch.cat(self.room.parts(len(x), lambda part: self.attacker.judge.logits(x[part])))
        confidence, predicted = answered(logits)
        if plan.certifier is not None:
            confidence, predicted = self._certified(plan.certifier, x, y, batch.ids)
        right = (predicted == y).nonzero().squeeze(1)
        ledger.extend(batch.ids.tolist(), batch.names, batch.y.tolist(), predicted.tolist(), confidence.tolist())
        # The rows that are wrong already are not attacked.
        rows = right.cpu()
        survivors = Rows(x[right], y[right], self._targets(y[right], logits[right]), batch.ids[rows], rows)
        names = [batch.names[row] for row in rows.tolist()]
        for place, tally in enumerate(ledger.tallies):
            self._enter(f"{tally.attack.title}, {place + 1} of {len(ledger.tallies)} attacks", tally.judged)
            if self.stopped and tally.attack.access == "gradient":
                found = Found.none(len(survivors.x), len(plan.eps))
            else:
                found = self.attacker.run(place, survivors)
            tally.extend(len(batch.ids), rows.numpy(), found)
            self.gallery.add(place, survivors, found, names)
        if self.exchange is not None:
            self._enter("which model's points fool which", len(ledger) - len(batch.ids))
            self.exchange.add(survivors)

    def _certified(self, certifier: Certifier, x: Tensor, y: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The answers of a certifier, one class more than the model has standing for none; their radii are noted."""
        rows = []
        for row in range(len(x)):
            self._enter(f"certifying by {certifier.title}", len(self.ledger) + row)
            part = slice(row, row + 1)
            seen = certifier.certify(x[part], y[part], ids[part])
            predicted = torch.where(seen.silent, self.plan.model.num_classes, seen.predicted)
            rows.append((seen.confidence, predicted, torch.where(predicted == y[part], seen.radius, torch.nan)))
        confidence, predicted, radius = (torch.cat(column) for column in zip(*rows, strict=True))
        self.ledger.radii.extend(radius.tolist())
        return confidence, predicted

    def _targets(self, y: Tensor, logits: Tensor) -> Tensor | None:
        target = self.plan.target
        if target is None:
            return None
        return logits.argmin(1) if target == LEAST_LIKELY else torch.full_like(y, int(target))

    def finished(self) -> AuditRecord | None:
        """The record of an audit that broke off, None if it had hardly begun."""
        self.ledger.settle()
        return self.record("incomplete") if len(self.ledger) else None

    def record(self, status: str) -> AuditRecord:
        """What has been found so far."""
        plan, ledger, model = self.plan, self.ledger, self.plan.model
        worst, by, judged = ledger.worst()
        optimal = ledger.optimality(plan.norm, worst)
        right = ledger.right()
        broken = worst[right & np.isfinite(worst)]
        skipped = [Skipped(file, reason) for file, reason in plan.data.skipped]
        return AuditRecord(
            status=status,
            norm=plan.norm,
            eps=list(plan.eps),
            target=target_name(model, plan.target),
            model=plan.model_info(model),
            data=DataInfo(plan.data.name, plan.data.title, len(plan.data), skipped),
            run=plan.run_info(time.monotonic() - self.started, self.room.rows),
            clean=ledger.clean(),
            clean_confidence=spread(np.asarray(ledger.confidences)),
            worst_case=ledger.curve(worst[:judged]),
            worst_distance=spread(broken),
            attacks=[
                ledger.result(tally, plan.target is not None, figure)
                for tally, figure in zip(ledger.tallies, optimal, strict=True)
            ],
            samples=ledger.samples(worst, by),
            classes=ledger.classes(
                lambda index: class_name(model, index) if index < model.num_classes else "no answer"
            ),
            comparisons=list(ledger.comparisons),
            surrogates=[plan.model_info(other) for other in plan.surrogates],
            transfer=[] if self.exchange is None else self.exchange.result(),
            checks=list(self.checks),
            certified=None if plan.certifier is None else ledger.certified(plan.certifier),
            adapted=self.adapted,
        )
