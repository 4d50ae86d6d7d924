from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import CameraError, EndOfStream
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


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "fake.mp4").write_text("no video")
    with pytest.raises(CameraError, match=r"fake\.mp4 cannot be opened"):
        VideoFile(tmp_path / "fake.mp4").open()


def test_a_real_clip_is_read_to_its_end(clip: Path) -> None:
    source = VideoFile(clip)
    info = source.open()
    assert read_all(source) == info.frames == 460
