"""The flow of an audit: plan, batches, worker, journal, results, record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from torch import nn

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing.journal import AttackEntry, Journal
from robustkit.auditing.outcome import BatchOutcome
from robustkit.auditing.plan import Plan, Request, make_plan
from robustkit.auditing.progress import Progress, Watch
from robustkit.auditing.record import make_record
from robustkit.auditing.resolve import AnyData, AnyModel
from robustkit.auditing.results import Results
from robustkit.auditing.stages import adaptive
from robustkit.auditing.stages import checks as check_stage
from robustkit.auditing.stages.comparisons import Comparisons
from robustkit.auditing.stages.fitting import fit
from robustkit.auditing.worker import Preparation, Worker
from robustkit.certification import Certifier
from robustkit.errors import AuditFailed, AuditInterrupted, ModelError, RobustkitError
from robustkit.models.load import LoadedModel
from robustkit.models.memory import HalvingBatch
from robustkit.reports import Adapted, AuditRecord


def audit(
    model: AnyModel,
    data: AnyData,
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
        model: from `load_model`; or, with tensors or a MAITE data set as data, any Classifier, module or function on
            pixels in [0,1], or a MAITE model (`maite.protocols.image_classification`).
        data: from `load_data`; a pair (x float32 [N, C, H, W] in [0,1], y int64 [N]); or a MAITE data set.
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
        Request(
            model=model,
            data=data,
            attacks=attacks,
            eps=eps,
            seed=seed,
            norm=norm,
            samples=samples,
            batch_size=batch_size,
            target=target,
            surrogates=surrogates,
            command=command,
            certifier=certifier,
        )
    )
    run = _Run(plan, None if out is None else Path(out), watch or (lambda *_: None))
    try:
        return run.run(checks=checks or adapt, adapt=adapt)
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
    """One audit under way: hands batches to the worker, and what comes of them to the journal."""

    def __init__(self, plan: Plan, out: Path | None, watch: Watch) -> None:
        self.plan = plan
        self.room = HalvingBatch(plan.batch_size)
        self.progress = Progress(watch, plan.model, plan.total)
        self.journal = open_journal(plan, out)
        self.pictures = None if out is None else out / "comparisons"
        self.started = time.monotonic()
        self.prepared = Preparation(plan.model)
        self.current = BatchOutcome(0)
        self.adapted: Adapted | None = None
        self.ended: AuditRecord | None = None

    def run(self, *, checks: bool, adapt: bool) -> AuditRecord:
        """The flow: checks of model and data, batches, checks of the figures, adaptive attacks."""
        plan, journal = self.plan, self.journal
        if checks and len(plan.data):
            journal.put_checks(check_stage.before(plan, self.progress))
        if adapt:
            self.prepared = adaptive.prepare(plan, journal, self.progress)
        with self.progress.listening():
            self.prepared = fit(plan, self.prepared, journal, self.room, self.progress)
            worker = Worker(plan, self.prepared, self.room, self.progress)
            self.batches(worker)
        if checks:
            journal.put_checks(check_stage.after(plan, self.record(), self.progress))
        if adapt:
            self.adapted = adaptive.attack_again(worker, journal)
            journal.put_checks(check_stage.again(self.record()))
        self.ended = self.record()
        journal.close()
        return self.ended

    def batches(self, worker: Worker) -> None:
        """Every batch through the worker into the journal."""
        plan, done = self.plan, 0
        show = None if self.pictures is None else Comparisons(worker, self.journal, self.pictures).add
        batches = plan.data.batches(plan.model, plan.batch_size, plan.samples)
        self.progress.enter("reading the pictures", 0)
        with closing(batches):
            for number, batch in enumerate(batches):
                self.current = BatchOutcome(number)
                self.journal.append(worker.run(batch, self.current, done, show))
                done += len(batch)

    def record(self, status: str = "complete") -> AuditRecord:
        """The record of what has been found so far."""
        return make_record(
            self.plan,
            Results(self.journal, self.plan.eps),
            self.journal,
            status=status,
            seconds=time.monotonic() - self.started,
            batch_size=self.room.rows,
            adapted=self.adapted,
        )

    def finished(self) -> AuditRecord | None:
        """The record of an audit that broke off, None if it had hardly begun."""
        with closing(self.journal):
            if self.ended is not None:  # broken off between the last line and the return
                return dataclasses.replace(self.ended, status="incomplete")
            self.journal.append(self.current)  # what was finished of the batch under way
            return self.record("incomplete") if len(Results(self.journal, self.plan.eps)) else None


def open_journal(plan: Plan, out: Path | None) -> Journal:
    """A new journal of the plan in the folder of the report, in memory without one; an older one is replaced."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("audit.sqlite", "audit.sqlite-wal", "audit.sqlite-shm"):
            (out / name).unlink(missing_ok=True)
    path = None if out is None else out / "audit.sqlite"
    journal = Journal(path, plan.description(), plan.fingerprint, len(plan.eps))
    classes = plan.model.num_classes
    journal.describe(
        {
            place: AttackEntry.of(attack, plan.counts_queries(attack), attack.notes(classes))
            for place, attack in enumerate(plan.attacks)
        }
    )
    return journal
