"""A text file that holds whole entries only, whatever happens to the disk."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

from edge_mnv2.errors import OutputPathError, SinkError, SinkGoneError


class TextFile:
    """Appends entries to a file, each written whole or not at all.

    Args:
        path: The file, or `-` for standard output.
        keep: Append to what is there instead of starting anew.

    Raises:
        OutputPathError: It cannot be written there.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self._path = path
        self._owned = str(path) != "-"
        self.position: int | None = None
        if not self._owned:
            self._descriptor: int | None = _standard_output()
            self.position = _end_position(self._descriptor)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if keep else os.O_TRUNC)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise OutputPathError(
                f"{path} cannot be written: {error.strerror}. Choose another path."
            ) from error
        self.position = _end_position(self._descriptor)

    def append(self, entry: str, *, replacing: str = "") -> None:
        """Write one entry at the end.

        Args:
            entry: Text, with its line break.
            replacing: What the file ends with now and the entry takes the place of.

        Raises:
            SinkError: The disk is full or gone; the file ends with the entry before.
        """
        if self._descriptor is None:
            raise SinkError(f"{self._path} is closed.")
        data, tail = entry.encode(), replacing.encode()
        try:
            if self.position is not None and tail:
                os.lseek(self._descriptor, self.position - len(tail), os.SEEK_SET)
            _write_all(self._descriptor, data)
        except OSError as error:
            self._rewind(tail)
            raise _explained(self._path, error) from error
        if self.position is not None:
            self.position += len(data) - len(tail)

    def close(self) -> None:
        """Close the file; standard output stays open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and self._owned:
            os.close(descriptor)

    def _rewind(self, tail: bytes) -> None:
        if self.position is None or self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, self.position)
            # The tail's blocks are still the file's own: writing them again needs no room.
            os.lseek(self._descriptor, self.position - len(tail), os.SEEK_SET)
            _write_all(self._descriptor, tail)
        except OSError:
            self.position = None


def _standard_output() -> int:
    try:
        sys.stdout.flush()
        return sys.stdout.fileno()
    except (OSError, ValueError, AttributeError) as error:  # closed by whoever started us, or replaced
        raise OutputPathError("Standard output is closed: give --jsonl a file.") from error


def _end_position(descriptor: int) -> int | None:
    """Return where a regular file ends; None for a pipe or a terminal, where a torn entry stays torn."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    return os.lseek(descriptor, 0, os.SEEK_END)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _explained(path: Path, error: OSError) -> SinkError:
    if error.errno == errno.EPIPE:
        return SinkGoneError(f"{path}: whoever was reading it has gone.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SinkError(
            f"{path}: the disk is full. Make room or choose another disk; all earlier entries are whole."
        )
    return SinkError(f"{path} cannot be written any more: {error.strerror}.")
