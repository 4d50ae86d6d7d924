from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mnv2.errors import OutputPathError, SinkError
from edge_mnv2.sinks import rotating_file
from edge_mnv2.sinks.rotating_file import RotatingFile, Rotation

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
NAME = re.compile(r"out-\d{8}T\d{6}Z\.jsonl")


class Clock:
    """Wall time and monotonic time that only a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.monotonic_s = START, 1000.0
        monkeypatch.setattr(rotating_file, "_utc_now", lambda: self.now)
        monkeypatch.setattr(rotating_file.time, "monotonic", lambda: self.monotonic_s)

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.monotonic_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def line(number: int, length: int = 100, at: datetime = START) -> str:
    """Return a record of so many bytes."""
    record = {"schema": 1, "seq": number, "time": at.isoformat(), "pad": ""}
    record["pad"] = "x" * (length - len(json.dumps(record)) - 1)
    return json.dumps(record) + "\n"


def rotated(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def numbers(paths: Sequence[Path]) -> list[int]:
    return [json.loads(text)["seq"] for path in paths for text in path.read_text().splitlines()]


def write(path: Path, rotation: Rotation, count: int, first: int = 0) -> None:
    file = RotatingFile(path, rotation)
    for number in range(first, first + count):
        file.append(line(number))
    file.close()


def test_a_file_is_set_aside_before_it_would_be_too_large(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=350))
    for number in range(10):
        file.append(line(number))
        clock.pass_s(60)
    file.close()
    names = ["out-20260102T030705Z.jsonl", "out-20260102T031005Z.jsonl", "out-20260102T031305Z.jsonl"]
    assert [found.name for found in rotated(tmp_path)] == names
    assert [found.stat().st_size for found in rotated(tmp_path)] == [300, 300, 300]
    assert numbers([*rotated(tmp_path), path]) == list(range(10))


def test_a_line_longer_than_the_limit_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=350))
    for number, length in enumerate((100, 5000, 5000, 100)):
        file.append(line(number, length))
    file.close()
    assert [found.stat().st_size for found in rotated(tmp_path)] == [100, 5000, 5000]
    assert numbers([path]) == [3]


def test_a_file_is_set_aside_by_age_and_age_counts_through_restarts(tmp_path: Path, clock: Clock) -> None:
    path, rotation = tmp_path / "out.jsonl", Rotation(max_age_s=3600)
    for _ in range(3):  # three runs of half an hour each
        file = RotatingFile(path, rotation)
        for _ in range(3):
            file.append(line(0, at=clock.now))
            clock.pass_s(600)
        file.close()
    (aside,) = rotated(tmp_path)
    assert aside.name == "out-20260102T040405Z.jsonl"
    assert (len(numbers([aside])), len(numbers([path]))) == (6, 3)


def test_a_clock_that_is_set_does_not_age_a_file(tmp_path: Path, clock: Clock) -> None:
    file = RotatingFile(tmp_path / "out.jsonl", Rotation(max_age_s=3600))
    file.append(line(0))
    clock.now += timedelta(days=400)
    file.append(line(1))
    file.close()
    assert rotated(tmp_path) == []


def test_names_sort_by_writing_order_although_the_clock_goes_back(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=100))
    for number in range(8):
        file.append(line(number))
        clock.now += timedelta(days=-30 if number == 3 else 0, milliseconds=300)
    file.close()
    assert numbers([*rotated(tmp_path), path]) == list(range(8))
    names = [found.name for found in rotated(tmp_path)]
    assert names == [f"out-20260102T0304{second:02}Z.jsonl" for second in range(5, 12)]


def test_a_clock_of_1970_makes_names_as_well(tmp_path: Path, clock: Clock) -> None:
    clock.now = datetime(1970, 1, 1, tzinfo=timezone.utc)
    write(tmp_path / "out.jsonl", Rotation(max_bytes=100), 3)
    assert [path.name for path in rotated(tmp_path)] == [
        "out-19700101T000000Z.jsonl",
        "out-19700101T000001Z.jsonl",
    ]


def test_nothing_is_ever_overwritten(tmp_path: Path, clock: Clock) -> None:
    """What has the next name already, whatever it is, stays; a link is not followed."""
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "out-20260102T030405Z.jsonl").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out-20260102T030406Z.jsonl").mkdir()
    write(tmp_path / "out.jsonl", Rotation(max_bytes=100, keep_bytes=1), 2)
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert (tmp_path / "out-20260102T030406Z.jsonl").is_dir()
    assert (tmp_path / "out-20260102T030405Z.jsonl").is_symlink()


def test_the_oldest_go_beyond_the_cap_and_only_our_own(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "out.jsonl"
    others = [
        "out-20260101T000000Z.json",  # another suffix
        "out-20260101T000000.jsonl",  # not quite a time
        "out-20260231T000000Z.jsonl",  # no such day
        "out-yard-20200101T000000Z.jsonl",  # another camera's
        "xout-20200101T000000Z.jsonl",
        "out-20200101T000000Z.jsonl.bak",
    ]
    for name in others:
        (tmp_path / name).write_text("x" * 1000)
    write(path, Rotation(max_bytes=300, keep_bytes=700), 30)
    assert all((tmp_path / name).exists() for name in others)
    ours = [found for found in rotated(tmp_path) if found.name not in others]
    assert numbers([*ours, path]) == list(range(21, 30))
    removed = [record.getMessage() for record in caplog.records]
    assert (
        removed[0] == f"{tmp_path}/out-20260102T030405Z.jsonl was removed: the oldest of what was set aside"
    )
    assert len(removed) == 7


def test_a_smaller_cap_holds_from_the_next_start_on(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, Rotation(max_bytes=300), 30)
    assert len(rotated(tmp_path)) == 9
    write(path, Rotation(max_bytes=300, keep_bytes=300), 0)
    assert numbers([*rotated(tmp_path), path]) == list(range(24, 30))


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.lists(st.tuples(st.integers(90, 900), st.integers(-7200, 7200)), max_size=12), max_size=4
    ),
    max_bytes=st.integers(1, 2000),
    max_age_s=st.none() | st.integers(1, 7200),
    keep_bytes=st.none() | st.integers(0, 3000),
)
def test_all_files_together_are_what_was_written_less_what_was_removed(
    runs: list[list[tuple[int, int]]], max_bytes: int, max_age_s: int | None, keep_bytes: int | None
) -> None:
    """Over restarts, with a clock that jumps: the newest records in order; all where all is kept."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        clock, folder, count = Clock(patch), Path(name), 0
        path, rotation = folder / "out.jsonl", Rotation(max_bytes, max_age_s, keep_bytes)
        for run in runs:
            file = RotatingFile(path, rotation)
            for length, jump_s in run:
                file.append(line(count, length, clock.now))
                count += 1
                clock.now += timedelta(seconds=jump_s)
                clock.monotonic_s += abs(jump_s)
            file.close()
        aside = rotated(folder)
        left = numbers([*aside, *([path] if path.exists() else [])])
        assert left == list(range(count - len(left), count))
        assert all(
            found.stat().st_size <= max(max_bytes, 900) for found in (*aside, *folder.glob("out.jsonl"))
        )
        if keep_bytes is None:
            assert len(left) == count
        else:
            assert sum(found.stat().st_size for found in aside) <= keep_bytes


def test_lines_reach_the_disk_every_five_seconds_and_before_a_file_is_set_aside(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "out.jsonl", list[int]()
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    file = RotatingFile(path, Rotation(max_bytes=1000))
    for number in range(12):
        file.append(line(number))
        clock.pass_s(1)
    assert synced == [600, 1000, 100]
    clock.pass_s(5)
    file.tend()  # nothing is written now, and yet
    assert synced == [600, 1000, 100, 200]
    file.append(line(12))
    file.close()
    assert synced[-1] == 300


def test_a_disk_that_fails_to_sync_is_a_failure(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    first, second = (RotatingFile(tmp_path / name, Rotation()) for name in ("1.jsonl", "2.jsonl"))
    for file in (first, second):
        file.append(line(0))
    monkeypatch.setattr(os, "fdatasync", fail)
    clock.pass_s(6)
    with pytest.raises(SinkError, match="cannot be written any more: Input/output error"):
        first.append(line(1))
    first.close()  # what failed was said already
    with pytest.raises(SinkError, match="cannot be written any more"):
        second.close()
    second.close()  # nothing is left open


@pytest.mark.parametrize("how", ["moved", "removed", "replaced", "cut"])
def test_a_file_that_somebody_touches_is_begun_anew(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Else records would go on into a file without a name, and the disk stay full after `rm`."""
    path = tmp_path / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=10_000))
    file.append(line(0))
    if how == "moved":
        path.rename(tmp_path / "mine.jsonl")
    elif how == "cut":
        os.truncate(path, 0)
    else:
        path.unlink()
    if how == "replaced":
        path.write_text(line(7))
    clock.pass_s(6)
    file.append(line(1))  # it is noticed now
    file.append(line(2))
    file.close()
    kept = {"moved": [2], "removed": [2], "replaced": [7, 2], "cut": [1, 2]}
    assert numbers([path]) == kept[how]
    assert "was moved, removed or cut short" in caplog.text
    assert not rotated(tmp_path)
    if how == "moved":
        assert numbers([tmp_path / "mine.jsonl"]) == [0, 1]


def test_somebody_elses_file_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=150))
    file.append(line(0))
    path.unlink()
    path.write_text(line(7))
    file.append(line(1))  # too large by now, but what is there is another file
    file.close()
    assert (rotated(tmp_path), numbers([path])) == ([], [7, 1])


def test_a_folder_that_goes_away_is_a_failure_and_not_a_bug(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "deep" / "out.jsonl"
    file = RotatingFile(path, Rotation(max_bytes=150))
    file.append(line(0))
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()  # a file where the folder was
    with pytest.raises(SinkError, match="cannot be written"):
        file.append(line(1))
    file.close()


@pytest.mark.parametrize("target", ["/dev/null", "-"])
def test_what_is_no_file_cannot_rotate(tmp_path: Path, target: str) -> None:
    with pytest.raises(OutputPathError, match="cannot be rotated"):
        RotatingFile(Path(target), Rotation(max_bytes=100))
    RotatingFile(Path("/dev/null"), Rotation()).close()
