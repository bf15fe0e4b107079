"""Automatic answers: what a plain audit overstates they bring down to the truth; an honest model they leave alone.

At an ε at which the honest networks keep next to nothing, so that the answers end early; benchmarks/museum.py has all
exhibits at the ε where the figures differ most.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest
import torch
from museum import MUSEUM, Exhibit, digits, honest
from torch import Tensor, nn

from robustkit import audit
from robustkit.adaptive import determinised_judge, find_nondeterminism
from robustkit.adaptive.attack import AdaptedModel
from robustkit.adaptive.backward_model import SurrogateGradient
from robustkit.adaptive.remedies import PRESCRIBED, UNANSWERABLE
from robustkit.attacks import APGD, PGD, AutoAttack, Classifier
from robustkit.checks import EVALUATION, PREFLIGHT
from robustkit.cli import main
from robustkit.models.load import LoadedModel, ModelSource, load_model
from robustkit.reports import AuditRecord, RecordError
from robustkit.reports.record.consistency import contradiction

ROWS = 50
EPS = {"lenet-mnist": 0.2, "lenet-mnist-pgd": 0.4}
EXHIBITS = {exhibit.name: exhibit for exhibit in MUSEUM}
MISLEADING = ("cold", "sigmoid", "quantised", "steps", "detached", "flipped", "opaque-jpeg")
OTHERS = ("saturated", "softmax", "square-root", "adapting", "noisy-logits", "k-winners", "batch-statistics")


@cache
def true_figure(base: str) -> float:
    x, y = digits(ROWS)
    model = Classifier(honest(base))
    points = AutoAttack(eps=EPS[base])(model, x, y)
    return float((model.logits(points).argmax(1) == y).float().mean())


def adapted(exhibit: Exhibit, rows: int = ROWS) -> AuditRecord:
    x, y = digits(rows)
    torch.manual_seed(0)
    return audit(exhibit.net(), (x, exhibit.labels(y)), [PGD(steps=20)], [EPS[exhibit.base]], adapt=True)


@pytest.mark.parametrize("name", [*MISLEADING, *OTHERS])
def test_the_answers_bring_the_figure_down_to_the_truth(name: str) -> None:
    exhibit = EXHIBITS[name]
    record = adapted(exhibit)
    assert record.adapted is not None
    fired = {check.id for check in record.checks if check.status in ("warn", "fail")}
    assert exhibit.fires <= fired
    (before,), (after,) = record.adapted.before, record.adapted.after
    true = true_figure(exhibit.base)
    assert after.robust.value == pytest.approx(true, abs=0.02)
    if name in MISLEADING:
        assert before.robust.value > true + 0.2
        assert sum(answer.broken for answer in record.adapted.answers) == before.robust.count - after.robust.count
        assert record.verdict == "do not trust"
    assert record.worst_case == record.adapted.after
    assert AuditRecord.from_json(record.to_json()) == record


def test_a_gradient_that_lies_is_answered_through_the_inner_network() -> None:
    record = adapted(EXHIBITS["flipped"], rows=20)
    assert record.adapted is not None
    first = record.adapted.answers[0]
    assert "the stages before net bridged by the identity" in first.what
    assert "1802.00420" in first.source
    assert {"gradient-wrong", "unbounded"} <= set(first.checks)
    assert first.attack == 1
    assert record.attacks[1].title == "APGD (adaptive)"
    assert record.attacks[1].access == "gradient"
    lowest = min(attack.curve[-1].robust.count for attack in record.attacks)
    assert record.worst_case[-1].robust.count <= lowest
    broken = [i for i, by in enumerate(record.samples.by) if by == 1]
    assert broken
    assert all(record.samples.distances[i] == record.attacks[1].distances[i] for i in broken)


def test_what_no_attack_mends_is_told_with_the_remedy() -> None:
    record = adapted(EXHIBITS["permuted"], rows=32)
    assert record.adapted is not None
    (answer,) = (answer for answer in record.adapted.answers if answer.checks == ["labels-permuted"])
    assert answer.attack is None
    assert answer.what.startswith("There is no automatic answer. Compare the order")


def test_every_check_has_an_answer_or_none_for_a_reason() -> None:
    assert {check.id for check in (*PREFLIGHT, *EVALUATION)} == PRESCRIBED.keys() | UNANSWERABLE
    assert not PRESCRIBED.keys() & UNANSWERABLE


@pytest.mark.parametrize("name", list(EPS))
def test_an_honest_model_is_left_alone(name: str) -> None:
    settings = (digits(20), [PGD(steps=40)], [0.1, 0.2])
    plain = audit(honest(name), *settings, checks=True)
    record = audit(honest(name), *settings, adapt=True)
    assert record.adapted is not None
    assert record.adapted.answers == []
    assert record.adapted.judging == ""
    assert record.worst_case == plain.worst_case == record.adapted.before
    assert record.checks == plain.checks
    assert plain.adapted is None


def test_a_record_whose_answers_contradict_its_attacks_is_refused() -> None:
    record = adapted(EXHIBITS["flipped"], rows=12)
    told = record.adapted
    assert told is not None
    assert contradiction(record) is None
    first, *rest = told.answers
    wrong = [
        dataclasses.replace(told, before=told.after),
        dataclasses.replace(told, after=told.before),
        dataclasses.replace(told, answers=[dataclasses.replace(first, broken=first.broken + 1), *rest]),
        dataclasses.replace(told, answers=[dataclasses.replace(first, attack=9), *rest]),
        dataclasses.replace(told, answers=[dataclasses.replace(first, checks=["no-such"]), *rest]),
    ]
    for each in wrong:
        with pytest.raises(RecordError, match="contradict"):
            AuditRecord.from_json(dataclasses.replace(record, adapted=each).to_json())


def test_a_random_model_is_judged_by_its_most_frequent_answer() -> None:
    class Coin(nn.Module):
        """Says 1 in `share` of the draws, else 0."""

        share = 0.8

        def forward(self, x: Tensor) -> Tensor:
            one = (torch.rand(len(x)) < self.share).float()
            return torch.stack([1 - one, one, one * 0 - 9], 1) + 0 * x.flatten(1).sum(1, keepdim=True)

    x, y = torch.rand(32, 1, 4, 4), torch.ones(32, dtype=torch.int64)
    model = Classifier(Coin())
    nondeterminism = find_nondeterminism(model, x, y, 0)
    assert (nondeterminism.draws, nondeterminism.fixed_batch, nondeterminism.state) == (20, None, None)
    judge = determinised_judge(model, nondeterminism)
    assert float((judge.logits(x).argmax(1) == 1).float().mean()) > 0.95  # of one draw it is 0.8
    shares = judge.logits(x).softmax(1)[:, 1]
    assert 0.7 < float(shares.mean()) < 0.9


def test_a_row_that_depends_on_its_batch_is_asked_in_a_fixed_one() -> None:
    net = EXHIBITS["batch-statistics"].net()
    x, y = digits(40)
    model = Classifier(net)
    nondeterminism = find_nondeterminism(model, x[:32], y[:32], 0)
    assert nondeterminism.fixed_batch is not None
    judge = determinised_judge(model, nondeterminism)
    whole, alone = judge.logits(x), torch.cat([judge.logits(x[i : i + 1]) for i in range(40)])
    torch.testing.assert_close(whole, alone)
    assert determinised_judge(
        Classifier(honest("lenet-mnist")), find_nondeterminism(Classifier(honest("lenet-mnist")), x, y, 0)
    ).net


def test_state_that_queries_change_is_put_back() -> None:
    net = EXHIBITS["adapting"].net()
    x, y = digits(16)
    model = Classifier(net)
    nondeterminism = find_nondeterminism(model, x, y, 0)
    assert nondeterminism.state is not None
    assert list(nondeterminism.state.values) == ["brightness"]
    assert float(net.brightness) == pytest.approx(0.14)
    judge = determinised_judge(model, nondeterminism)
    torch.testing.assert_close(judge.logits(x), judge.logits(x))


def test_an_adaptive_attack_counts_what_it_asks() -> None:
    from robustkit.adaptive import AdaptiveAttack, Nondeterminism

    model, (x, y) = Classifier(honest("lenet-mnist")), digits(4)
    adapted_model = AdaptedModel(model, Nondeterminism(), SurrogateGradient())
    attack = AdaptiveAttack(adapted_model, APGD(eps=0.1, steps=5, early_stop=False), "adaptive")
    points = attack(model, x, y)
    assert (attack.title, attack.norm, attack.access, attack.at(0.3).eps) == (
        "APGD (adaptive)",
        "linf",
        "gradient",
        0.3,
    )
    assert float((points - x).abs().max()) <= 0.1 + 1e-6
    assert model.backwards == 4 * 5


def served(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the command line find an exhibit under the name of the network it is built into."""
    real = load_model("lenet-mnist", device="cpu", precision="fp32")
    net = EXHIBITS[name].net()

    def broken(*_: object, **__: object) -> LoadedModel:
        return LoadedModel("lenet-mnist", ModelSource(net, "Broken", real.preprocess, classes=10))

    monkeypatch.setattr("robustkit.models.load.load_model", broken)


def run(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(["audit", *words])
    return left.value.code


def test_the_command_line_adapts_and_its_gate_sees_the_lower_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served(monkeypatch, "flipped")
    words = ["--model", "lenet-mnist", "--attack", "pgd:steps=10", "--eps", "0.2", "--samples", "12"]
    words += ["--fail-under", "0.2=0.5", "--out", str(tmp_path / "report")]
    assert run(*words) == 0
    capsys.readouterr()
    assert run(*words, "--adapt") == 1
    told = capsys.readouterr()
    assert "APGD (adaptive)" in told.out
    assert "the robust accuracy at ε = 0.2 fell from 100 % to 0 %" in told.out.replace("\u00a0", " ")
    assert "adapting" in told.err
    page, summary = ((tmp_path / "report" / name).read_text("utf-8") for name in ("index.html", "summary.md"))
    for text in (page, summary):
        assert "Answered with" in text
    assert "Robust accuracy before and after the automatic answers" in page
    old = str(tmp_path / "report" / "report.json")
    assert run(*words, "--baseline", old) == 2
    assert "with --adapt, this run is without it" in capsys.readouterr().err


def test_adapting_without_checks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--adapt", "--no-checks", "--out", str(tmp_path / "report")) == 2
    told = capsys.readouterr()
    assert "--adapt answers the checks that --no-checks leaves out" in told.err
    assert len(told.err.splitlines()) == 1
    config = tmp_path / "audit.toml"
    config.write_text("adapt = true\nchecks = false\n")
    assert run("--config", str(config), "--out", str(tmp_path / "report")) == 2
    config.write_text("adapt = 1\n")
    assert run("--config", str(config), "--out", str(tmp_path / "report")) == 2
    assert "adapt must be true or false" in capsys.readouterr().err
