"""CSV: one line per detection."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from edge_mnv2.results import FrameResult
from edge_mnv2.sinks.record import to_record
from edge_mnv2.sinks.text_file import TextFile

_COLUMNS = ("source", "seq", "class_id", "label", "score", "x1", "y1", "x2", "y2")


class CsvSink:
    """Writes detections as CSV with a header line (RFC 4180 quoting).

    Args:
        path: The file.
        attempt: 0 starts the file anew, later ones append.

    Raises:
        OutputPathError: It cannot be written there.
        SinkError: There is no room for the header.
    """

    def __init__(self, path: Path, attempt: int = 0) -> None:
        self._file = TextFile(path, keep=attempt > 0)
        if attempt == 0:
            self._file.append(_lines([_COLUMNS]))

    def write(self, result: FrameResult) -> None:
        """Append the frame's detections."""
        record = to_record(result)
        rows = [
            (
                record["source"],
                record["seq"],
                found["class_id"],
                found["label"],
                found["score"],
                *found["box"],
            )
            for found in record["detections"]
        ]
        if rows:
            self._file.append(_lines(rows))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
