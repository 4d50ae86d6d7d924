"""What a file of JSON lines holds after the power was cut, or the process killed, at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.rotating_file import RotatingFile, Rotation
from tests.samples import camera_status, frame_result

APPEND = Rotation()

# Forks writers in a process without threads, and kills each at a random moment; long records are torn by it.
KILL_WRITERS = """
import json, os, random, signal, sys, time
from pathlib import Path
from edge_mnv2.sinks.rotating_file import RotatingFile, Rotation

path, seed = Path(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
count = torn = 0
for kill in range(300):
    if kill >= 60 and torn >= 2:
        break
    ready, said = os.pipe()
    writer = os.fork()
    if writer == 0:
        random.seed(seed + kill)
        file = RotatingFile(path, Rotation(max_bytes=2_000_000))
        os.write(said, b"x")
        while True:
            pad = "x" * random.choice((10, 100, 700_000))
            file.append(json.dumps({"schema": 1, "run": kill, "seq": count, "pad": pad}) + "\\n")
            count += 1
    os.close(said)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(random.random() * 0.02)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    torn += path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\\n"
print(torn, "of", kill)
RotatingFile(path, Rotation()).close()
"""


def records(path: Path) -> list[dict[str, Any]]:
    """Return what a file holds; every line must be a record, and whole."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def written(path: Path, count: int = 4) -> bytes:
    sink = JsonLinesSink(path)
    for seq in range(count):
        sink.write(frame_result(seq))
    sink.close()
    return path.read_bytes()


def cut(data: bytes, offset: int) -> bytes:
    return data[:offset]


def zeroed(data: bytes, offset: int) -> bytes:
    """The length was written down, the data was not."""
    return data[:offset] + bytes(len(data) - offset)


def holed(data: bytes, offset: int) -> bytes:
    """Some blocks reached the disk, one before them did not."""
    return data[:offset] + bytes(50) + data[offset + 50 :]


@pytest.mark.parametrize("damage", [cut, zeroed, holed])
def test_every_line_is_whole_wherever_the_end_was_torn(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[bytes, int], bytes],
) -> None:
    for name in ("fsync", "fdatasync"):  # slow, and nothing to this test
        monkeypatch.setattr(os, name, lambda _: None)
    path = tmp_path / "r.jsonl"
    data = written(path)
    length = len(data) // 4
    for offset in range(len(data) - 3 * length, len(data)):
        path.write_bytes(damage(data, offset))
        caplog.clear()
        sink = JsonLinesSink(path, rotation=APPEND)
        sink.write(frame_result(99))
        sink.close()
        # A record that lacks nothing but its line break is kept.
        whole = offset // length + (offset % length == length - 1 and damage is cut)
        assert [record["seq"] for record in records(path)] == [*range(whole), 99], offset
        is_torn = damage is not cut or offset % length not in (0, length - 1)
        assert len(caplog.records) == is_torn
        assert ("no whole records and were cut off" in caplog.text) == is_torn


def test_what_a_kill_leaves_can_be_read_and_gone_on_with(tmp_path: Path) -> None:
    """60 writers and more of short and very long records, killed one after the other at random moments."""
    path = tmp_path / "out.jsonl"
    subprocess.run([sys.executable, "-W", "ignore", "-c", KILL_WRITERS, path, "7"], timeout=120, check=True)
    files = sorted(tmp_path.glob("out-*.jsonl"))
    found = [record for file in (*files, path) for record in records(file)]
    runs: dict[int, list[int]] = {}
    for record in found:
        runs.setdefault(record["run"], []).append(record["seq"])
    assert len(files) > 1
    assert list(runs) == sorted(runs)
    assert len(runs) > 30
    assert all(seqs == list(range(len(seqs))) for seqs in runs.values()), "no gap, nothing twice"


class PowerCut(BaseException):
    """Nothing after it happens."""


@pytest.mark.parametrize("name", ["write", "fdatasync", "open", "close", "replace", "fsync"])
def test_a_kill_between_any_two_steps_loses_no_finished_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The process ends before, within or after the n-th call of one kind, until no such call is left."""
    real = getattr(os, name)
    for number in range(100):
        path = tmp_path / f"{number}" / "out.jsonl"
        finished, calls = [], 0

        def step(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - of any system call
            nonlocal calls
            calls += 1
            if calls > number + 1:  # noqa: B023 - called in this turn only
                raise PowerCut
            if calls == number + 1:  # noqa: B023
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                if number % 2:  # noqa: B023
                    real(*arguments, **options)
                raise PowerCut
            return real(*arguments, **options)

        file = RotatingFile(path, Rotation(max_bytes=150))
        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, name, step)
                for seq in range(5):
                    file.append(json.dumps({"schema": 1, "seq": seq, "pad": "x" * 40}) + "\n")
                    finished.append(seq)
                file.close()
        except PowerCut:
            with contextlib.suppress(SinkError):
                file.close()
        else:
            break
        RotatingFile(path, Rotation(max_bytes=150)).close()
        found = [
            record["seq"] for file in (*sorted(path.parent.glob("out-*")), path) for record in records(file)
        ]
        assert found[: len(finished)] == finished, number
        assert found[len(finished) :] in ([], [len(finished)])
    assert number > 1, "there was nothing to cut"


def test_a_long_record_at_the_end_is_found_whole(tmp_path: Path) -> None:
    """Longer than what is looked at first."""
    path = tmp_path / "r.jsonl"
    short, long = ('{"schema": 1, "pad": "' + "x" * length + '"}\n' for length in (10, 3_000_000))
    for data, expected in ((short + long, 2), (short + long + short, 3), (short + long[:-5], 1), (long, 1)):
        path.write_text(data)
        RotatingFile(path, APPEND).close()
        assert len(records(path)) == expected


@pytest.mark.parametrize(
    "data", [b"notes\n", b"{\n", b'{"other": 1}\n', b"\x89PNG\r\n", b"[]", b'{"schema":1}\n']
)
def test_somebody_elses_file_is_refused_and_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    with pytest.raises(OutputPathError, match="does not hold records: choose another path"):
        JsonLinesSink(path, rotation=APPEND)
    assert path.read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"{", b'{"sch', bytes(4096)])
def test_a_file_of_which_nothing_is_left_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(data)
    sink = JsonLinesSink(path, rotation=APPEND)
    sink.write(frame_result(3))
    sink.close()
    assert [record["seq"] for record in records(path)] == [3]


def test_a_place_that_cannot_be_repaired_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputPathError, match="cannot be written"):
        JsonLinesSink(tmp_path, rotation=APPEND)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputPathError, match="cannot be written: Too many levels"):
        JsonLinesSink(tmp_path / "loop", rotation=APPEND)


def test_runs_append_only_where_they_are_told_to(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    for rotation, expected in ((APPEND, 2), (APPEND, 4), (None, 2), (APPEND, 4)):
        sink = JsonLinesSink(path, rotation=rotation)
        sink.write(frame_result(0))
        sink.show(camera_status("lost"))
        sink.close()
        assert len(records(path)) == expected


def test_lines_get_to_the_disk_while_a_camera_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tended: list[int] = []
    monkeypatch.setattr(RotatingFile, "tend", lambda _: tended.append(1))
    sink = JsonLinesSink(tmp_path / "r.jsonl", rotation=APPEND)
    sink.show(camera_status("lost", is_change=False))
    assert tended == [1]
    plain = JsonLinesSink(tmp_path / "p.jsonl")
    plain.show(camera_status("lost", is_change=False))
    for each in (sink, plain):
        each.close()
    assert records(tmp_path / "r.jsonl") == records(tmp_path / "p.jsonl") == []
