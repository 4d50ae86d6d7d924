from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import CameraError, EndOfStream, Frame, open_source
from camera.chain import Chain
from camera.pictures import Pictures


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
    synthetic = "?size=8x8&fps=0&frames=2"
    assert seen == ["a.png", "BadFrameError", synthetic, synthetic, "a.png"]
    chain.close()
