"""The record of an audit, made from its plan and results."""

from __future__ import annotations

import platform
from datetime import UTC, datetime

import numpy as np
import torch

import robustkit
from robustkit.auditing.journal import Journal
from robustkit.auditing.plan import Plan, target_name
from robustkit.auditing.results import Results, spread
from robustkit.auditing.stages.transfer_matrix import transfer_table
from robustkit.models.load import LoadedModel
from robustkit.reports import Adapted, AuditRecord, DataInfo, ModelInfo, RunInfo, Skipped


def make_record(
    plan: Plan,
    results: Results,
    journal: Journal,
    *,
    status: str,
    seconds: float,
    batch_size: int,
    adapted: Adapted | None,
) -> AuditRecord:
    """The record of what has been found so far.

    Args:
        status: "complete" or "incomplete".
        seconds: of the whole run.
        batch_size: that memory was enough for.
        adapted: what the adaptive attacks came to.
    """
    model = plan.model
    names = {
        index: model.class_name(index) if index < model.num_classes else "no answer" for index in results.classes()
    }
    return AuditRecord(
        status=status,
        norm=plan.norm,
        eps=list(plan.eps),
        target=target_name(model, plan.target),
        model=model_info(plan, model),
        data=DataInfo(
            name=plan.data.name,
            title=plan.data.title,
            available=len(plan.data),
            skipped=[Skipped(file, reason) for file, reason in plan.data.skipped],
        ),
        run=_run_info(plan, seconds, batch_size),
        clean=results.clean(),
        clean_confidence=spread(np.asarray(results.samples.confidences)),
        worst_case=results.worst_case(),
        worst_distance=results.worst_distance(),
        attacks=results.attack_results(plan.norm, plan.target is not None),
        samples=results.sample_columns(),
        classes={str(index): name for index, name in names.items()},
        comparisons=journal.comparisons(),
        surrogates=[model_info(plan, other) for other in plan.surrogates],
        transfer=transfer_table(plan, journal.transfer()) if plan.surrogates else [],
        checks=journal.checks(),
        certified=None if plan.certifier is None else results.certified(plan.certifier),
        adapted=adapted,
    )


def model_info(plan: Plan, model: LoadedModel) -> ModelInfo:
    height, width = model.preprocess.size
    normalising = plan.network if model is plan.model else model  # a smoothed classifier leaves it to the network
    return ModelInfo(
        name=model.name,
        title=model.title,
        classes=model.num_classes,
        input=[model.preprocess.channels, height, width],
        mean=list(normalising.mean or ()),
        std=list(normalising.std or ()),
        parameters=model.parameters,
        digest=model.digest,
    )


def _run_info(plan: Plan, seconds: float, batch_size: int) -> RunInfo:
    return RunInfo(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        command=plan.command,
        seed=plan.seed,
        batch_size=batch_size,
        device=str(plan.model.device),
        precision=plan.model.precision,
        robustkit=robustkit.__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        threads=torch.get_num_threads(),
        prepared="; ".join(filter(None, [plan.model.note, str(plan.model.prepared)])),
    )
