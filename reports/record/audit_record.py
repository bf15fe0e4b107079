"""Result of an audit, and its way to report.json and back.

Needs neither torch nor the rest of robustkit: a report is redrawn from its JSON alone. JSON has no NaN: a figure that
does not exist is null. A digest over the whole content shows a file that was edited or cut short.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from .content import Content
from .decode import digest_of
from .encode import laid_out, plain
from .reading import read_back


@dataclass(frozen=True)
class AuditRecord(Content):
    """Everything a report shows. `to_json` and `from_json` are each other's inverse."""

    def to_json(self) -> str:
        """Write the record as JSON text, with a digest of its content."""
        body = plain(self)
        try:
            digest = digest_of(body)
        except UnicodeEncodeError:
            # A file name that is not UTF-8 reaches Python with lone surrogates, which no UTF-8 file can hold.
            body = json.loads(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
            digest = digest_of(body)
        return laid_out({**body, "digest": digest}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; RecordError says in one sentence why it cannot."""
        return read_back(cls, text)
