from __future__ import annotations

import io
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_mnv2.cli.log_handler import LogHandler, is_journal, journal_prefix


class Logged:
    """A logger of its own with the handler behind it, and a clock that only the test moves."""

    def __init__(self, *, for_journal: bool = False) -> None:
        self.stream, self.now_s = io.StringIO(), 0.0
        self.handler = LogHandler(self.stream, for_journal=for_journal, clock=lambda: self.now_s)
        self.logger = logging.Logger("test")
        self.logger.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def plain() -> Iterator[Logged]:
    logged = Logged()
    yield logged
    logged.handler.close()


@pytest.fixture
def journal() -> Iterator[Logged]:
    logged = Logged(for_journal=True)
    yield logged
    logged.handler.close()


def test_lines_look_as_everywhere_on_a_terminal(plain: Logged) -> None:
    plain.logger.info("%d of %d", 1, 2)
    plain.logger.warning("slow")
    plain.logger.error("broken")
    assert plain.lines == ["edge-mnv2: 1 of 2", "edge-mnv2: warning: slow", "edge-mnv2: error: broken"]


def test_lines_begin_with_their_priority_in_the_journal(journal: Logged) -> None:
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(journal.logger, level)("x")
    assert journal.lines == ["<7>x", "<6>x", "<4>warning: x", "<3>error: x", "<2>critical: x"]
    assert [journal_prefix(level) for level in (5, 25, 99)] == ["<7>", "<6>", "<2>"]


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo", "one | two"),
        ("one\r\n\n  two\n", "one |   two"),
        ("a\vb\u2028c\x85d", "a | b | c | d"),
        ("\x1b[2J\a\0", "\\x1b[2J\\x07\\x00"),
        ("t\tab é 人", "t\tab é 人"),
        ("", ""),
    ],
)
def test_one_line_per_event(journal: Logged, message: str, line: str) -> None:
    """Else whoever names a camera could write log lines of his own."""
    journal.logger.info("%s", message)
    assert journal.stream.getvalue() == f"<6>{line}\n"


def test_a_traceback_has_its_priority_on_each_line(journal: Logged, plain: Logged) -> None:
    for logged in (journal, plain):
        try:
            raise ZeroDivisionError("rtsp://user:hunter2@camera/1")
        except ZeroDivisionError:
            logged.logger.exception("a bug")
    assert journal.lines[:2] == ["<3>error: a bug", "<3>Traceback (most recent call last):"]
    assert journal.lines[-1] == "<3>ZeroDivisionError: rtsp://***@camera/1"
    assert all(line.startswith("<3>") for line in journal.lines)
    assert plain.lines[:2] == ["edge-mnv2: error: a bug", "Traceback (most recent call last):"]


@pytest.mark.parametrize(
    "message",
    [
        "rtsp://user:hunter2@camera/1 is lost",
        "mqtt://broker?password=hunter2",
        "Authorization: Bearer hunter2",
        "mqtt {'password': 'hunter2'}",
        '{"password": "hunter2"}',
        "token: hunter2",
        "ran mosquitto_pub --password hunter2 --retain",
        "x" * 1990 + " rtsp://user:hunter2" + "2" * 3000 + "@camera",  # the end of what is printed cuts it
        "rtsp://user:hunter2@camera\n" * 3,
    ],
)
def test_no_secret_gets_through(plain: Logged, message: str) -> None:
    plain.logger.info("%s", message)
    assert "hunter" not in plain.stream.getvalue()
    assert "***" in plain.stream.getvalue() or "..." in plain.stream.getvalue()


def test_a_line_that_is_clean_already_stays_as_it_is(plain: Logged) -> None:
    plain.logger.info("rtsp://***@camera/1?token=*** is lost: No frame for 2 s.")
    assert plain.lines == ["edge-mnv2: rtsp://***@camera/1?token=*** is lost: No frame for 2 s."]


def test_pictures_and_other_long_things_are_cut(plain: Logged) -> None:
    plain.logger.info("%r", np.zeros((480, 640, 3), np.uint8).tobytes())
    (line,) = plain.lines
    assert len(line) < 2100
    assert line.endswith("characters)")


def test_repeats_are_counted_and_told_at_the_end(plain: Logged) -> None:
    for _ in range(121):
        plain.logger.warning("the disk is full")
        plain.now_s += 0.1
    plain.logger.info("other")
    for _ in range(2):
        plain.logger.warning("the disk is full")
        plain.logger.info("other")
    plain.handler.close()
    assert plain.lines == [
        "edge-mnv2: warning: the disk is full",
        "edge-mnv2: warning: last message repeated 120 times",
        "edge-mnv2: other",
        "edge-mnv2: warning: repeated 2 times: the disk is full",
        "edge-mnv2: repeated 2 times: other",
    ]


def test_the_same_words_are_another_message_elsewhere(plain: Logged) -> None:
    other = logging.Logger("other")
    other.addHandler(plain.handler)
    plain.logger.info("same")
    other.info("same")
    plain.logger.error("same")
    assert len(plain.lines) == 3


def test_counts_are_told_when_somebody_comes_by(plain: Logged) -> None:
    plain.logger.info("same")
    plain.logger.info("same")
    plain.now_s = 59.0
    plain.handler.flush_due()
    assert len(plain.lines) == 1
    plain.now_s = 60.0
    plain.handler.flush_due()
    assert plain.lines[1:] == ["edge-mnv2: last message repeated 1 time"]


def test_arguments_that_do_not_fit_are_said_and_no_crash(plain: Logged) -> None:
    plain.logger.info("%d frames", "many")
    assert plain.lines[0].startswith("edge-mnv2: '%d frames' cannot be formatted: %d format")


class FullDisk(io.StringIO):
    """Standard error in a file on a disk that is full for a while."""

    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_stream_that_cannot_be_written_loses_lines_and_nothing_else() -> None:
    stream = FullDisk()
    handler = LogHandler(stream)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    for number in range(3):
        logger.error("line %d", number)
    stream.is_full = False
    logger.error("line 3")
    stream.close()
    logger.error("nobody hears this")
    handler.close()


def test_lost_lines_are_counted() -> None:
    stream = FullDisk()
    logger = logging.Logger("test")
    logger.addHandler(handler := LogHandler(stream))
    logger.error("a")
    logger.error("b")
    stream.is_full = False
    logger.error("c")
    logger.error("d")
    assert stream.getvalue().splitlines() == [
        "edge-mnv2: warning: 2 log lines could not be written",
        "edge-mnv2: error: c",
        "edge-mnv2: error: d",
    ]
    handler.close()


def test_threads_do_not_tear_lines_or_counts(plain: Logged) -> None:
    def work(number: int) -> None:
        for turn in range(200):
            plain.logger.info("thread %d says %d", number, turn // 20)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plain.handler.close()
    total = 0
    for line in plain.lines:
        words = line.removeprefix("edge-mnv2: ").removeprefix("last message ").split()
        total += int(words[1]) if words[0] == "repeated" else 1
        assert words[0] in ("repeated", "thread")
    assert total == 1600


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as stream:
        status = os.fstat(stream.fileno())
        mine = f"{status.st_dev}:{status.st_ino}"
        assert is_journal(stream, {"JOURNAL_STREAM": mine})
        for wrong in ("", "0:0", "nonsense", f"{mine}0", mine.replace(":", "")):
            assert not is_journal(stream, {"JOURNAL_STREAM": wrong})
        assert not is_journal(stream, {})
    assert not is_journal(stream, {"JOURNAL_STREAM": mine}), "closed"
    assert not is_journal(io.StringIO(), {"JOURNAL_STREAM": mine})


WRITE_LOG = """
import logging, os, sys
from edge_mnv2.cli.log_handler import LogHandler, is_journal
handler = LogHandler(for_journal=is_journal(sys.stderr, os.environ))
logging.basicConfig(level=logging.INFO, handlers=[handler])
for _ in range(3):
    logging.getLogger("edge_mnv2").warning("the disk is full")
"""


def test_a_process_on_a_socket_as_journald_gives_it_tells_all_at_its_end() -> None:
    """No journald is needed: it hands a service a stream socket, and names it."""
    ours, its = socket.socketpair()
    with ours, its:
        status = os.fstat(its.fileno())
        environment = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run([sys.executable, "-c", WRITE_LOG], stderr=its, env=environment, check=True, timeout=60)
        its.close()
        with ours.makefile() as received:
            assert received.read().splitlines() == [
                "<4>warning: the disk is full",
                "<4>warning: last message repeated 2 times",
            ]


# A journald of the test's own: in a mount namespace, with a /run and a /var/log that nobody else sees.
WITH_JOURNALD = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal.test
ln -s journal.test /run/systemd/journal
"$1" test 2>/dev/null &
journald=$!
trap 'kill $journald; wait $journald' EXIT
for _ in $(seq 300); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.1; done
# As systemd does for a service: systemd-cat only connects.
named='export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec "$@"'
systemd-cat -t test sh -c "$named" - "$2" -c "$3"
for _ in $(seq 300); do
    journalctl --file=/var/log/journal/*/system.journal -t test -o cat | grep -q repeated && break
    sleep 0.1
done
journalctl --file=/var/log/journal/*/system.journal -t test -o json
"""


def test_a_real_journald_takes_the_lines_and_their_priority() -> None:
    journald = Path("/lib/systemd/systemd-journald")
    if not journald.exists() or shutil.which("systemd-cat") is None or shutil.which("unshare") is None:
        pytest.skip("needs systemd-journald and unshare: apt-get install systemd util-linux")
    private = ["unshare", "--mount", "--propagation", "private"]
    if subprocess.run([*private, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a journald of its own can only be started by root")
    done = subprocess.run(
        [*private, "bash", "-c", WITH_JOURNALD, "-", journald, sys.executable, WRITE_LOG],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["PRIORITY"], entry["MESSAGE"]) for entry in found] == [
        ("4", "warning: the disk is full"),
        ("4", "warning: last message repeated 2 times"),
    ]
