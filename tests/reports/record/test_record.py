"""report.json: there and back, its schema, and every way in which a file can be broken."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import build, realistic
from report_suite import suite
from scipy.stats import binomtest

from robustkit.reports import AuditRecord, Rate, RecordError, read
from robustkit.reports.record.decode import digest_of
from robustkit.reports.record.schema import schema

TEXT = realistic().to_json()


def sealed(change: Callable[[dict[str, Any]], None]) -> str:
    """The report with `change` made to it and a digest that fits, as one who knows the format would."""
    body = json.loads(TEXT)
    del body["digest"]
    change(body)
    return json.dumps({**body, "digest": digest_of(body)})


@given(total=st.integers(1, 5000), data=st.data())
def test_interval_is_wilsons(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    rate = Rate.of(count, total)
    want = binomtest(count, total).proportion_ci(0.95, method="wilson")
    assert rate.value == count / total
    assert rate.low == pytest.approx(want.low, abs=1e-12)
    assert rate.high == pytest.approx(want.high, abs=1e-12)


def test_a_rate_over_nothing_has_no_value() -> None:
    assert Rate.of(0, 0) == Rate(0, 0, None, None, None)
    with pytest.raises(ValueError, match="count <= total"):
        Rate.of(2, 1)


def test_there_and_back(record: AuditRecord) -> None:
    again = AuditRecord.from_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


@pytest.mark.parametrize("record", [realistic(), suite(), build([], {})], ids=["realistic", "suite", "nothing"])
def test_the_file_holds_every_field_a_column_on_one_line(record: AuditRecord) -> None:
    text = record.to_json()
    body = json.loads(text)
    digest = body.pop("digest")
    assert body == dataclasses.asdict(record)
    assert digest == digest_of(body)
    lines = text.splitlines()
    assert f'  "distances": {json.dumps(record.samples.distances)},' in lines
    assert lines[1].startswith(' "status": ')


def test_integers_come_back_as_the_floats_they_stand_for() -> None:
    text = sealed(lambda body: body["run"].update(seconds=3))
    assert isinstance(AuditRecord.from_json(text).run.seconds, float)


def test_a_name_that_is_not_utf8_can_be_written() -> None:
    record = build([True], {"PGD": [None]})
    names = dataclasses.replace(record.samples, names=["caf\udce9.jpg"])
    again = AuditRecord.from_json(dataclasses.replace(record, samples=names).to_json())
    assert again.samples.names == ["caf?.jpg"]


def test_the_schema_is_one_and_accepts_the_file_as_it_lies(record: AuditRecord) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(json.loads(record.to_json()))


def test_the_schema_names_the_fields_of_the_dataclasses(record: AuditRecord) -> None:
    assert set(schema()["properties"]) - {"digest"} == {f.name for f in dataclasses.fields(AuditRecord)}
    for part, sample in [
        ("model", record.model),
        ("data", record.data),
        ("run", record.run),
        ("rate", record.clean),
        ("spread", record.worst_distance),
        ("attack", record.attacks[0]),
        ("samples", record.samples),
        ("comparison", record.comparisons[0]),
        ("picture", record.comparisons[0].original),
        ("gate", record.gates[0]),
        ("check", record.checks[0]),
    ]:
        rule = schema()["$defs"][part]
        assert set(rule["required"]) == set(rule["properties"]) == {f.name for f in dataclasses.fields(sample)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        '"report"',
        "{}",
        "\x00\x01\x02",
        "\ufeff" + TEXT,
        TEXT[: len(TEXT) // 2],
        TEXT[:-3],
        TEXT + "{}",
        "[" * 100_000,
        '{"version": 2, "a": ' + "[" * 900 + "]" * 900 + "}",
        '{"version": 2, "a": NaN}',
        '{"version": 2, "a": 1e999}',
        '{"version": ' + "9" * 5000 + "}",
        '{"version": 2, "a": ' + "9" * 400 + "}",
        '{"version": 1}',
        '{"version": 2}',
        '{"version": 3}',
        '{"version": true}',
        '{"version": [' + '"x",' * 500 + '"x"]}',
        '{"version": 2, "digest": "\\ud800"}',
        TEXT.replace('"version": 2', '"version": 1'),
        TEXT.replace('"seed": 0', '"seed": 1'),
        TEXT.replace('"digest"', '"digests"'),
        TEXT.replace("photo-03.jpg", "photo-04.jpg", 1),
        TEXT.replace("photo-03.jpg", "\\ud800", 1),
        TEXT.replace("photo-03.jpg", "\ud800", 1),
    ],
)
def test_a_broken_file_is_a_record_error_of_one_line(text: str) -> None:
    with pytest.raises(RecordError) as caught:
        AuditRecord.from_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: Any) -> None:
        for step in path[:-1]:
            body = body[step]
        body[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set("norm", to="l3"), "norm"),
        (_set("status", to="done"), "status"),
        (_set("extra", to=1), "extra"),
        (_set("clean", "count", to=-1), "clean/count"),
        (_set("clean", "count", to=True), "clean/count"),
        (_set("clean", "value", to=1.5), "clean/value"),
        (_set("eps", 0, to=0), "eps/0"),
        (_set("eps", 0, to="1/255"), "eps/0"),
        (_set("run", "created", to="yesterday"), "created"),
        (_set("samples", "confidences", 2, to=1.1), "samples/confidences/2"),
        (_set("samples", "ids", 2, to=1.5), "samples/ids/2"),
        (_set("attacks", 0, "distances", 2, to="far"), "attacks/0/distances/2"),
        (_set("attacks", 0, "parameters", to={"a": []}), "parameters"),
        (_set("comparisons", 0, "perturbation", to="../../etc/passwd.png"), "perturbation"),
        (_set("comparisons", 0, "perturbation", to="/etc/passwd.png"), "perturbation"),
        (_set("comparisons", 0, "original", "file", to="a\\..\\b.png"), "file"),
        (_set("classes", to={"a": "b"}), "classes"),
        (_set("clean", "value", to=0.9), "value or the interval"),
        (_set("clean", "low", to=0.1), "value or the interval"),
        (_set("clean", to=dataclasses.asdict(Rate.of(18, 20))), "the samples say 19 of 20"),
        (_set("samples", "names", to=["a"]), "differ in length"),
        (_set("samples", "ids", 1, to=0), "occurs twice"),
        (_set("samples", "distances", 13, to=0.1), "wrong before"),
        (_set("samples", "distances", 3, to=0.9), "not the smallest"),
        (_set("attacks", 0, "distances", to=[]), "differ in length"),
        (_set("attacks", 0, "predictions", 2, to=None), "distance without"),
        (_set("attacks", 0, "judged", to=21), "judged more"),
        (_set("attacks", 0, "judged", to=7), "complete"),
        (_set("attacks", 0, "distortion", "count", to=3), "distortions are over 3"),
        (_set("attacks", 0, "distortion", "median", to=9.0), "do not ascend"),
        (_set("attacks", 0, "distortion", "median", to=None), "deny"),
        (_set("attacks", 0, "distortion", "mean", to=0.0), "outside its range"),
        (_set("attacks", 0, "curve", 0, "eps", to=0.5), "not over the ε grid"),
        (_set("eps", to=[2 / 255, 1 / 255, 4 / 255]), "not ascending"),
        (_set("worst_case", to=[]), "not over the ε grid"),
        (_set("worst_case", 2, "robust", to=dataclasses.asdict(Rate.of(19, 20))), "rises with ε"),
        (_set("worst_case", 0, "robust", to=dataclasses.asdict(Rate.of(20, 20))), "than were right before"),
        (_set("worst_case", 0, "robust", to=dataclasses.asdict(Rate.of(19, 20))), "better than"),
        (_set("gates", 0, "passed", to=True), "opposite"),
        (_set("gates", 1, "measured", to=None), "without a measurement"),
        (_set("gates", 1, "kind", to="strict"), "opposite of what they found"),
        (_set("checks", 0, "status", to="maybe"), "checks/0/status"),
        (_set("checks", 0, "id", to="gradient-zero"), "a check occurs twice"),
    ],
)
def test_a_record_that_contradicts_the_schema_or_itself_is_refused(
    change: Callable[[dict[str, Any]], None], why: str
) -> None:
    with pytest.raises(RecordError) as caught:
        AuditRecord.from_json(sealed(change))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [path, *(leaf for key, item in items for leaf in _leaves(item, (*path, key)))]


LEAVES = [path for path in _leaves(json.loads(TEXT)) if path]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(path=st.sampled_from(LEAVES), junk=JUNK, seal=st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_edit_raises_anything_else(path: tuple[str | int, ...], junk: Any, seal: bool) -> None:
    body = json.loads(TEXT)
    _set(*path, to=junk)(body)
    if seal and isinstance(body.pop("digest", None), str):
        try:
            body["digest"] = digest_of(body)
        except ValueError:  # NaN or a lone surrogate has no digest
            body["digest"] = "sha256:" + "0" * 64
    text = json.dumps(body)
    try:
        AuditRecord.from_json(text)
    except RecordError:
        return
    # What is accepted is either the record unchanged or one with a digest of its own.
    assert seal or json.loads(text) == json.loads(TEXT)


@given(st.integers(0, len(TEXT) - 2))
@settings(max_examples=30, deadline=None)
def test_a_file_cut_anywhere_is_refused(end: int) -> None:
    with pytest.raises(RecordError):
        AuditRecord.from_json(TEXT[:end])


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n", b"", TEXT.encode()[:5000]])
def test_read_names_the_broken_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"report\.json: "):
        read(path)


def test_read_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        read(tmp_path / "absent.json")
    with pytest.raises(RecordError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(RecordError, match="cannot be read"):
        read("a\0b")
