"""The journal: what is appended is there whole or not at all, and read back as it was."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_tools import plane

from robustkit import audit
from robustkit.attacks import FGSM, LBFGS, PGD, Square
from robustkit.auditing.columns import AttackColumns, AttackCounts, SampleColumns
from robustkit.auditing.journal import SCHEMA, AttackEntry, Journal
from robustkit.auditing.outcome import AttackOutcome, BatchOutcome, TransferCounts
from robustkit.auditing.plan import Request, make_plan
from robustkit.auditing.results import Results

GRID = 2


def outcome(number: int, samples: int, attacks: int = 1, complete: bool = True) -> BatchOutcome:
    """A batch with numbers that are told apart."""
    columns = SampleColumns.blank(samples)
    columns.ids[:] = np.arange(samples) + 100 * number
    columns.labels[:], columns.predictions[:] = 1, 1
    columns.confidences[:] = 0.5 + 0.1 * np.arange(samples)
    found = []
    for place in range(attacks):
        results = AttackColumns.blank(samples, GRID)
        results.distances[0], results.queries[0] = 0.25 + place, [3 + number, -1]
        counts = AttackCounts(attacked=samples, forwards=5, seconds=0.5, inherited=[0, 1])
        counts.cells = {("fog", "3"): (1, samples)}
        found.append(AttackOutcome(results, counts))
    names = [f"{number}-{row}.png" for row in range(samples)]
    transfer = TransferCounts(samples, np.array([[1, 0]]))
    return BatchOutcome(number, names, columns, found, transfer, complete)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "audit.sqlite", {"seed": 0}, "f" * 64, GRID)
    made.describe({0: AttackEntry.of(Square(queries=5), True, ["a note"])})
    return made


def test_columns_are_joined_and_stored_by_their_declaration_alone() -> None:
    assert set(AttackColumns.declared()) == {"distances", "rms", "predictions", "confidences", "queries"}
    parts = [outcome(number, 2).attacks[0].columns for number in range(2)]
    whole = AttackColumns.joined(parts, GRID)
    back = AttackColumns.read(whole.stored(), GRID)
    for name, column in AttackColumns.declared().items():
        np.testing.assert_array_equal(getattr(back, name), getattr(whole, name))
        assert getattr(back, name).dtype == np.dtype(column.dtype)
    assert back.queries.tolist() == [[3, -1], [-1, -1], [4, -1], [-1, -1]]


def test_columns_without_a_grid_or_without_samples() -> None:
    for samples, grid in ((0, 0), (0, 2), (3, 0)):
        back = AttackColumns.read(AttackColumns.blank(samples, grid).stored(), grid)
        assert len(back) == samples
        assert back.queries.shape == (samples, grid)
    assert len(AttackColumns.joined([], 2)) == 0


def test_rows_of_a_batch_lie_at_their_places() -> None:
    found = outcome(0, 2).attacks[0].columns.within(5, np.array([1, 4]), GRID)
    assert found.distances[1] == 0.25
    assert np.isnan(found.distances[[0, 2, 3, 4]]).all()
    assert found.predictions.tolist() == [-1] * 5


def test_what_is_appended_is_read_back(journal: Journal) -> None:
    for number in (1, 0):  # whatever the order in which they come
        journal.append(outcome(number, 2))
    samples, names = journal.samples()
    assert samples.ids.tolist() == [0, 1, 100, 101]
    assert names == ["0-0.png", "0-1.png", "1-0.png", "1-1.png"]
    columns, counts = journal.results(0)
    assert columns.queries[:, 0].tolist() == [3, -1, 4, -1]
    assert (counts.attacked, counts.forwards, counts.seconds, counts.inherited) == (4, 10, 1.0, [0, 2])
    assert counts.cells == {("fog", "3"): (2, 4)}
    assert sum(part.samples for part in journal.transfer()) == 4
    assert journal.entries()[0].notes == ["a note"]


def test_a_batch_that_was_interrupted_is_replaced(journal: Journal) -> None:
    journal.append(outcome(0, 2, attacks=0, complete=False))
    assert len(journal.results(0)[0]) == 0
    assert len(journal.samples()[1]) == 2
    journal.append(outcome(0, 2))
    assert len(journal.results(0)[0]) == len(journal.samples()[1]) == 2


def test_a_batch_that_has_no_answers_yet_leaves_nothing(journal: Journal) -> None:
    journal.append(BatchOutcome(0))
    assert journal.samples()[1] == []


def test_an_append_that_breaks_off_leaves_nothing(journal: Journal) -> None:
    journal.append(outcome(0, 2))
    bad = outcome(1, 2)
    bad.attacks.append(None)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        journal.append(bad)
    assert journal.samples()[1] == ["0-0.png", "0-1.png"]
    journal.append(outcome(1, 2))  # and the journal goes on
    assert len(journal.samples()[1]) == 4


def test_a_kill_loses_no_batch_that_was_appended(journal: Journal, tmp_path: Path) -> None:
    journal.append(outcome(0, 2))
    other = sqlite3.connect(tmp_path / "audit.sqlite")  # as after a kill: nobody has closed it
    assert other.execute("SELECT count(*) FROM batches WHERE complete").fetchone() == (1,)
    assert dict(other.execute("SELECT key, value FROM meta"))["schema"] == str(SCHEMA)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_results_of_a_journal_are_those_of_its_columns(journal: Journal) -> None:
    journal.append(outcome(0, 4))
    results = Results(journal, {0.2: "0.2", 0.3: "0.3"})
    worst, by, judged = results.worst()
    assert worst.tolist() == [0.25, math.inf, math.inf, math.inf]
    assert by.tolist() == [0, -1, -1, -1]
    assert judged == 4
    assert [point.robust.count for point in results.worst_case()] == [4, 3]
    assert results.left(0.3).tolist() == [False, True, True, True]


def test_an_audit_leaves_its_journal_beside_the_report(tmp_path: Path) -> None:
    given = plane(5, wrong=1)
    attacks = [FGSM(), LBFGS(steps=2, searches=1)]
    record = audit(given.net, (given.x, given.y), attacks, [0.05, 0.5], batch_size=2, out=tmp_path)
    assert record.status == "complete"
    assert not (tmp_path / "audit.sqlite-wal").exists()  # closed: one file holds all
    file = sqlite3.connect(tmp_path / "audit.sqlite")
    assert file.execute("SELECT count(*) FROM batches WHERE complete").fetchone() == (3,)
    assert file.execute("SELECT count(*) FROM results").fetchone() == (6,)
    assert [json.loads(text)["name"] for (text,) in file.execute("SELECT description FROM attacks")] == [
        "fgsm",
        "lbfgs",
    ]


def test_a_second_audit_replaces_the_journal_of_the_first(tmp_path: Path) -> None:
    given = plane(4)
    for count in (4, 2):
        audit(given.net, (given.x, given.y), [FGSM()], [0.05], samples=count, out=tmp_path)
    file = sqlite3.connect(tmp_path / "audit.sqlite")
    assert json.loads(file.execute("SELECT names FROM batches").fetchone()[0]) == ["0", "1"]


def test_a_fingerprint_changes_with_all_that_figures_depend_on_and_nothing_else() -> None:
    given = plane(4)
    torch.manual_seed(0)

    def mark(**changes: object) -> str:
        asked: dict[str, object] = {"attacks": [PGD(steps=3)], "eps": [0.1], "seed": 1, "samples": 3}
        return make_plan(Request(model=given.net, data=(given.x, given.y), **{**asked, **changes})).fingerprint  # type: ignore[arg-type]

    first = mark()
    assert first == mark()
    assert first == mark(batch_size=1, command="another")
    changes = ({"attacks": [PGD(steps=4)]}, {"eps": [0.2]}, {"seed": 2}, {"samples": 2}, {"target": "least-likely"})
    others = [mark(**change) for change in changes]
    assert len({first, *others}) == 1 + len(changes)
