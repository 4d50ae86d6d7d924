"""The bytes of a recorded session: one line, then chunks, each of which can be told whole from damaged.

    "edge-mnv2 session 1", line feed
    mark (8 bytes) | length and CRC-32 of the header (uint32, little-endian) | header (JSON) | payload

The header says how long the payload is, and its CRC-32. A file that was cut (power loss, SIGKILL) ends inside
a chunk; behind damage, the next mark with a whole chunk behind it is where reading goes on.
"""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from camera.errors import UnsupportedSourceError

VERSION = 1

_TITLE = b"edge-mnv2 session "
FIRST_LINE = _TITLE + b"%d\n" % VERSION
_MARK = b"\xffEMNV2\x00\n"
_PREFIX = struct.Struct(f"<{len(_MARK)}sII")
# More than any header that is written, so that a damaged length is noticed at once.
_MAX_HEADER_BYTES = 64 * 1024
_SEARCH_BYTES = 1024 * 1024
_MAX_TAIL_BYTES = 64 * 1024

# Appending, so that after a chunk was cut off again the next one takes its place.
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A header with its payload.

    Attributes:
        header: As written, less what describes the payload.
        payload: Empty where there is none.
    """

    header: Mapping[str, Any]
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no whole chunk.

    Attributes:
        offset: Of the first of them in the file.
        length: How many there are.
        is_tail: Whether nothing whole follows.
    """

    offset: int
    length: int
    is_tail: bool


def chunk_bytes(chunk: Chunk) -> bytes:
    """Return a chunk as it stands in a file."""
    sums = {"bytes": len(chunk.payload), "crc32": zlib.crc32(chunk.payload)}
    header = json.dumps({**chunk.header, **sums}, separators=(",", ":")).encode()
    return _PREFIX.pack(_MARK, len(header), zlib.crc32(header)) + header + chunk.payload


def new_file(path: Path) -> tuple[Path, int]:
    """Make a session that was not there, with its first line.

    Args:
        path: Where; if it is taken, `name-2` with the same suffix, and so on.

    Returns:
        Its path, and its descriptor for writing on.

    Raises:
        OSError: As from the file system.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file; what the system calls it would be misread
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
    if path.exists() and not path.is_file():  # nobody wants a neighbour of /tmp or /dev/null
        raise OSError(errno.EINVAL, "it is a folder or a device, no file", str(path))
    for number in itertools.count(1):
        own = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            descriptor = os.open(own, _NEW_FILE, 0o644)
        except FileExistsError:
            continue
        try:
            os.write(descriptor, FIRST_LINE)
        except OSError:
            os.close(descriptor)
            own.unlink()
            raise
        if number > 1:
            _log.info("%s is there already: this session goes to %s", path, own)
        return own, descriptor
    raise AssertionError("unreachable: the numbers have no end")


def check_first_line(file: BinaryIO, name: str) -> None:
    """Read the first line of a session.

    Args:
        file: At its beginning; afterwards, at its first chunk.
        name: For messages.

    Raises:
        UnsupportedSourceError: It is no session, or one of another version.
    """
    line = file.readline(64)
    version = line.removeprefix(_TITLE).removesuffix(b"\n")
    if not line.startswith(_TITLE) or not line.endswith(b"\n") or not version.isdigit():
        raise UnsupportedSourceError(
            f"{name} is no recorded session: give a file that `run --record-session` wrote."
        )
    if int(version) != VERSION:
        raise UnsupportedSourceError(
            f"{name} is a session of version {int(version)}, this program reads version {VERSION}: "
            "replay it with the program that recorded it."
        )


def read_chunks(file: BinaryIO) -> Iterator[Chunk | Damage]:
    """Yield what is left of a session, chunk by chunk; whole chunks are those that were written, bit for bit.

    Args:
        file: Behind its first line; it is read as it is asked for, and may still grow.

    Raises:
        OSError: As from the file system.
    """
    offset = file.tell()
    while True:
        chunk = _chunk_at(file, offset)
        if chunk is not None:
            offset = file.tell()
            yield chunk
            continue
        behind = _next_chunk(file, offset + 1)
        end = file.seek(0, os.SEEK_END) if behind is None else behind
        if end > offset:
            yield Damage(offset, end - offset, is_tail=behind is None)
        if behind is None:
            return
        offset = behind


def last_chunk(file: BinaryIO) -> Chunk | None:
    """Return the chunk that a session ends with if it is small and whole; the file is then elsewhere."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _MAX_TAIL_BYTES)
    file.seek(start)
    at = file.read(size - start).rfind(_MARK)
    chunk = None if at < 0 else _chunk_at(file, start + at)
    return chunk if file.tell() == size else None


def _chunk_at(file: BinaryIO, offset: int) -> Chunk | None:
    """Return the chunk at a place, None where there is no whole one; the file is then behind it."""
    file.seek(offset)
    header = _header(file)
    if header is None:
        return None
    try:
        length, checksum = int(header.pop("bytes")), header.pop("crc32")
    except (ValueError, TypeError, KeyError):  # not written by us
        return None
    start = file.tell()
    if not 0 <= length <= file.seek(0, os.SEEK_END) - start:
        return None
    file.seek(start)
    payload = file.read(length)
    return Chunk(header, payload) if zlib.crc32(payload) == checksum else None


def _header(file: BinaryIO) -> dict[str, Any] | None:
    """Return the header that begins here, None where there is no whole one."""
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None
    mark, length, checksum = _PREFIX.unpack(prefix)
    if mark != _MARK or length > _MAX_HEADER_BYTES:
        return None
    text = file.read(length)
    if len(text) < length or zlib.crc32(text) != checksum:
        return None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):  # not written by us
        return None
    return header if isinstance(header, dict) else None


def _next_chunk(file: BinaryIO, offset: int) -> int | None:
    """Return where the next whole chunk begins, None where none does."""
    while True:
        file.seek(offset)
        block = file.read(_SEARCH_BYTES)
        at = block.find(_MARK)
        while at >= 0:
            if _chunk_at(file, offset + at) is not None:
                return offset + at
            at = block.find(_MARK, at + 1)
        if len(block) < _SEARCH_BYTES:
            return None
        offset += len(block) - len(_MARK) + 1  # a mark may lie across two blocks
