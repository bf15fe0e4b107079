"""The journal of an audit: a SQLite file that is its only state. What is in it is done, what is not is to do.

Tables: `meta` (schema version, the plan and its fingerprint), `attacks` (the named ones and those that were added),
`batches`, `samples` and `results` (columns of numbers, a BLOB a batch and column), `counts`, `transfer`, `comparisons`
and `checks`. Appending a batch is one transaction: after a kill at any moment it is there whole or not at all.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.attacks.core.attack import Attack
from robustkit.auditing.columns import AttackColumns, AttackCounts, SampleColumns
from robustkit.auditing.outcome import AttackOutcome, BatchOutcome, TransferCounts
from robustkit.errors import DataError
from robustkit.reports import CheckResult, Comparison
from robustkit.reports.record.decode import build
from robustkit.reports.record.encode import plain

SCHEMA = 1
_FITTING = -1  # the number of the batch under which the cost of fitting stands
_SAMPLES = ", ".join(f"{name} BLOB NOT NULL" for name in SampleColumns.declared())
_RESULTS = ", ".join(f"{name} BLOB NOT NULL" for name in AttackColumns.declared())
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE attacks (place INTEGER PRIMARY KEY, description TEXT NOT NULL);
CREATE TABLE batches (number INTEGER PRIMARY KEY, complete INTEGER NOT NULL, names TEXT NOT NULL, {_SAMPLES});
CREATE TABLE results (attack INTEGER, batch INTEGER, {_RESULTS}, PRIMARY KEY (attack, batch));
CREATE TABLE counts (attack INTEGER, batch INTEGER, sums TEXT NOT NULL, PRIMARY KEY (attack, batch));
CREATE TABLE transfer (batch INTEGER PRIMARY KEY, samples INTEGER NOT NULL, wrong TEXT NOT NULL);
CREATE TABLE comparisons (number INTEGER PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE checks (number INTEGER PRIMARY KEY, content TEXT NOT NULL);
"""


@dataclass(frozen=True)
class AttackEntry:
    """One attack of the audit, as its report describes it.

    Args:
        kind: "budget", "minimum" or "free"; see `reports.AttackResult`.
        counts_queries: whether the queries of each row are counted.
        notes: sentences that a reader must know.
    """

    name: str
    title: str
    paper: str
    kind: str
    norm: str
    parameters: dict[str, Any]
    access: str
    control: bool
    counts_queries: bool
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, attack: Attack, counts_queries: bool, notes: Iterable[str]) -> AttackEntry:
        return cls(
            name=attack.name,
            title=attack.title,
            paper=attack.paper,
            kind="free" if not attack.ball else "minimum" if attack.minimum_norm else "budget",
            norm=attack.norm,
            parameters=without_eps(attack),
            access=attack.access,
            control=attack.control,
            counts_queries=counts_queries,
            notes=list(notes),
        )


def without_eps(attack: Attack) -> dict[str, int | float | str | bool | None]:
    """An attack's hyperparameters but for ε, which the audit's grid decides."""
    return {key: value for key, value in attack.parameters().items() if key != "eps"}


class Journal:
    """Appends what is found out, and reads it back.

    Args:
        path: of the file, which must not exist yet; None keeps the journal in memory.
        plan: what the audit is asked to do, as JSON values.
        fingerprint: of the plan.
        grid: how many ε there are.
    """

    def __init__(self, path: Path | None, plan: Mapping[str, Any], fingerprint: str, grid: int) -> None:
        self.grid = grid
        try:
            self.database = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = NORMAL")  # safe with a write-ahead log; a power cut may lose
            self.database.executescript(_TABLES)  # the last transactions, but nothing is left half done
        except sqlite3.Error as error:
            raise DataError(f"{path}: the journal cannot be written ({error})") from None
        meta = {"schema": str(SCHEMA), "fingerprint": fingerprint, "plan": json.dumps(plan)}
        self.database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self.database.in_transaction:  # one that an interrupt left between two lines
            self.database.execute("ROLLBACK")
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield self.database
            self.database.execute("COMMIT")
        except BaseException:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Write everything into the one file."""
        self.database.close()

    def describe(self, entries: Mapping[int, AttackEntry]) -> None:
        """Write down attacks under their places, anew where they stand there already."""
        rows = [(place, json.dumps(plain(entry))) for place, entry in entries.items()]
        with self._transaction() as database:
            database.executemany("INSERT OR REPLACE INTO attacks VALUES (?, ?)", rows)

    def entries(self) -> dict[int, AttackEntry]:
        """The attacks by place."""
        rows = self.database.execute("SELECT place, description FROM attacks ORDER BY place")
        return {place: AttackEntry(**json.loads(text)) for place, text in rows}

    def drop(self, place: int) -> None:
        """Forget an attack that was added and found nothing to do."""
        with self._transaction() as database:
            database.execute("DELETE FROM attacks WHERE place = ?", (place,))
            for table in ("results", "counts"):
                database.execute(f"DELETE FROM {table} WHERE attack = ?", (place,))

    def append(self, outcome: BatchOutcome) -> None:
        """Write down a batch. One that is there already is written anew: what was interrupted is replaced."""
        if outcome.samples is None:
            return
        with self._transaction() as database:
            row = (outcome.number, outcome.complete, json.dumps(outcome.names), *outcome.samples.stored().values())
            _insert(database, "batches", row)
            for place, found in enumerate(outcome.attacks):
                self._append(database, place, outcome.number, found)
            if outcome.transfer is not None:
                wrong = json.dumps(outcome.transfer.wrong.tolist())
                _insert(database, "transfer", (outcome.number, outcome.transfer.samples, wrong))

    def append_attack(self, place: int, batch: int, found: AttackOutcome) -> None:
        """Write down a batch of an attack that was added after the others."""
        with self._transaction() as database:
            self._append(database, place, batch, found)

    def append_fitting(self, place: int, counts: AttackCounts) -> None:
        """Write down what it took to fit an attack to the samples."""
        with self._transaction() as database:
            _insert(database, "counts", (place, _FITTING, json.dumps(counts.plain())))

    def _append(self, database: sqlite3.Connection, place: int, batch: int, found: AttackOutcome) -> None:
        _insert(database, "results", (place, batch, *found.columns.stored().values()))
        _insert(database, "counts", (place, batch, json.dumps(found.counts.plain())))

    def samples(self) -> tuple[SampleColumns, list[str]]:
        """All samples, in the order of their batches, and their names."""
        names: list[str] = []
        columns = list(SampleColumns.declared())
        parts = []
        for text, *blobs in self.database.execute(f"SELECT names, {', '.join(columns)} FROM batches ORDER BY number"):
            names += json.loads(text)
            parts.append(SampleColumns.read(dict(zip(columns, blobs, strict=True))))
        return SampleColumns.joined(parts), names

    def results(self, place: int) -> tuple[AttackColumns, AttackCounts]:
        """One attack's columns over the samples that it is through with, and its sums."""
        columns = list(AttackColumns.declared())
        query = f"SELECT {', '.join(columns)} FROM results WHERE attack = ? ORDER BY batch"
        parts = [
            AttackColumns.read(dict(zip(columns, blobs, strict=True)), self.grid)
            for blobs in self.database.execute(query, (place,))
        ]
        sums = self.database.execute("SELECT sums FROM counts WHERE attack = ? ORDER BY batch", (place,))
        counts = [AttackCounts.from_plain(json.loads(text)) for (text,) in sums]
        return AttackColumns.joined(parts, self.grid), AttackCounts.total(counts, self.grid)

    def transfer(self) -> list[TransferCounts]:
        rows = self.database.execute("SELECT samples, wrong FROM transfer ORDER BY batch")
        return [TransferCounts(samples, np.array(json.loads(wrong))) for samples, wrong in rows]

    def add_comparison(self, comparison: Comparison) -> None:
        text = json.dumps(plain(comparison))
        self.database.execute("INSERT INTO comparisons (content) VALUES (?)", (text,))

    def comparisons(self) -> list[Comparison]:
        rows = self.database.execute("SELECT content FROM comparisons ORDER BY number")
        return [build(Comparison, json.loads(text)) for (text,) in rows]

    def put_checks(self, checks: Iterable[CheckResult]) -> None:
        """Write down the checks, in place of those that were there."""
        with self._transaction() as database:
            database.execute("DELETE FROM checks")
            rows = [(json.dumps(plain(check)),) for check in checks]
            database.executemany("INSERT INTO checks (content) VALUES (?)", rows)

    def checks(self) -> list[CheckResult]:
        rows = self.database.execute("SELECT content FROM checks ORDER BY number")
        return [build(CheckResult, json.loads(text)) for (text,) in rows]


def _insert(database: sqlite3.Connection, table: str, row: tuple[Any, ...]) -> None:
    database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
