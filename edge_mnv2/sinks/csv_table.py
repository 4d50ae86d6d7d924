"""CSV: one line per detection, segment or class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_mnv2.results import FrameResult
from edge_mnv2.sinks.record import to_record
from edge_mnv2.sinks.text_file import TextFile

_FRAME = ("source", "seq")
_BOX = ("x1", "y1", "x2", "y2")
_COLUMNS = {
    "detect": (*_FRAME, "class_id", "label", "score", *_BOX),
    "segment": (*_FRAME, "class_id", "label", "share", *_BOX),
    "classify": (*_FRAME, "class_id", "label", "score"),
}


class CsvSink:
    """Writes what was found as CSV with a header line (RFC 4180 quoting).

    Args:
        path: The file.
        task: Of the model; it decides on the columns.
        attempt: 0 starts the file anew, later ones append.

    Raises:
        OutputPathError: It cannot be written there.
        SinkError: There is no room for the header.
    """

    def __init__(self, path: Path, task: str, attempt: int = 0) -> None:
        self._file = TextFile(path, keep=attempt > 0)
        if attempt == 0:
            self._file.append(_lines([_COLUMNS[task]]))

    def write(self, result: FrameResult) -> None:
        """Append what the frame shows."""
        record = to_record(result)
        rows = [
            [record["source"], record["seq"], *_cells(found)]
            for key in ("detections", "segments", "classes")
            for found in record.get(key, [])
        ]
        if rows:
            self._file.append(_lines(rows))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cells(found: dict[str, Any]) -> list[object]:
    """Return the values in the order of the columns: a record's own order, with the box laid out."""
    return [*(value for key, value in found.items() if key != "box"), *found.get("box", [])]


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
