"""Log lines on standard error: one per event, for a terminal or for the systemd journal, without secrets."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TextIO

from edge_mnv2.cli.log_repeats import Repeated, Repeats

# The journal takes more, readers do not; a picture that got into a message by mistake has no place here.
_MOST_CHARACTERS = 2000
# Looked through for secrets: far more than is printed, so that none is cut in two before it is found.
_MOST_SEARCHED = 16_384
# syslog(3), as sd-daemon(3) has it at the beginning of a line.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
# Not the line breaks, which `splitlines` takes; a message must not move a terminal's cursor.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


class Message(NamedTuple):
    """What makes two log records the same: their lines, the first of which is the event."""

    logger: str
    level: int
    lines: tuple[str, ...]


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether a stream goes to the systemd journal: `JOURNAL_STREAM` of systemd.exec(5) names it.

    Args:
        stream: Such as standard error; that of a child that was redirected is another one.
        environment: Of this process.
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or no file
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def journal_prefix(level: int) -> str:
    """Return `<N>`, which gives a line its priority in the journal, for a level of `logging`."""
    priority = next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)
    return f"<{priority}>"


class LogHandler(logging.Handler):
    """Prints each log record as one line, further lines only for the traceback of a bug.

    Secrets are hidden (`camera.log_secrets`), long lines cut, equal messages counted (`log_repeats`). There
    is no thread for the counts: whatever is logged next, `flush_due` and the end of the program tell them. A
    thread that wakes for a log that nobody writes would be one more thing to go wrong.

    A stream that cannot be written (a full disk, a closed terminal) loses lines and never raises: a log line
    is not worth a recording. How many were lost is said when it works again.

    Args:
        stream: Where to; None for standard error as it is at the time.
        for_journal: Lines begin with their priority, and not with the program's name.
        clock: Returns seconds, and never goes back.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        for_journal: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._for_journal = for_journal
        self._clock = clock
        self._repeats: Repeats[Message] = Repeats()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or count it."""
        self._print(self._repeats.take(self._message(record), self._clock()))

    def flush_due(self) -> None:
        """Tell the counts whose time has come; for whoever comes by once a second anyway."""
        self.acquire()
        try:
            self._print(self._repeats.due(self._clock()))
        finally:
            self.release()

    def close(self) -> None:
        """Tell all counts; logging calls it at the end of the program."""
        self.acquire()
        try:
            self._print(self._repeats.flush())
        finally:
            self.release()
        super().close()

    def _message(self, record: logging.LogRecord) -> Message:
        try:
            text = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a bug, but not worth a crash
            text = f"{record.msg!r} cannot be formatted: {error}"
        lines = [_shown(" | ".join(line for line in text.splitlines() if line.strip()))]
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            lines += [_shown(line) for line in trace.splitlines()]
        return Message(record.name, record.levelno, tuple(lines))

    def _print(self, told: list[Repeated[Message]]) -> None:
        for item in told:
            level, (event, *trace) = item.message.level, item.message.lines
            if item.count:
                times = f"repeated {item.count} time{'s' if item.count > 1 else ''}"
                lines = [f"last message {times}" if item.is_last else f"{times}: {event}"]
            else:
                lines = [event, *trace]
            self._write(level, lines)

    def _write(self, level: int, lines: list[str]) -> None:
        text = self._text(level, lines)
        if self._lost:
            text = self._text(logging.WARNING, [f"{self._lost} log lines could not be written"]) + text
        stream = sys.stderr if self._stream is None else self._stream
        try:
            stream.write(text)
            stream.flush()
            self._lost = 0
        except (OSError, ValueError, AttributeError):  # full, closed, or none at all
            self._lost += 1

    def _text(self, level: int, lines: list[str]) -> str:
        start = journal_prefix(level) if self._for_journal else "edge-mnv2: "
        name = "" if level < logging.WARNING else f"{logging.getLevelName(level).lower()}: "
        # On a terminal a traceback looks as everywhere; in the journal each line needs its priority.
        further = start if self._for_journal else ""
        return f"{start}{name}{lines[0]}\n" + "".join(f"{further}{line}\n" for line in lines[1:])


def _shown(text: str) -> str:
    """Return a line without secrets and control characters, and not too long."""
    # Logging is set up for every command, and most of them need no camera.
    from camera.log_secrets import without_secrets

    text = without_secrets(text[:_MOST_SEARCHED])
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}... ({len(text)} characters)"
