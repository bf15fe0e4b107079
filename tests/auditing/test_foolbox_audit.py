"""foolbox's attacks in an audit: judged like ours, and no word of theirs taken for success."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import foolbox
import numpy as np
import pytest
import torch
from audit_tools import Cli, plane
from torch import Tensor

from robustkit import audit, reports
from robustkit.attacks import LBFGS, Attack, Classifier, Foolbox, as_foolbox
from robustkit.attacks.core.problem import Problem
from robustkit.errors import ConfigError

ROWS = 12
RUN = ("audit", "--model", "lenet-mnist", "--samples", "4", "--eps", "0.1,0.3", "--device", "cpu")


def test_the_record_shows_that_foolboxs_l2_fmn_is_wrong_where_foolbox_calls_it_a_success() -> None:
    """Version 3.3.4 does not project: its changes are many times too large. On a plane the smallest is known."""
    given = plane(ROWS)
    right = given.margins > 0
    exact = given.distances("l2").numpy()[right]
    x, y = given.x[right], given.y[right]
    grid = [float(2 * np.median(exact))]
    raw, _, success = foolbox.attacks.L2FMNAttack()(
        as_foolbox(given.net), x, foolbox.criteria.Misclassification(y), epsilons=grid[0]
    )
    assert float(success.float().mean()) > 0.5
    assert float((given.net(raw).argmax(1) != y).float().mean()) == 1

    attacks = [Foolbox("L2FMNAttack"), Foolbox("DDNAttack"), LBFGS()]
    record = audit(given.net, (given.x, given.y), attacks, grid, norm="l2")
    fmn, ddn, lbfgs = record.attacks
    for result in (ddn, lbfgs):  # these are right
        assert result.distortion.median == pytest.approx(np.median(exact), rel=0.02)
    true = (raw - x).double().flatten(1).norm(dim=1)
    assert [value for value in fmn.distances if value is not None] == pytest.approx(true.tolist(), rel=1e-5)
    assert fmn.distortion.median is not None
    assert fmn.distortion.median > 3 * np.median(exact)
    # What counts at ε is the distance that was measured: foolbox's points lie outside, DDN's within.
    assert fmn.curve[0].success.count == int((true <= grid[0]).sum())
    assert ddn.curve[0].success.count == int((exact <= grid[0]).sum()) > fmn.curve[0].success.count
    assert record.worst_case[0].robust.count == ddn.curve[0].robust.count


@dataclass(frozen=True)
class Stray(Attack):
    """Over the boundary, but for the odd rows outside the ball or, with `box`, outside the box."""

    name: ClassVar[str] = "stray"
    title: ClassVar[str] = "Stray"
    paper: ClassVar[str] = "none"
    foreign: ClassVar[bool] = True

    norm: str = "l2"
    eps: float = 1.0
    box: bool = False

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        logits, _, slope = model.gradient(problem.x, lambda out: problem.goal.margin(out))
        margin = problem.goal.margin(logits)
        sizes = slope.flatten(1).square().sum(1)
        points = problem.x - slope * (1.05 * margin / sizes).view(-1, 1, 1, 1)
        odd = problem.ids % 2 == 1
        if self.box:
            points[odd, 0, 0, 0] = 1.5
        else:
            points[odd] = problem.x[odd] + (points[odd] - problem.x[odd]) * 1000
            points = points.clamp(0, 1)
        return points


@pytest.mark.parametrize("box", [False, True])
def test_points_of_a_foreign_attack_outside_ball_or_box_do_not_count_and_are_noted(box: bool) -> None:
    given = plane(ROWS)
    eps = 1.2 * float(given.distances("l2").max())
    record = audit(given.net, (given.x, given.y), [Stray(box=box)], [eps])
    result, right = record.attacks[0], (given.margins > 0).tolist()
    for row, distance in enumerate(result.distances):
        assert (distance is not None) == (right[row] and row % 2 == 0)
    count = sum(held and row % 2 == 1 for row, held in enumerate(right))
    assert result.curve[0].robust.count == count
    assert any(note.startswith(f"{count} point") for note in result.notes), result.notes
    assert reports.AuditRecord.from_json(record.to_json()) == record


def test_an_attack_of_foolbox_that_needs_another_norm_is_refused_before_it_runs() -> None:
    given = plane(ROWS)
    with pytest.raises(ConfigError, match="one norm"):
        audit(given.net, (given.x, given.y), [Foolbox("L2PGD"), Foolbox("LinfPGD")], [0.1])


# On the command line


def test_by_name_with_parameters(cli: Cli, tmp_path: Path) -> None:
    specs = ("foolbox:LinfPGD:steps=5,rel_stepsize=1/4,random_start=no", "foolbox:LinfDeepFoolAttack", "fgsm")
    words = [word for spec in specs for word in ("--attack", spec)]
    done = cli(*RUN, *words, "--out", tmp_path / "out")
    assert done.status == 0, done
    record = reports.AuditRecord.from_json((tmp_path / "out" / "report.json").read_text("utf-8"))
    pgd, deepfool, _ = record.attacks
    assert (pgd.name, pgd.kind) == ("foolbox:LinfProjectedGradientDescentAttack", "budget")
    assert pgd.parameters["steps"] == 5
    assert pgd.parameters["rel_stepsize"] == 0.25
    assert pgd.parameters["random_start"] is False
    assert (deepfool.name, deepfool.kind) == ("foolbox:LinfDeepFoolAttack", "minimum")
    assert "foolbox LinfDeepFoolAttack" in done.stdout


BAD = {
    "no name": ("foolbox", "foolbox has no attack ''"),
    "name unknown": ("foolbox:LinfDeepFool", "did you mean LinfDeepFoolAttack"),
    "parameter unknown": ("foolbox:LinfPGD:step=3", "did you mean steps"),
    "parameter of a wrong type": ("foolbox:LinfPGD:steps=many", "whole number"),
    "parameter out of range": ("foolbox:LinfPGD:steps=0", "at least 1"),
    "parameter not finite": ("foolbox:LinfPGD:rel_stepsize=nan", "at least 0"),
    "choice unknown": ("foolbox:LinfDeepFoolAttack:loss=ce", "logits, crossentropy"),
    "start unknown": ("foolbox:BoundaryAttack:init_attack=noise", "init_attack is one of"),
    "pair not a pair": ("foolbox:GenAttack:reduced_dims=4", "2 whole numbers"),
    "parameter that fails inside foolbox": ("foolbox:LinfDeepFoolAttack:candidates=1", "at least 2"),
    "parameter that the pictures show": ("foolbox:GaussianBlurAttack:max_sigma=99", "foolbox GaussianBlurAttack: max"),
    "norm": ("foolbox:L2PGD", "use --norm l2"),
    "norm as a parameter": ("foolbox:HopSkipJumpAttack:norm=l2", "use --norm"),
}


@pytest.mark.parametrize(("spec", "says"), BAD.values(), ids=BAD)
def test_bad_words_are_one_line(cli: Cli, tmp_path: Path, spec: str, says: str) -> None:
    assert says in cli.refuses(*RUN, "--attack", spec, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_abbreviation_is_called_as_it_was_typed(cli: Cli, tmp_path: Path) -> None:
    says = cli.refuses(*RUN, "--attack", "foolbox:LinfFastGradientAttack", "--target", "3", "--out", tmp_path / "out")
    assert says == "robustkit: foolbox LinfFastGradientAttack takes no targets"
    says = cli.refuses(*RUN, "--attack", "foolbox:FGSM", "--target", "3", "--out", tmp_path / "out")
    assert says == "robustkit: foolbox FGSM takes no targets"
    done = cli(*RUN, "--attack", "foolbox:LinfPGD:steps=2", "--out", tmp_path / "out")
    assert "foolbox LinfPGD " in done.stdout


def test_a_pair_is_written_with_a_plus(cli: Cli, tmp_path: Path) -> None:
    done = cli(*RUN, "--attack", "foolbox:GenAttack:steps=2,reduced_dims=14+14", "--out", tmp_path / "out")
    assert done.status == 0, done
    body = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert body["attacks"][0]["parameters"]["reduced_dims"] == "14+14"


def test_the_seed_of_an_audit_decides_foolboxs_draws() -> None:
    given = plane(ROWS)
    attack = Foolbox("L2RepeatedAdditiveGaussianNoiseAttack", repeats=20)

    def found(seed: int) -> list[float | None]:
        torch.manual_seed(17)
        return audit(given.net, (given.x, given.y), [attack], [0.05, 0.2, 0.8], seed=seed).attacks[0].distances

    assert found(1) == found(1)
    assert found(1) != found(2)
