"""What `ps` shows of a program that was given a password on its command line."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_mnv2.cli import process_title
from edge_mnv2.cli.process_title import hide_credentials, without_secrets

SCRIPT = Path(sys.executable).with_name("edge-mnv2")
HIDDEN = "geheim17"
TIMEOUT_S = 60


@pytest.mark.parametrize("start", [(sys.executable, "-m", "edge_mnv2"), (str(SCRIPT),)])
@pytest.mark.parametrize("form", [("--source", "{}"), ("--source={}",)])
def test_no_password_is_shown(start: tuple[str, ...], form: tuple[str, ...]) -> None:
    if start == (str(SCRIPT),) and not SCRIPT.exists():
        pytest.skip("the script edge-mnv2 is not installed: pip install -e .")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        address = f"127.0.0.1:{server.getsockname()[1]}/x"
        source = [word.format(f"rtsp://user:{HIDDEN}@{address}") for word in form]
        process = subprocess.Popen(
            [*start, "run", *source, "--jsonl", "-"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            client, _ = server.accept()  # so it knows where to go: only others cannot read it
            client.close()
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        finally:
            process.kill()
            process.wait(TIMEOUT_S)
    assert HIDDEN not in shown
    words = [word.rstrip() for word in shown.split("\0")]
    at = words.index("run")
    hidden = [word.format(f"rtsp://***@{address}") for word in form]
    if form[0] != "--source":
        hidden = [f"***@{address}"]  # nothing is known of what stands before a scheme
    assert words[at:] == ["run", *hidden, "--jsonl", "-", ""]


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("rtsp://user:secret@host/x", "rtsp://***@host/x        "),
        ("rtsp://a@host/x", "rtsp://***@host"),  # cut: there is no room for the stars
        ("rtsp://user:a b@host/x", "rtsp://***@host/x     "),
        ("http://h/video?token=abcd&fps=5", "http://h/video?token=***&fps=5 "),
        ("--jsonl=results.jsonl", "--jsonl=results.jsonl"),
        ("test://?size=640x480", "test://?size=640x480"),
        ("/data/a@b.mp4", "/data/a@b.mp4"),
    ],
)
def test_what_is_shown_of_an_argument(argument: str, shown: str) -> None:
    assert without_secrets(argument.encode()) == shown.encode()


@given(st.binary(max_size=40).filter(lambda data: b"\0" not in data))
def test_every_argument_keeps_its_length(data: bytes) -> None:
    for argument in (data, b"rtsp://u:" + data + b"@host", b"token=" + data):
        assert len(without_secrets(argument)) == len(argument)


@pytest.mark.parametrize("missing", ["cmdline", "stat", "mem"])
def test_where_it_cannot_be_done_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in {"cmdline", "stat", "mem"} - {missing}:
        (tmp_path / name).write_bytes(b"rtsp://u:p@h\0")
    monkeypatch.setattr(process_title, "_PROC", tmp_path)
    hide_credentials()
    assert all(path.read_bytes() == b"rtsp://u:p@h\0" for path in tmp_path.iterdir())


def test_memory_that_is_not_what_is_shown_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cmdline").write_bytes(b"rtsp://u:p@h\0")
    (tmp_path / "stat").write_text("1 (a) b) S" + " 0" * 44 + " 0 13" + " 0" * 3, encoding="ascii")
    (tmp_path / "mem").write_bytes(b"rtsp://u:p@i\0")
    monkeypatch.setattr(process_title, "_PROC", tmp_path)
    hide_credentials()
    assert (tmp_path / "mem").read_bytes() == b"rtsp://u:p@i\0"
    (tmp_path / "mem").write_bytes(b"rtsp://u:p@h\0")
    hide_credentials()
    assert (tmp_path / "mem").read_bytes() == b"rtsp://***@h\0"
