from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mnv2.errors import OutputPathError, RequestError, SinkError
from edge_mnv2.sinks.pictures import PicturesSink
from edge_mnv2.sinks.video import VideoSink
from tests.samples import camera_status, frame_result


def brightness(path: Path) -> list[float]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        ok, image = capture.read()
        if not ok:
            return found
        found.append(float(image.mean()))


def test_a_lost_camera_is_said_once_in_the_video(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "v.avi", 10, by_time=True)
    sink.write(frame_result(0, captured_ns=0, canvas=np.full((48, 64, 3), 200, np.uint8)))
    banner = np.full((48, 64, 3), 50, np.uint8)
    for seconds in (1, 2, 3, 60):
        sink.show(camera_status("lost", canvas=banner, is_change=seconds == 1, shown_ns=int(seconds * 1e9)))
    sink.show(camera_status("live", shown_ns=int(61e9)))
    sink.close()
    found = brightness(tmp_path / "v.avi")
    assert len(found) == 11
    assert found[0] == pytest.approx(200, abs=3)
    assert found[1:] == pytest.approx([50] * 10, abs=3)


@pytest.mark.parametrize("name", ["v.mp4", "v.avi"])
def test_every_frame_of_a_file_is_written_once(tmp_path: Path, name: str) -> None:
    sink = VideoSink(tmp_path / "deep" / name, 10, by_time=False)
    for seq in range(0, 200, 20):
        sink.write(frame_result(seq))
    sink.close()
    sink.close()
    found = brightness(tmp_path / "deep" / name)
    np.testing.assert_allclose(found, range(0, 200, 20), atol=6)
    assert cv2.VideoCapture(str(tmp_path / "deep" / name)).get(cv2.CAP_PROP_FPS) == 10


def test_a_live_video_runs_at_the_pace_of_the_camera(tmp_path: Path) -> None:
    """At 0, 80, 90, 300 ms: the second stands in for what was missed, the third is left out."""
    sink = VideoSink(tmp_path / "v.avi", 25, by_time=True)
    for value, at_ms in ((0, 0), (60, 80), (120, 90), (180, 300)):
        sink.write(frame_result(value, captured_ns=5_000_000_000 + at_ms * 1_000_000))
    sink.close()
    np.testing.assert_allclose(brightness(tmp_path / "v.avi"), [0, 60, 60, 180, 180, 180, 180, 180], atol=6)


def test_a_long_absence_is_a_cut_not_minutes_of_a_still(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "v.avi", 25, by_time=True)
    for value, at_s in ((0, 0.0), (60, 0.04), (120, 3600.0), (180, 3600.04)):
        sink.write(frame_result(value, captured_ns=int(at_s * 1e9)))
    sink.close()
    np.testing.assert_allclose(brightness(tmp_path / "v.avi"), [0, 60, 120, 180], atol=6)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((63, 47), (64, 48)), ((1, 1), (2, 2)), ((20_000, 300), (4096, 62)), ((640, 272), (640, 272))],
)
def test_sizes_that_encoders_refuse_are_fitted(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    sink = VideoSink(tmp_path / "v.mp4", None, by_time=False)
    sink.write(frame_result(canvas=np.full((size[1], size[0], 3), 200, np.uint8)))
    sink.close()
    capture = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    ok, image = capture.read()
    assert ok
    assert image.shape[:2] == (expected[1], expected[0])


def test_a_frame_of_another_size_is_fitted_into_the_video(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "v.avi", 10, by_time=False)
    sink.write(frame_result(200))
    sink.write(frame_result(200, canvas=np.full((96, 64, 3), 200, np.uint8)))
    sink.close()
    first, second = brightness(tmp_path / "v.avi")
    assert first == pytest.approx(200, abs=5)
    assert second == pytest.approx(100, abs=8)  # half of it is the black beside the upright picture


def test_a_disk_that_fills_up_leaves_a_video_that_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)
    room = [10**9] * 5 + [1000]

    def statvfs(_: object) -> os.statvfs_result:
        free = room.pop(0) if len(room) > 1 else room[0]
        values = list(real)
        values[1], values[4] = 1, free  # f_frsize, f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", statvfs)
    sink = VideoSink(tmp_path / "v.mp4", 10, by_time=False)
    for seq in range(4):
        sink.write(frame_result(seq))
    with pytest.raises(SinkError, match=r"the disk is full after 4 frames, and these can be played"):
        sink.write(frame_result(4))
    sink.close()
    assert len(brightness(tmp_path / "v.mp4")) == 4


def test_a_video_that_cannot_be_read_back_is_a_failure(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "v.mp4", 10, by_time=False)
    sink.write(frame_result())
    (tmp_path / "v.mp4").unlink()
    with pytest.raises(SinkError, match="cannot be read back"):
        sink.close()


def test_no_frames_leave_no_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "v.mp4", 10, by_time=False).close()
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_and_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"must end in \.mp4, \.avi"):
        VideoSink(tmp_path / "v.gif", 10, by_time=False)
    with pytest.raises(OutputPathError, match="cannot be written"):
        VideoSink(tmp_path / "file" / "v.mp4", 10, by_time=False)
    with pytest.raises(OutputPathError, match="cannot be made"):
        PicturesSink(tmp_path / "file" / "deeper", numbered=False)


def test_another_attempt_writes_beside_the_first_file(tmp_path: Path) -> None:
    for attempt in (0, 1):
        sink = VideoSink(tmp_path / "v.mp4", 10, by_time=False, attempt=attempt)
        sink.write(frame_result())
        sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v-2.mp4", "v.mp4"]


def test_pictures_are_named_after_their_origin(tmp_path: Path) -> None:
    sink = PicturesSink(tmp_path / "out", numbered=False)
    for origin in ("a/1.png", "b/1.jpg", "c/2.webp"):
        sink.write(frame_result(200, origin=origin))
    numbered = PicturesSink(tmp_path / "video", numbered=True)
    numbered.write(frame_result(7))
    numbered.write(frame_result(8, origin="test://"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1-2.jpg", "1.jpg", "2.jpg"]
    assert sorted(path.name for path in (tmp_path / "video").iterdir()) == [
        "clip-000007.jpg",
        "test-000008.jpg",
    ]
    assert cv2.imread(str(tmp_path / "out" / "1.jpg")).mean() == pytest.approx(200, abs=3)
