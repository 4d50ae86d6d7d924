"""Attributes of the kernel (sysfs, procfs) that are read again and again: opened once, and again if lost."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# An attribute of sysfs is at most a page (kernel documentation, `filesystems/sysfs.rst`).
_PAGE_BYTES = 4096


class SysFile:
    """One attribute, kept open between two readings.

    What cannot be read now is None: the file is not there, may not be read, or its device sleeps or is gone.
    The next reading opens it again. Nothing is opened before the first reading.

    Args:
        path: Of the attribute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self) -> str | None:
        """Return the text without surrounding white space, None where it cannot be read now."""
        if self._descriptor is not None and not self._is_there(self._descriptor):
            self.close()
        try:
            if self._descriptor is None:
                # Without O_NONBLOCK, a pipe in its place would block the sampler for ever.
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            return os.pread(self._descriptor, _PAGE_BYTES, 0).decode("utf-8", "replace").strip()
        except OSError:
            self.close()
            return None

    def read_int(self) -> int | None:
        """Return the value of an attribute that holds one whole number, None where it holds none."""
        text = self.read()
        if text is None:
            return None
        try:
            return int(text)
        except ValueError:
            return None

    def close(self) -> None:
        """Close the file; another reading opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    @staticmethod
    def _is_there(descriptor: int) -> bool:
        """Return whether the open file still has a name: a removed one would tell old values for ever."""
        try:
            return os.fstat(descriptor).st_nlink > 0
        except OSError:
            return False


def is_there(path: Path) -> bool:
    """Return whether there is such a file; one in a folder that may not be entered is none."""
    try:
        return path.exists()
    except OSError:
        return False


def read_text(path: Path) -> str | None:
    """Return the text of an attribute that is read once, such as a name; None where it cannot be read."""
    file = SysFile(path)
    try:
        return file.read()
    finally:
        file.close()


def read_int(path: Path) -> int | None:
    """Return the whole number in an attribute that is read once; None where there is none."""
    file = SysFile(path)
    try:
        return file.read_int()
    finally:
        file.close()
