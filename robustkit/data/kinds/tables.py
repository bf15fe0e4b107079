"""Tables of (path, label), `.csv` and `.parquet`, and of pictures inside a parquet file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from robustkit.data.class_names import fold, match_classes, match_numbers
from robustkit.data.dataset import Asks, Data, Sample, round_robin
from robustkit.data.folders import FileData
from robustkit.data.pictures import as_input
from robustkit.data.pixels import Preprocess, decode
from robustkit.errors import DataError
from robustkit.text import one_line

_PATHS = ("path", "file", "filename", "image", "file name", "filepath", "file path", "image path", "img", "img path")
_LABELS = ("label", "class", "target", "y")
_EXPECTED = f"a column of {', '.join(_PATHS[:4])} and one of {', '.join(_LABELS)} are expected"
_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|p[gpb]m|jp2|avif|ico|tga)$", re.IGNORECASE)
_READ = 64  # rows of pictures of a parquet file in memory at a time


def csv_data(name: str) -> FileData:
    """Picture files and labels of a `.csv` file; paths are relative to its folder.

    Raises:
        DataError: no such columns, no rows, or a row without a label.
    """
    file = Path(name)
    try:
        text = file.read_text("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)) if any(line)]
    except OSError as error:
        raise DataError(f"{name} cannot be opened ({error.strerror}): check its permissions") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name} cannot be read ({one_line(error)}): save it as CSV in UTF-8") from None
    if not lines:
        raise DataError(f"{name} is empty: {_EXPECTED}")
    head = lines[0]
    if len(head) == 2 and _bare(head, file.parent):
        path = 0 if _is_picture(head[0], file.parent) else 1
        label, rows = 1 - path, lines
    else:
        (path, label), rows = _columns(head, name), lines[1:]
    wrong = next((row for row in rows if len(row) != len(head)), None)
    if wrong is not None:
        raise DataError(f"{name}: the row {','.join(wrong)[:60]!r} has {len(wrong)} cells, the first {len(head)}")
    return _file_data(name, [(row[path], row[label]) for row in rows])


def parquet_data(name: str) -> Data:
    """Picture files and labels of a `.parquet` file, or the pictures themselves where a column holds their bytes.

    Raises:
        DataError: pyarrow is not installed, no such columns, no rows, or a row without a label.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{name}: to read it takes pyarrow: pip install 'robustkit[parquet]'") from None
    try:
        with parquet.ParquetFile(name) as content:
            schema = content.schema_arrow
            path, label = (schema.names[number] for number in _columns(schema.names, name))
            labels = content.read([label]).column(0).to_pylist()
            kind, names = schema.field(path).type, _class_label(schema.metadata, label)
            embedded = pyarrow.types.is_struct(kind) or _is_binary(kind)
            paths = None if embedded else content.read([path]).column(0).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{name} cannot be read ({one_line(error)}): save it again as parquet") from None
    if names is not None and all(isinstance(each, int) and 0 <= each < len(names) for each in labels):
        labels = [names[each] for each in labels]
    if paths is not None:
        return _file_data(name, list(zip(paths, labels, strict=True)), names)
    return ParquetPictures(name, path, _checked_labels(labels, name), names)


class ParquetPictures(Data):
    """Pictures whose encoded bytes stand in a column of a `.parquet` file, alone or as {"bytes", "path"}.

    Args:
        labels: the class name or number of each row.
        classes: every class name in the order of the numbers; None where the file does not tell.
    """

    def __init__(self, name: str, column: str, labels: list[str], classes: list[str] | None) -> None:
        order = " (rows sorted by class: to judge fewer than all, shuffle them)" if _grouped(labels) else ""
        super().__init__(name, Path(name).name + order)
        self.column = column
        self.labels = labels
        self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def resolve(self, model: Asks) -> Callable[[], Iterator[Sample]]:
        index = _indices(self.labels, self.classes, model, self.name)
        root, preprocess = Path(self.name).parent, model.preprocess

        def listing() -> Iterator[Sample]:
            for number, (label, cell) in enumerate(zip(self.labels, self._cells(), strict=True)):
                yield Sample(str(number), partial(_read_cell, cell, root, preprocess, index[label]))

        return listing

    def _cells(self) -> Iterator[Any]:
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.name) as content:
                for batch in content.iter_batches(_READ, columns=[self.column]):
                    for cell in batch.column(0):
                        yield cell.as_py()
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.name} cannot be read ({one_line(error)}): save it again as parquet") from None


class TableData(FileData):
    """Picture files with labels of a table.

    Args:
        numbered: every class name in the order of the numbers; None where the table does not tell.
    """

    numbered: list[str] | None = None

    def _indices(self, model: Asks) -> list[int]:
        index = _indices(self.classes, self.numbered, model, self.name)
        return [index[name] for name in self.classes]


def _file_data(name: str, rows: Sequence[tuple[Any, Any]], numbered: list[str] | None = None) -> TableData:
    """Data of the rows; those that come sorted by label are taken in turn, so that any prefix is balanced."""
    root = Path(name).parent
    labels = _checked_labels([label for _, label in rows], name)
    for number, (path, _) in enumerate(rows):
        if not isinstance(path, str) or not path.strip() or "\0" in path:
            raise DataError(f"{name}: row {number + 1} has no path: give one, or leave the row out")
    files = [(root / _portable(path.strip()), label) for (path, _), label in zip(rows, labels, strict=True)]
    if _grouped(labels):
        files = round_robin(files, lambda item: item[1])
    data = TableData(name, Path(name).name, files, sorted(set(labels)), root)
    data.numbered = numbered
    return data


def _grouped(labels: Sequence[str]) -> bool:
    """True where all rows of a label follow each other, of more than one label."""
    turns = sum(label != before for label, before in zip(labels[1:], labels, strict=False))
    return turns == len(set(labels)) - 1 > 0


def _indices(labels: Sequence[str], numbered: list[str] | None, model: Asks, where: str) -> dict[str, int]:
    """Model's class of each label."""
    if numbered is not None:
        order = match_numbers(numbered, model, where)
        place = dict(zip(numbered, range(len(numbered)) if order is None else order, strict=True))
        return {label: place[label] for label in labels}
    names = sorted(set(labels))
    return dict(zip(names, match_classes(names, model, where), strict=True))


def _checked_labels(labels: Sequence[Any], name: str) -> list[str]:
    """Labels as text, whole numbers without a point."""
    if not labels:
        raise DataError(f"{name} has no rows: {_EXPECTED}")
    shown = ["" if label is None else str(label).strip() for label in labels]
    if "" in shown or "nan" in shown:
        number = next(number for number, label in enumerate(shown) if label in ("", "nan"))
        raise DataError(f"{name}: row {number + 1} has no label: give one, or leave the row out")
    return [re.sub(r"^(\d+)\.0+$", r"\1", label) for label in shown]


def _columns(head: Sequence[str], name: str) -> tuple[int, int]:
    """Columns of the path and of the label."""
    found = []
    for what, known in (("path", _PATHS), ("label", _LABELS)):
        places = [number for number, cell in enumerate(head) if fold(cell) in known]
        if len(places) != 1:
            several = f"{len(places)} columns that could be the {what}" if places else f"no {what} column"
            shown = ", ".join(cell[:40] for cell in head[:6])
            raise DataError(f"{name} has {several} among {shown}: {_EXPECTED}")
        found += places
    return found[0], found[1]


def _bare(head: Sequence[str], root: Path) -> bool:
    """True where two cells are certainly a row, a path and a label, and no header."""
    return sum(_is_picture(cell, root) for cell in head) == 1


def _is_picture(cell: str, root: Path) -> bool:
    return bool(_PICTURE.search(cell.strip())) or (len(cell) < 1000 and (root / _portable(cell.strip())).is_file())


def _portable(path: str) -> str:
    return path.replace("\\", "/") if "/" not in path else path


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return max(",;\t|", key=first.count)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _class_label(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Class names that Hugging Face's `datasets` writes beside numbers."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return [str(each) for each in names] if isinstance(names, list) and names else None


def _read_cell(cell: Any, root: Path, preprocess: Preprocess, label: int) -> tuple[Tensor, int]:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if content is None and isinstance(cell, dict) and isinstance(cell.get("path"), str):
        path = root / cell["path"]
        try:
            content = path.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"{cell['path']} cannot be opened ({one_line(error)}): check the path") from None
    if not isinstance(content, bytes):
        raise DataError("has no picture: leave the row out")
    return as_input(decode(content, "the picture", preprocess)), label
