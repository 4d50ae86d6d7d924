from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import BadFrameError, CameraError, EndOfStream
from camera.video_file import VideoFile


def write_clip(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    generator = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(generator.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()


def read_all(source: VideoFile) -> int:
    count = 0
    try:
        while True:
            with source.read() as frame:
                assert frame.seq == count
                count += 1
    except EndOfStream:
        return count


def test_every_frame_comes_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", 30)
    source = VideoFile(tmp_path / "clip.avi")
    info = source.open()
    assert (info.frames, info.fps, info.size, info.live) == (30, 10, (64, 48), False)
    before_ns = time.monotonic_ns()
    frame = source.read()
    assert before_ns <= frame.captured_ns <= time.monotonic_ns()
    assert frame.image.shape == (48, 64, 3)
    source.close()
    source.close()
    source = VideoFile(tmp_path / "clip.avi")
    source.open()
    assert read_all(source) == 30


def test_a_truncated_video_gives_its_frames_and_then_says_so(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.avi", 30)
    data = (tmp_path / "clip.avi").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(data[: len(data) // 2])
    source = VideoFile(cut)
    source.open()
    with pytest.raises(CameraError, match=r"cut\.avi ends after 1[0-9] of 30 frames") as caught:
        read_all(source)
    assert not isinstance(caught.value, EndOfStream)


def test_a_damaged_middle_is_counted_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.avi", 10)
    source = VideoFile(tmp_path / "clip.avi")
    source.open()
    capture = source._capture
    assert capture is not None
    calls = 0

    class Damaged:
        """Frames 3 and 4 cannot be decoded."""

        def read(self) -> tuple[bool, np.ndarray | None]:
            nonlocal calls
            calls += 1
            ok, image = capture.read()
            return (False, None) if calls in (4, 5) else (ok, image)

    monkeypatch.setattr(source, "_capture", Damaged())
    seen: list[int | str] = []
    while True:
        try:
            seen.append(source.read().seq)
        except EndOfStream:
            break
        except BadFrameError as error:
            seen.append(str(error).partition(": ")[2])
    assert seen == [0, 1, 2, "2 frames cannot be decoded before frame 5.", 5, 6, 7, 8, 9]


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_text("no video")
    with pytest.raises(CameraError, match=r"fake\.mp4 cannot be opened"):
        VideoFile(tmp_path / "fake.mp4").open()


def test_a_real_clip_is_read_to_its_end(clip: Path) -> None:
    source = VideoFile(clip)
    info = source.open()
    assert read_all(source) == info.frames == 460
