from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import CameraError, EndOfStream, Frame, open_source
from camera.chain import Chain
from camera.pictures import Pictures
from camera.v4l2 import V4l2Camera


def test_synthetic_frames_depend_on_their_number_alone() -> None:
    first, second = (open_source("test://?size=160x120&fps=0&frames=3") for _ in range(2))
    info = first.open()
    second.open()
    assert (info.live, info.fps, info.frames, info.size) == (False, None, 3, (160, 120))
    pictures = []
    for seq in range(3):
        one, two = first.read(), second.read()
        assert one.seq == seq
        assert one.image.shape == (120, 160, 3)
        np.testing.assert_array_equal(one.image, two.image)
        pictures.append(one.image)
    assert not np.array_equal(pictures[0], pictures[2])
    with pytest.raises(EndOfStream):
        first.read()


def test_synthetic_camera_keeps_its_rate_and_its_timestamps() -> None:
    source = open_source("test://?size=32x32&fps=200&frames=41")
    opened_ns = time.monotonic_ns()
    source.open()
    stamps = [source.read().captured_ns for _ in range(41)]
    # Never faster than asked for: frame n is not taken before n intervals have passed since it was opened.
    assert all(stamp >= opened_ns + seq * 5_000_000 for seq, stamp in enumerate(stamps))
    assert stamps == sorted(stamps)
    assert stamps[-1] <= time.monotonic_ns()


def test_close_wakes_a_reader_of_a_slow_camera() -> None:
    source = open_source("test://?size=8x8&fps=0.01")
    source.open()
    source.read()
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(EndOfStream):
            source.read()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    source.close()
    assert ended.wait(10)


def test_a_frame_is_released_once() -> None:
    released: list[int] = []
    with Frame(np.zeros((1, 1, 3), np.uint8), 0, 0, "x", lambda: released.append(1)) as frame:
        frame.release()
    frame.release()
    assert released == [1]


class FakeCapture:
    """Stands in for cv2.VideoCapture on a V4L2 device."""

    position_ms = 0.0
    frames = 2

    def __init__(self, *arguments: object) -> None:
        self.left = self.frames
        self.is_open = True

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_open

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return {
            cv2.CAP_PROP_FPS: 30.0,
            cv2.CAP_PROP_FRAME_WIDTH: 64.0,
            cv2.CAP_PROP_FRAME_HEIGHT: 48.0,
            cv2.CAP_PROP_POS_MSEC: self.position_ms,
        }[key]

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.is_open = False


def test_v4l2_takes_the_drivers_clock_where_it_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    camera = V4l2Camera(device)
    info = camera.open()
    assert (info.live, info.fps, info.size) == (True, 30.0, (64, 48))
    taken_ns = time.monotonic_ns() - 50_000_000
    monkeypatch.setattr(FakeCapture, "position_ms", taken_ns / 1e6)
    assert abs(camera.read().captured_ns - taken_ns) < 1_000_000
    # A driver that counts from another zero: better our own clock than a wrong age.
    monkeypatch.setattr(FakeCapture, "position_ms", 12.0)
    before_ns = time.monotonic_ns()
    assert camera.read().captured_ns >= before_ns
    with pytest.raises(CameraError, match="no more frames: check its cable"):
        camera.read()


def test_v4l2_is_not_closed_under_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    device.touch()
    reading, finish, events = threading.Event(), threading.Event(), []

    class Slow(FakeCapture):
        def read(self) -> tuple[bool, np.ndarray | None]:
            reading.set()
            finish.wait(30)
            events.append("read")
            return super().read()

        def release(self) -> None:
            events.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Slow)
    camera = V4l2Camera(device)
    camera.open()
    reader = threading.Thread(target=camera.read)
    reader.start()
    reading.wait(30)
    closer = threading.Thread(target=camera.close)
    closer.start()
    finish.set()
    reader.join(30)
    closer.join(30)
    assert events == ["read", "released"]


def test_v4l2_without_permission_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    device.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CameraError, match="usermod -aG video"):
        V4l2Camera(device).open()


def test_a_chain_reads_source_after_source_and_reports_bad_ones(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "bad.mp4").touch()
    sources = [
        open_source(str(tmp_path / "a.png")),
        open_source(str(tmp_path / "bad.mp4")),
        open_source("test://?size=8x8&fps=0&frames=2"),
        Pictures([tmp_path / "a.png"], "again"),
    ]
    chain = Chain(sources)
    assert chain.open().frames == 4
    seen: list[str] = []
    while True:
        try:
            seen.append(Path(chain.read().origin).name)
        except EndOfStream:
            break
        except CameraError as error:
            seen.append(type(error).__name__)
    assert seen == ["a.png", "BadFrameError", "test:", "test:", "a.png"]
    chain.close()
