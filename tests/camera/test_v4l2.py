"""The V4L2 camera over a fake driver and a fake OpenCV; scripts/rehearse_v4l2.sh runs it on a real one."""

from __future__ import annotations

import errno
import grp
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from camera import v4l2, v4l2_errors
from camera import v4l2_abi as abi
from camera.errors import BadFrameError, CameraError, SourceNotFoundError, UnsupportedSourceError
from camera.uri import parse_uri, raw_source
from camera.v4l2 import V4l2Camera, from_uri
from camera.v4l2_modes import Wish
from tests.camera.v4l2_driver import FakeControl, FakeDevice, FakeDrivers

HOLDS_OPEN = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


class FakeCapture:
    """Stands in for cv2.VideoCapture: it sets the fake device to what it is asked for."""

    device: FakeDevice
    position_ms = 0.0
    images: list[np.ndarray | None] | None = None  # None: two good ones; in it: a damaged one
    opens = True
    created: list[FakeCapture]

    def __init__(self, path: str, backend: int) -> None:
        assert backend == cv2.CAP_V4L2
        self.path = path
        self.is_open = self.opens
        good = np.zeros((480, 640, 3), np.uint8)
        self.left = [good, good] if self.images is None else list(self.images)
        self.settings: dict[int, float] = {}
        self.created.append(self)

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_open

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        fourcc, width, height = self.device.current
        if key == cv2.CAP_PROP_FOURCC:
            fourcc = abi.fourcc_text(int(value))
        elif key == cv2.CAP_PROP_FRAME_WIDTH:
            width = int(value)
        elif key == cv2.CAP_PROP_FRAME_HEIGHT:
            height = int(value)
        elif key == cv2.CAP_PROP_FPS:
            self.device.fps = value
        self.device.current = (fourcc, width, height)
        return True

    def get(self, key: int) -> float:
        assert key == cv2.CAP_PROP_POS_MSEC
        return self.position_ms

    def grab(self) -> bool:
        return bool(self.left)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        image = self.left.pop(0)
        return image is not None, image

    def release(self) -> None:
        self.is_open = False


@pytest.fixture
def webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDevice]:
    """A fake webcam at `tmp_path/video0`."""
    (tmp_path / "video0").touch()
    device = FakeDevice(controls=[FakeControl(1, "Brightness")])
    monkeypatch.setattr(FakeCapture, "device", device, raising=False)
    monkeypatch.setattr(FakeCapture, "created", [], raising=False)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    level = log.getLogLevel()
    yield device
    log.setLogLevel(level)


def camera_at(tmp_path: Path, device: FakeDevice, *arguments: object) -> V4l2Camera:
    return V4l2Camera(tmp_path / "video0", *arguments, ioctl=FakeDrivers({"video0": device}))  # type: ignore[arg-type]


def test_it_is_set_as_asked_and_says_what_it_is_set_to(tmp_path: Path, webcam: FakeDevice) -> None:
    camera = camera_at(tmp_path, webcam, Wish("MJPG", (1280, 720), 15), {"brightness": "9"})
    info = camera.open()
    assert (info.live, info.fps, info.size, info.frames) == (True, 15.0, (1280, 720), None)
    assert webcam.current == ("MJPG", 1280, 720)
    assert webcam.controls[0].value == 9
    (capture,) = FakeCapture.created
    assert capture.path == str(tmp_path / "video0")
    # One being decoded, one being filled.
    assert capture.settings[cv2.CAP_PROP_BUFFERSIZE] == 2
    camera.close()
    camera.close()
    assert not capture.is_open


def test_left_alone_it_stays_as_it_is_set(tmp_path: Path, webcam: FakeDevice) -> None:
    webcam.current = ("MJPG", 1920, 1080)
    camera = camera_at(tmp_path, webcam)
    assert camera.open().size == (1920, 1080)
    assert cv2.CAP_PROP_FPS not in FakeCapture.created[0].settings
    camera.close()


@pytest.mark.parametrize("position_ms", [12.0, time.monotonic() * 1000 + 3_600_000], ids=["past", "future"])
def test_the_drivers_clock_is_taken_where_it_is_ours(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch, position_ms: float
) -> None:
    camera = camera_at(tmp_path, webcam)
    camera.open()
    taken_ns = time.monotonic_ns() - 50_000_000
    monkeypatch.setattr(FakeCapture, "position_ms", taken_ns / 1e6)
    frame = camera.read()
    assert abs(frame.captured_ns - taken_ns) < 1_000_000
    assert (frame.seq, frame.origin) == (0, str(tmp_path / "video0"))
    # Another zero, or what is yet to come: better our own clock than a wrong age.
    monkeypatch.setattr(FakeCapture, "position_ms", position_ms)
    before_ns = time.monotonic_ns()
    frame = camera.read()
    assert before_ns <= frame.captured_ns <= time.monotonic_ns()
    assert frame.seq == 1
    camera.close()


@pytest.mark.parametrize(
    ("steps_ms", "lost"),
    [
        ([33] * 20 + [99] + [33] * 5, 2),  # the driver had no buffer for two frames
        ([33] * 20 + [66] * 30, 0),  # automatic exposure in dim light: half the rate
        ([33] * 20 + [66] * 30 + [132] + [66] * 3, 1),
    ],
)
def test_gaps_in_seq_are_estimated_by_the_drivers_clock(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch, steps_ms: list[int], lost: int
) -> None:
    good = np.zeros((48, 64, 3), np.uint8)
    monkeypatch.setattr(FakeCapture, "images", [good] * 2 * (len(steps_ms) + 1))
    camera = camera_at(tmp_path, webcam)
    camera.open()
    now_ms = time.monotonic() * 1000 - sum(steps_ms)  # all of it lies a few seconds back
    numbers = []
    for step_ms in [0, *steps_ms]:
        now_ms += step_ms
        monkeypatch.setattr(FakeCapture, "position_ms", now_ms)
        numbers.append(camera.read().seq)
    assert numbers[0] == 0
    assert numbers[-1] == len(steps_ms) + lost
    assert all(earlier < later for earlier, later in pairwise(numbers))
    # By another clock, nothing is known: the same gaps are none.
    monkeypatch.setattr(FakeCapture, "position_ms", 1.0)
    first = camera.read().seq
    for step_ms in steps_ms:
        monkeypatch.setattr(FakeCapture, "position_ms", FakeCapture.position_ms + step_ms)
        last = camera.read().seq
    assert last == first + len(steps_ms)
    camera.close()


def test_a_damaged_frame_is_counted_and_the_next_one_comes(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCapture, "images", [None, np.zeros((480, 640, 3), np.uint8)])
    camera = camera_at(tmp_path, webcam)
    camera.open()
    with pytest.raises(BadFrameError, match="frame 0 is damaged"):
        camera.read()
    assert camera.read().seq == 1
    camera.close()


def test_unplugged_is_told_from_an_error_of_the_driver(tmp_path: Path, webcam: FakeDevice) -> None:
    camera = camera_at(tmp_path, webcam)
    camera.open()
    FakeCapture.created[0].left.clear()
    with pytest.raises(CameraError, match="no more frames: its driver reports an error"):
        camera.read()
    webcam.fails[abi.QUERYCAP] = errno.ENODEV
    with pytest.raises(CameraError, match="was unplugged or lost its power: check its cable"):
        camera.read()
    camera.close()
    with pytest.raises(CameraError, match="is not open"):
        camera.read()


def test_a_camera_that_is_there_but_gives_nothing_is_waited_for_and_then_given_up(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v4l2, "_SELECT_TIMEOUT_S", 0.02)
    monkeypatch.setattr(v4l2, "_PATIENCE_S", 0.1)
    waits: list[float] = []

    class Silent(FakeCapture):
        def grab(self) -> bool:
            time.sleep(0.02)
            waits.append(time.monotonic())
            return len(waits) == 2

    monkeypatch.setattr(cv2, "VideoCapture", Silent)
    camera = camera_at(tmp_path, webcam)
    camera.open()
    assert camera.read().seq == 0  # late, but not lost
    assert len(waits) == 2
    with pytest.raises(CameraError, match=r"is there, but gave no frame for 0\.1 s"):
        camera.read()
    assert len(waits) > 3
    camera.close()


def test_it_is_not_closed_under_a_reader(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, finish, events = threading.Event(), threading.Event(), []

    class Slow(FakeCapture):
        def grab(self) -> bool:
            reading.set()
            finish.wait(30)
            events.append("read")
            return super().grab()

        def release(self) -> None:
            events.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Slow)
    camera = camera_at(tmp_path, webcam)
    camera.open()
    reader = threading.Thread(target=camera.read)
    reader.start()
    assert reading.wait(30)
    closer = threading.Thread(target=camera.close)
    closer.start()
    finish.set()
    reader.join(30)
    closer.join(30)
    assert events == ["read", "released"]


def test_what_the_device_does_not_do_is_refused_before_opencv_sees_it(
    tmp_path: Path, webcam: FakeDevice
) -> None:
    with pytest.raises(
        UnsupportedSourceError, match=r"60 fps\. It can: YUYV 640x480 at 30, 15; YUYV 1280x720"
    ):
        camera_at(tmp_path, webcam, Wish(fps=60)).open()
    assert not FakeCapture.created


def test_a_device_that_sets_itself_to_something_else_is_refused(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(FakeCapture):
        def set(self, key: int, value: float) -> bool:
            return key == cv2.CAP_PROP_FPS and super().set(key, 25)

    monkeypatch.setattr(cv2, "VideoCapture", Stubborn)
    with pytest.raises(
        UnsupportedSourceError, match="asked for MJPG 1280x720 and set itself to YUYV 640x480"
    ):
        camera_at(tmp_path, webcam, Wish(size=(1280, 720))).open()
    with pytest.raises(UnsupportedSourceError, match=r"asked for 30 fps and set itself to 25\. It can: YUYV"):
        camera_at(tmp_path, webcam, Wish(fps=30)).open()
    assert not any(capture.is_open for capture in FakeCapture.created)


def test_a_wrong_control_leaves_nothing_open(tmp_path: Path, webcam: FakeDevice) -> None:
    with pytest.raises(UnsupportedSourceError, match="no option or control contrast"):
        camera_at(tmp_path, webcam, Wish(), {"contrast": "1"}).open()
    assert not FakeCapture.created[0].is_open


def test_busy_says_by_whom(tmp_path: Path, webcam: FakeDevice) -> None:
    webcam.fails[abi.S_FMT] = errno.EBUSY
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_OPEN, str(tmp_path / "video0"), "--password=secret"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(CameraError, match=rf"in use by python\S* \(pid {holder.pid}\)") as refused:
            camera_at(tmp_path, webcam).open()
        assert "secret" not in str(refused.value)
    finally:
        holder.communicate(timeout=30)
    with pytest.raises(CameraError, match=r"cannot be used: its driver says that it is busy.*sudo fuser -v"):
        camera_at(tmp_path, webcam).open()


def test_opencv_failing_where_all_else_went_well_is_told(
    tmp_path: Path, webcam: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeCapture, "opens", False)
    with pytest.raises(CameraError, match="OpenCV cannot open it"):
        camera_at(tmp_path, webcam).open()


def test_a_node_that_is_no_camera_says_what_it_is(tmp_path: Path, webcam: FakeDevice) -> None:
    webcam.capabilities = abi.CAP_META_CAPTURE | abi.CAP_STREAMING
    with pytest.raises(UnsupportedSourceError, match="carries a camera's metadata"):
        camera_at(tmp_path, webcam).open()
    webcam.capabilities = abi.CAP_VIDEO_M2M_MPLANE | abi.CAP_STREAMING
    webcam.driver = "bcm2835-codec"
    with pytest.raises(UnsupportedSourceError, match=r"memory to memory.*use picamera://0 instead"):
        camera_at(tmp_path, webcam).open()


def test_a_file_and_nothing_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnsupportedSourceError, match="file is no V4L2 device"):
        V4l2Camera(tmp_path / "file").open()
    with pytest.raises(SourceNotFoundError, match=r"There is no camera .*video7\. "):
        V4l2Camera(tmp_path / "video7").open()


def test_those_that_are_there_are_named(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"video{number}").touch()
    drivers = FakeDrivers(
        {
            "video0": FakeDevice(card="HD Webcam"),
            "video1": FakeDevice(capabilities=abi.CAP_META_CAPTURE),
            "video2": FakeDevice(driver="unicam", card="unicam"),
            "video3": FakeDevice(fails={abi.QUERYCAP: errno.ENODEV}),
        }
    )
    words = v4l2_errors.present(tmp_path, drivers)
    assert words == f"Present: {tmp_path}/video0 (HD Webcam), picamera://0 (unicam, video2)."
    assert v4l2_errors.present(tmp_path / "none", drivers).startswith("No V4L2 camera is present")


def test_without_permission_the_group_to_join_is_named() -> None:
    # Not below tmp_path, which nobody else may enter.
    with tempfile.TemporaryDirectory(prefix="edge-mnv2-test-") as folder:
        Path(folder).chmod(0o755)
        device = Path(folder, "video0")
        device.touch(0o660)
        code = (
            "import os, sys; from pathlib import Path; from camera.v4l2 import V4l2Camera\n"
            "if os.geteuid() == 0:\n"
            "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "try: V4l2Camera(Path(sys.argv[1])).open()\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        if os.geteuid() == 0:
            os.chown(device, 0, next(group.gr_gid for group in grp.getgrall() if group.gr_gid))
        else:
            device.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", code, str(device)], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.startswith(f"CameraError No permission to use {device}: ")
        assert "sudo usermod -aG " in done.stdout
        assert "$USER, then log in again." in done.stdout


def test_a_device_of_root_alone_is_no_matter_of_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Status:
        st_gid = 0

    monkeypatch.setattr(Path, "stat", lambda *_, **__: Status())
    assert "belongs to root alone" in v4l2_errors.how_to_be_allowed(tmp_path / "video0")


@pytest.mark.parametrize("text", ["/dev/video3?size=640x480&fps=7.5&format=mjpg&brightness=3", "3?fps=7.5"])
def test_a_uri_says_how_to_set_it(text: str) -> None:
    camera = from_uri(parse_uri(text))
    assert camera._device == Path("/dev/video3")
    assert camera._wish.fps == 7.5
    if "size" in text:
        assert (camera._wish.fourcc, camera._wish.size) == ("MJPG", (640, 480))
        assert camera._controls == {"brightness": "3"}


def test_links_are_devices_too() -> None:
    camera = raw_source("/dev/v4l/by-id/usb-046d_HD-video-index0?fps=30")
    assert isinstance(camera, V4l2Camera)
    assert camera._device == Path("/dev/v4l/by-id/usb-046d_HD-video-index0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0?size=640", "size=640 is wrong"),
        ("0?fps=0", "fps=0 is wrong"),
        ("0?format=MOTIONJPEG", "format=MOTIONJPEG is wrong: give four letters"),
    ],
)
def test_wrong_options_are_told_at_once(text: str, message: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=message):
        raw_source(text)
