"""Makes a file of JSON lines whole again after a power loss, before more is appended."""

from __future__ import annotations

import json
import logging
import os
import stat
from datetime import datetime
from io import FileIO
from pathlib import Path

from edge_mnv2.errors import OutputPathError

# Records begin with it; what does not is somebody else's and stays as it is.
_HEAD = b'{"schema": '
# More than is written between two fdatasyncs: what lies further back is on the disk.
_CHECKED_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)


def repair_end(path: Path) -> None:
    """Cut off the end of a file from the first line on that is no whole record, and log that.

    A write that the power loss cut short leaves a part of a line; some file systems leave null bytes in the
    place of what never reached the disk. Only the last MiB is looked at. A missing file, a pipe
    or a device is left alone.

    Raises:
        OutputPathError: The file holds something else than records, or cannot be read and written.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return
        with path.open("r+b", buffering=0) as file:
            _repair(path, file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputPathError(f"{path} cannot be written: {error.strerror}. Choose another path.") from error


def first_time(path: Path) -> datetime | None:
    """Return the `time` of a file's first record, None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            record = json.loads(file.readline(_CHECKED_BYTES))
        return datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _repair(path: Path, file: FileIO) -> None:
    descriptor = file.fileno()
    size = os.fstat(descriptor).st_size
    head = os.pread(descriptor, len(_HEAD), 0)
    if not _HEAD.startswith(head) and not head.startswith(b"\0"):
        raise OutputPathError(f"{path} is there and does not hold records: choose another path.")
    start, data = _last_part(descriptor, size)
    whole = _whole_bytes(data)
    rest = data[whole:]
    if not rest:
        return
    if _is_record(rest) and _end_line(descriptor, size):
        return
    os.ftruncate(descriptor, start + whole)
    os.fsync(descriptor)
    _log.warning("%s: its last %d bytes were no whole records and were cut off", path, len(rest))


def _last_part(descriptor: int, size: int) -> tuple[int, bytes]:
    """Return the end of a file from the beginning of a line on, and where that is."""
    length = _CHECKED_BYTES
    while size > length:
        start = size - length
        data = os.pread(descriptor, length, start)
        line_break = data.find(b"\n")
        if line_break >= 0:
            return start + line_break + 1, data[line_break + 1 :]
        length *= 2  # one record may be longer: that of many masks
    return 0, os.pread(descriptor, size, 0)


def _whole_bytes(data: bytes) -> int:
    """Return how many bytes from the beginning on are whole records with their line breaks."""
    position = 0
    while (end := data.find(b"\n", position)) >= 0 and _is_record(data[position:end]):
        position = end + 1
    return position


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode()), dict)
    except (ValueError, RecursionError):
        return False


def _end_line(descriptor: int, size: int) -> bool:
    """Give a record the line break that it lacks; return False where there is no room for it."""
    try:
        return os.pwrite(descriptor, b"\n", size) == 1
    except OSError:
        return False
