from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import (
    CameraError,
    CameraOptions,
    CameraState,
    FrameSource,
    SourceNotFoundError,
    StateChange,
    Supervision,
    Transform,
    UnsupportedSourceError,
    open_source,
)
from camera.isolation.process_reader import ProcessReader
from camera.options import Isolation
from camera.pictures import Pictures
from camera.supervised import Supervised
from camera.synthetic import SyntheticCamera
from camera.thread_reader import ThreadReader
from camera.timed import TimedSource
from tests.camera.held import Held, wait_for


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = Held.now()
    yield
    wait_for(lambda: Held.now().is_within(before), 10)


def reader_of(source: FrameSource) -> TimedSource:
    """Return what a supervised source would open."""
    assert isinstance(source, Supervised)
    return source._make()


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "0",
            "/dev/video7",
            "rtsp://user:secret@host/a",
            "rtsps://host/a",
            "http://host/a",
            "https://host/a",
        ),
        *("gst://videotestsrc ! appsink", "argus://0", "picamera://0"),
    ],
)
def test_cameras_are_read_by_a_process_of_their_own(uri: str) -> None:
    assert isinstance(reader_of(open_source(uri)), ProcessReader)
    assert isinstance(reader_of(open_source(uri, CameraOptions(isolation="thread"))), ThreadReader)


def test_a_synthetic_camera_is_isolated_only_on_request() -> None:
    assert isinstance(open_source("test://"), SyntheticCamera)
    assert isinstance(open_source("test://?fps=0", CameraOptions(isolation="process")), SyntheticCamera)
    assert isinstance(reader_of(open_source("test://", CameraOptions(isolation="process"))), ProcessReader)
    assert isinstance(reader_of(open_source("test://", CameraOptions(isolation="thread"))), ThreadReader)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_an_isolated_camera_shows_the_same(isolation: Isolation) -> None:
    changes: list[StateChange] = []
    transform = Transform(crop=(10, 20, 100, 50), rotate=90)
    options = CameraOptions(isolation, transform)
    direct = open_source("test://?size=160x120&fps=50")
    with (
        closing(open_source("test://?size=160x120&fps=50", options, changes.append)) as camera,
        closing(direct),
    ):
        info = camera.open()
        assert (info.live, info.fps, info.size) == (True, 50.0, (50, 100))
        with camera.read() as frame:
            direct.open()
            plain = direct.read()
            while plain.seq < frame.seq:
                plain = direct.read()
            assert plain.seq == frame.seq
            np.testing.assert_array_equal(frame.image, np.rot90(plain.image[20:70, 10:110], -1))
            assert frame.origin == "test://?size=160x120&fps=50"
    assert [change.state for change in changes] == [CameraState.OPENING, CameraState.LIVE]


def test_files_are_read_as_they_are_with_a_transform_if_one_is_asked_for(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    assert isinstance(open_source(str(tmp_path)), Pictures)
    with closing(open_source(str(tmp_path), CameraOptions("process", Transform(flip="both")))) as source:
        assert not source.open().live
        np.testing.assert_array_equal(source.read().image, image[::-1, ::-1])


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("rstp://host/a", UnsupportedSourceError),
        ("test://?sise=1x1", UnsupportedSourceError),
        ("rtsp://host/a#transport=pigeon", UnsupportedSourceError),
        ("/nowhere/at/all.mp4", SourceNotFoundError),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_opened(uri: str, error: type[CameraError]) -> None:
    with pytest.raises(error):
        open_source(uri)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_crop_that_does_not_fit_is_said_when_it_opens(isolation: Isolation) -> None:
    options = CameraOptions(isolation, Transform(crop=(0, 0, 999, 9)))
    camera = open_source("test://?size=64x48", options)
    with closing(camera), pytest.raises(CameraError, match="999x9"):
        camera.open()


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_credentials_are_in_no_reason_and_no_error(isolation: Isolation) -> None:
    changes: list[StateChange] = []
    options = CameraOptions(isolation, supervision=Supervision(retry_first=True, max_attempts=1))
    # Nobody listens on port 9 here; a connection is refused at once.
    with closing(
        open_source("rtsp://admin:hunter2@127.0.0.1:9/a?token=t0k3n", options, changes.append)
    ) as camera:
        info = camera.open()
        with pytest.raises(CameraError) as caught:
            camera.read()
    told = [info.name, str(caught.value), *(change.reason for change in changes)]
    assert [change.state.value for change in changes] == ["opening", "lost", "reconnecting"]
    assert all("hunter2" not in text and "t0k3n" not in text for text in told)
    assert "***" in told[0]
