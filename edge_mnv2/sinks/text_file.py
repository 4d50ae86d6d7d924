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
        waits: Whether opening a named pipe waits for its reader. If not, `append` fails until there is one,
            and a reader that goes may come back.

    Attributes:
        position: Where the file ends; None for what is no regular file.

    Raises:
        OutputPathError: It cannot be written there.
    """

    def __init__(self, path: Path, *, keep: bool = False, waits: bool = True) -> None:
        self._path = path
        self._owned = str(path) != "-"
        self._waits = waits
        self._is_closed = False
        self._descriptor: int | None = None
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if keep else os.O_TRUNC)
        self.position: int | None = None
        if not self._owned:
            self._descriptor = _standard_output()
        else:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = self._open()
            except OSError as error:
                raise OutputPathError(
                    f"{path} cannot be written: {error.strerror}. Choose another path."
                ) from error
        if self._descriptor is not None:
            self.position = _end_position(self._descriptor)

    def append(self, entry: str, *, replacing: str = "") -> None:
        """Write one entry at the end.

        Args:
            entry: Text, with its line break.
            replacing: What the file ends with now and the entry takes the place of; not with `keep`.

        Raises:
            SinkError: The disk is full or gone; the file ends with the entry before.
        """
        data, tail = entry.encode(), replacing.encode()
        try:
            descriptor = self._writable()
            if self.position is not None and tail:
                os.lseek(descriptor, self.position - len(tail), os.SEEK_SET)
            _write_all(descriptor, data)
        except OSError as error:
            self._rewind(tail)
            raise self._explained(error) from error
        if self.position is not None:
            self.position += len(data) - len(tail)

    def sync(self) -> None:
        """Bring what was written to the disk; of a pipe or a closed file there is nothing to bring.

        Raises:
            SinkError: It did not get there.
        """
        if self._descriptor is None or self.position is None:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._explained(error) from error

    def is_in_place(self) -> bool:
        """Return whether the path still leads to this file, and nobody else changed its length."""
        if self._descriptor is None or self.position is None:
            return True
        try:
            mine, there = os.fstat(self._descriptor), self._path.stat()
        except OSError:
            return False
        return os.path.samestat(mine, there) and mine.st_size == self.position

    def close(self) -> None:
        """Close the file; standard output stays open."""
        descriptor, self._descriptor = self._descriptor, None
        self._is_closed = True
        if descriptor is not None and self._owned:
            os.close(descriptor)

    def _open(self) -> int | None:
        """Open the file; return None for a pipe that nobody reads and that is not waited for."""
        if self._waits or not self._path.is_fifo():
            return os.open(self._path, self._flags, 0o644)
        try:
            descriptor = os.open(self._path, self._flags | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
        os.set_blocking(descriptor, True)
        return descriptor

    def _writable(self) -> int:
        if self._is_closed:
            raise SinkError(f"{self._path} is closed.")
        if self._descriptor is None:
            self._descriptor = self._open()
        if self._descriptor is None:
            raise SinkError(f"{self._path}: nobody reads this pipe yet.")
        return self._descriptor

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

    def _explained(self, error: OSError) -> SinkError:
        if error.errno == errno.EPIPE and (self._waits or not self._owned):
            return SinkGoneError(f"{self._path}: whoever was reading it has gone.")
        return explain(self._path, error)


def explain(path: Path, error: OSError) -> SinkError:
    """Return what a failure to write means, and what to do."""
    if error.errno == errno.EPIPE:
        return SinkError(f"{path}: whoever was reading it has gone.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SinkError(
            f"{path}: the disk is full. Make room or choose another disk; all earlier entries are whole."
        )
    return SinkError(f"{path} cannot be written any more: {error.strerror}.")


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
