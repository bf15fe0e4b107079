"""`.csv` and `.parquet` tables of (path, label): the pictures and classes of the folder that holds the same files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from robustkit.data.load import Data, load_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

RNG = np.random.default_rng(0)
MODEL = Preprocess((6, 5), 3)
LABELS = ("dog", "cat", "cow")
FILES = [("cat/0.png", "cat"), ("dog/0.png", "dog"), ("cow/0.png", "cow"), ("dog/1.png", "dog"), ("cat/1.png", "cat")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five pictures in folders of three classes."""
    for path, label in FILES:
        (tmp_path / "pictures" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(tmp_path / "pictures" / path)
    return tmp_path


def write(file: Path, head: list[str], rows: list[tuple[Any, ...]], delimiter: str = ",") -> Path:
    """The same table as CSV or as parquet."""
    if file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, delimiter=delimiter).writerows([*([head] if head else []), *rows])
    else:
        parquet.write_table(pa.table(dict(zip(head, map(list, zip(*rows, strict=True)), strict=True))), file)
    return file


def read(data: Data, model: object) -> dict[str, tuple[torch.Tensor, int]]:
    """Picture and class of each sample."""
    return {
        name.removeprefix("pictures/"): (x, int(y))
        for batch in data.batches(model, 2)
        for name, x, y in zip(batch.names, batch.x, batch.y, strict=True)
    }


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name][0], expected[name][0]) and found[name][1] == expected[name][1] for name in expected
    )


ROWS = [(f"pictures/{path}", label) for path, label in FILES]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("head", "more"),
    [
        (["path", "label"], ()),
        (["file", "class"], ()),
        (["Filename", "Target"], ()),
        (["image", "y"], ()),
        (["image_path", "label", "split"], ("test",)),
    ],
)
def test_the_pictures_of_the_folder(suffix: str, head: list[str], more: tuple[str, ...], root: Path, stand) -> None:
    model = stand(3, LABELS, MODEL)
    expected = read(load_data(root / "pictures"), model)
    data = load_data(write(root / f"a{suffix}", head, [(*row, *more) for row in ROWS]))
    assert len(expected) == len(data) == 5
    assert same(read(data, model), expected)
    assert [path for path, _ in data.files] == [root / path for path, _ in ROWS]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "labels",
    [
        [1, 0, 2, 0, 1],
        ["1", "0", "2", "0", "1"],
        [1.0, 0.0, 2.0, 0.0, 1.0],
        [" cat", "DOG", "cow ", "dog", "cat"],
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labels_as_numbers_and_names(labels: list[Any], suffix: str, root: Path, stand) -> None:
    model = stand(3, LABELS, MODEL)
    rows = [(path, label) for (path, _), label in zip(ROWS, labels, strict=True)]
    data = load_data(write(root / f"a{suffix}", ["path", "label"], rows))
    assert same(read(data, model), read(load_data(root / "pictures"), model))


def test_columns_in_any_order_delimiters_and_no_header(root: Path, stand) -> None:
    model = stand(3, LABELS, MODEL)
    expected = read(load_data(root / "pictures"), model)
    turned = [(label, path) for path, label in ROWS]
    windows = [(path.replace("/", "\\"), label) for path, label in ROWS]
    absolute = [(str(root / path), label) for path, label in ROWS]
    files = [
        write(root / "a.csv", ["label", "path"], turned, ";"),
        write(root / "b.csv", [], turned, "\t"),
        write(root / "c.csv", [], ROWS),
        write(root / "d.csv", ["path", "label"], windows),
    ]
    (root / "e.csv").write_bytes(b"\xef\xbb\xbf" + files[2].read_bytes().replace(b"\r\n", b"\n\n"))
    for file in (*files, root / "e.csv"):
        assert same(read(load_data(file), model), expected), file
    inside = read(load_data(write(root / "f.csv", ["path", "label"], absolute)), model)
    assert same(inside, expected)
    (root / "deep").mkdir()
    above = [(f"../{path}", label) for path, label in ROWS]
    found = read(load_data(write(root / "deep" / "a.csv", ["path", "label"], above)), model)
    assert found.keys() == {path for path, _ in above}


def test_a_table_sorted_by_class_is_taken_in_turn(root: Path, stand) -> None:
    data = load_data(write(root / "a.csv", ["path", "label"], sorted(ROWS)))
    classes = [int(y) for batch in data.batches(stand(3, LABELS, MODEL), 5) for y in batch.y]
    assert classes == [1, 2, 0, 1, 0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_and_broken_files_are_skipped_and_named(suffix: str, root: Path, stand) -> None:
    (root / "pictures" / "dog" / "1.png").write_text("no picture")
    rows = [*ROWS, ("pictures/gone.png", "cat"), ("pictures", "cat")]
    data = load_data(write(root / f"a{suffix}", ["path", "label"], rows))
    assert len(read(data, stand(3, LABELS, MODEL))) == 4
    assert [name for name, _ in data.skipped] == ["pictures/dog/1.png", "pictures/gone.png", "pictures"]
    assert "cannot be opened" in data.skipped[1][1]
    assert str(root) not in str(data.skipped)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "is empty: a column of path, file, filename, image and one of label, class, target, y are expected"),
        ("\n\n,\n", "is empty"),
        ("path,label\n", "has no rows"),
        ("path,kind\na.png,cat\n", "has no label column among path, kind: a column of"),
        ("where,label\na.png,cat\n", "has no path column among where, label"),
        ("path,file,label\na,b,c\n", "has 2 columns that could be the path among path, file, label"),
        ("path,label\na.png,cat,dog\n", "the row 'a.png,cat,dog' has 3 cells, the first 2"),
        ("path,label\na.png,cat\nb.png,\n", "row 2 has no label"),
        ("path,label\n,cat\n", "row 1 has no path"),
        ("path,label\na\0.png,cat\n", "row 1 has no path|cannot be read"),
        ("cat,dog\na.png,b.png\n", "has no path column among cat, dog"),
        ("a.png,cat,1\n", "has no path column"),
        ('path,label\n"a.png,cat\n', "has 1 cells"),
        ("path,label\n\xe9.png,cat\n".encode("latin-1"), "save it as CSV in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "cannot be read|has no path"),
    ],
)
def test_csv_files_that_will_not_do(text: str | bytes, pattern: str, tmp_path: Path, refuses) -> None:
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with refuses(DataError, pattern):
        load_data(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("labels", "names", "pattern"),
    [
        (["cat", "wolf"], LABELS, "1 of 2 classes are not classes of stand-in: 'wolf'"),
        (["0", "3"], LABELS, "1 of 2 classes .*'3'"),
        (["1", "2", "3"], None, "1 of 3 classes .*'3'; number them 0 to 2"),
    ],
)
def test_labels_that_the_model_does_not_know(
    labels: list[str], names: tuple[str, ...] | None, pattern: str, root: Path, stand, refuses
) -> None:
    data = load_data(write(root / "a.csv", ["path", "label"], [(ROWS[0][0], label) for label in labels]))
    with refuses(DataError, pattern):
        data.resolve(stand(3, names, MODEL))


def embedded(root: Path, kind: str) -> tuple[list[Any], Any]:
    """A column of the pictures' bytes, and its type."""
    content = [(root / path).read_bytes() for path, _ in ROWS]
    if kind == "bytes":
        return content, pa.binary()
    cells: list[Any] = [{"bytes": data, "path": None} for data in content]
    if kind == "paths":
        cells = [{"bytes": None, "path": path} for path, _ in ROWS]
    return cells, pa.struct({"bytes": pa.binary(), "path": pa.string()})


@pytest.mark.parametrize("kind", ["bytes", "struct", "paths"])
@pytest.mark.parametrize("named", [False, True])
def test_pictures_inside_a_parquet_file(kind: str, named: bool, root: Path, stand) -> None:
    cells, form = embedded(root, kind)
    numbers = [LABELS.index(label) for _, label in ROWS]
    table = pa.table({"image": pa.array(cells, form), "label": numbers})
    expected = read(load_data(root / "pictures"), stand(3, LABELS, MODEL))
    if named:  # numbered otherwise than in the model, as `datasets` writes it
        names = ["cow", "dog", "cat"]
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"image": table["image"], "label": [names.index(label) for _, label in ROWS]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, root / "a.parquet", row_group_size=2)
    data = load_data(root / "a.parquet")
    found = read(data, stand(3, LABELS, MODEL))
    assert len(data) == 5
    assert same(found, {str(number): expected[path] for number, (path, _) in enumerate(FILES)})
    if named:  # a model without names takes the numbers as they are
        classes = [y for _, y in read(data, stand(3, None, MODEL)).values()]
        assert classes == [names.index(label) for _, label in ROWS]


def test_bad_pictures_inside_a_parquet_file(root: Path, stand) -> None:
    content = [(root / ROWS[0][0]).read_bytes(), b"", b"no picture", None]
    parquet.write_table(pa.table({"image": content, "label": [0, 1, 2, 0]}), root / "a.parquet")
    data = load_data(root / "a.parquet")
    assert list(read(data, stand(3, LABELS, MODEL))) == ["0"]
    assert [name for name, _ in data.skipped] == ["1", "2", "3"]
    assert ["is empty" in data.skipped[0][1], "not a picture" in data.skipped[1][1]] == [True, True]


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        ({"path": ["a.png"], "kind": ["cat"]}, "has no label column among path, kind"),
        ({"path": ["a.png", "b.png"], "label": ["cat", None]}, "row 2 has no label"),
        ({"path": ["a.png", None], "label": ["cat", "dog"]}, "row 2 has no path"),
        ({"path": [1, 2], "label": ["cat", "dog"]}, "row 1 has no path"),
        ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "has no rows"),
    ],
)
def test_parquet_files_that_will_not_do(columns: dict[str, Any], pattern: str, tmp_path: Path, refuses) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    with refuses(DataError, pattern):
        load_data(tmp_path / "a.parquet")


@pytest.mark.parametrize("left", [0, 10, -30])
def test_parquet_files_that_are_cut_short(left: int, tmp_path: Path, refuses) -> None:
    stream = io.BytesIO()
    parquet.write_table(pa.table({"path": ["a.png"], "label": ["cat"]}), stream)
    (tmp_path / "a.parquet").write_bytes(stream.getvalue()[:left])
    with refuses(DataError, "cannot be read .*: save it again as parquet"):
        load_data(tmp_path / "a.parquet")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with refuses(DataError, r"pip install 'robustkit\[parquet\]'"):
        load_data(tmp_path / "a.parquet")
