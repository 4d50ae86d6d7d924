"""Progress: lines in a log, bars on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from edge_mnv2.cli import console
from edge_mnv2.cli.console import progress, progress_of_each


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Log each step."""
    monkeypatch.setattr(console, "_LOG_INTERVAL_S", 0.0)
    with caplog.at_level(logging.INFO):
        yield


@pytest.mark.usefixtures("at_once")
def test_each_of_several_has_log_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with progress_of_each(["door", "clip"], "frames") as each:
        each["door"](7, None)
        each["clip"](3, 460)
    with progress("pictures") as on_picture:
        on_picture(1, 2)
    assert caplog.messages == ["door: 7 frames", "clip: 3 of 460 frames", "1 of 2 pictures"]


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(console, "_LOG_INTERVAL_S", 3600.0)
    with caplog.at_level(logging.INFO), progress("frames") as on_frame:
        on_frame(1, None)
    assert caplog.messages == []


def test_each_of_several_has_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_of_each(["door", "clip"], "frames") as each:
        each["door"](7, None)
        each["clip"](3, 460)
    shown = terminal.getvalue()
    assert "door" in shown
    assert "7 frames" in shown
    assert "3 of 460 frames" in shown
