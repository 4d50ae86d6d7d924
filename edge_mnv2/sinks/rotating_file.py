"""A file of JSON lines that outlives the program: appended to, set aside by size and age, capped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.sinks.repair import first_time, repair_end
from edge_mnv2.sinks.text_file import TextFile, explain

# What a power loss may cost. Each costs a few to some hundred milliseconds on an SD card, and some wear.
_SYNC_S = 5.0
_STAMP = "%Y%m%dT%H%M%SZ"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is set aside for a new one, and how much of what was set aside stays.

    Attributes:
        max_bytes: Before a file would grow beyond this; None: never. A longer line has a file of its own.
        max_age_s: With the first line after this time since the file's first record; None: never.
        keep_bytes: The oldest files are removed beyond this sum, in which the one being written does not
            count; None: all stay.
    """

    max_bytes: int | None = None
    max_age_s: float | None = None
    keep_bytes: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether a file is ever set aside."""
        return self.max_bytes is not None or self.max_age_s is not None


class RotatingFile:
    """Appends lines to what is there; `out.jsonl` is set aside as `out-20260102T030405Z.jsonl`.

    These names sort by the order in which they were written, whatever the clock does: a name is never earlier
    than the one before. No file is overwritten, and only regular files of these names are ever removed.

    Lines reach the disk (fdatasync) every 5 s while there are calls, at rotation and at the end. A file that
    somebody moves or removes is noticed then, too, and begun anew.

    Args:
        path: The file; a pipe is appended to, but cannot rotate.
        rotation: When, and how much stays.
        waits: As `TextFile`.

    Raises:
        OutputPathError: It cannot be written there, cannot rotate, or holds something else than records.
    """

    def __init__(self, path: Path, rotation: Rotation, *, waits: bool = True) -> None:
        self._path = path
        self._rotation = rotation
        self._waits = waits
        self._has_failed = False
        if rotation.is_on and (str(path) == "-" or (path.exists() and not path.is_file())):
            raise OutputPathError(f"{path} cannot be rotated: it is not a file. Choose a path on a disk.")
        repair_end(path)
        self._file = TextFile(path, keep=True, waits=waits)
        now_s = self._synced_s = time.monotonic()
        # Age counts through restarts; within one run a clock that is set does not matter.
        self._began_s = now_s - self._age_s()
        self._remove_oldest()

    def append(self, entry: str) -> None:
        """Write one line at the end.

        Args:
            entry: Text, with its line break.

        Raises:
            SinkError: The disk is full or gone; the file ends with the line before.
        """
        with self._noting_failure():
            if self._is_due(len(entry.encode())):
                self._set_aside()
            self._file.append(entry)
            self._sync_if_due()

    def tend(self) -> None:
        """Bring what was written to the disk if that is due; for calls while nothing is written, too.

        Raises:
            SinkError: It did not get there.
        """
        with self._noting_failure():
            self._sync_if_due()

    def close(self) -> None:
        """Bring all to the disk and close the file.

        Raises:
            SinkError: It did not get there, which is news: nothing failed before.
        """
        try:
            self._file.sync()
        except SinkError:
            if not self._has_failed:
                raise
        finally:
            self._file.close()

    @contextlib.contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except SinkError:
            self._has_failed = True
            raise

    def _sync_if_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._synced_s >= _SYNC_S:
            self._synced_s = now_s
            self._file.sync()
            if not self._file.is_in_place():
                _log.warning("%s was moved, removed or cut short by somebody: going on there", self._path)
                self._begin()

    def _is_due(self, added: int) -> bool:
        rotation, size = self._rotation, self._file.position
        if not size:  # empty, or no file at all
            return False
        is_large = rotation.max_bytes is not None and size + added > rotation.max_bytes
        return is_large or (
            rotation.max_age_s is not None and time.monotonic() - self._began_s >= rotation.max_age_s
        )

    def _set_aside(self) -> None:
        """Rename the file and begin a new one; on failure all that was written is in one of the two names."""
        self._file.sync()
        if self._file.is_in_place():
            try:
                _rename(self._path, self._free_name())
            except OSError as error:
                raise explain(self._path, error) from error
        self._begin()
        self._began_s = time.monotonic()
        self._remove_oldest()

    def _begin(self) -> None:
        self._file.close()
        try:
            self._file = TextFile(self._path, keep=True, waits=self._waits)
        except OutputPathError as error:  # a request that was right when the run began
            raise SinkError(str(error)) from error
        _sync_folder(self._path.parent)

    def _age_s(self) -> float:
        begun = first_time(self._path) if self._rotation.max_age_s is not None else None
        return 0.0 if begun is None else max(0.0, (_utc_now() - begun).total_seconds())

    def _free_name(self) -> Path:
        """Create and return an empty file of the next name: atomic, so that nothing is ever overwritten."""
        instant = _utc_now().replace(microsecond=0)
        newest = max(_rotated(self._path), default=None)
        if newest is not None:
            instant = max(instant, newest[0] + timedelta(seconds=1))
        while True:
            name = self._path.with_name(f"{self._path.stem}-{_stamp(instant)}{self._path.suffix}")
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            except FileExistsError:  # a folder, or a link
                instant += timedelta(seconds=1)
            else:
                return name

    def _remove_oldest(self) -> None:
        limit = self._rotation.keep_bytes
        if limit is None:
            return
        files = sorted(_rotated(self._path))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= limit:
                return
            try:
                path.unlink()
            except OSError as error:
                _log.warning("%s cannot be removed to make room: %s", path, error.strerror)
                return
            total -= size
            _log.info("%s was removed: the oldest of what was set aside", path)


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _stamp(instant: datetime) -> str:
    # strftime does not pad years before 1000 everywhere; a clock that wrong has no business in a file name.
    return max(instant, datetime(1970, 1, 1, tzinfo=timezone.utc)).strftime(_STAMP)


def _rotated(path: Path) -> list[tuple[datetime, int, Path]]:
    """Return when, how large and where for every file that was set aside for this path, in no order."""
    pattern = re.compile(rf"{re.escape(path.stem)}-([0-9]{{8}}T[0-9]{{6}}Z){re.escape(path.suffix)}")
    found = []
    try:
        files = list(path.parent.iterdir())
    except OSError:
        return []
    for file in files:
        match = pattern.fullmatch(file.name)
        if match is None:
            continue
        with contextlib.suppress(ValueError, OSError):  # no such day; removed by somebody meanwhile
            instant = datetime.strptime(match[1], _STAMP).replace(tzinfo=timezone.utc)
            status = file.lstat()
            # After the year 9998 there would be no next name.
            if stat.S_ISREG(status.st_mode) and instant.year < 9999:
                found.append((instant, status.st_size, file))
    return found


def _rename(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            target.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Bring names to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
