from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, SinkError
from edge_mnv2.results import CameraStatus
from edge_mnv2.sinks import window as window_module
from edge_mnv2.sinks.base import SinkSpec, StateSink
from edge_mnv2.sinks.queued_outlet import QueuedOutlet
from edge_mnv2.sinks.window import WindowSink
from tests.conftest import ROOT
from tests.samples import frame_result
from tests.sinks.desktop import Desktop, desktop, wait_for

RED, GREEN, BLUE = (0, 0, 250), (0, 250, 0), (250, 0, 0)
Colour = tuple[int, int, int]


@pytest.fixture(scope="module")
def screen() -> Iterator[Desktop]:
    with desktop() as running:
        yield running


class Told:
    """What a window told."""

    def __init__(self) -> None:
        self.quits = 0
        self.huds: list[bool] = []

    def quit(self) -> None:
        self.quits += 1


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def open_window(screen: Desktop, told: Told, tmp_path: Path) -> Iterator[Callable[..., WindowSink]]:
    sinks: list[WindowSink] = []

    def open_one(name: str = "rtsp://garden", **options: Any) -> WindowSink:  # noqa: ANN401
        values = {"folder": tmp_path, "environment": screen.environment, **options}
        sinks.append(WindowSink(name, told.quit, told.huds.append, **values))
        screen.wake(screen.window(name))
        return sinks[-1]

    yield open_one
    for sink in sinks:
        sink.close()


def picture(colour: Colour, width: int = 320, height: int = 200) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def shows(screen: Desktop, colour: Colour, x: int = 100, y: int = 100) -> bool:
    return bool((np.abs(screen.pixels()[y, x].astype(int) - colour) < 6).all())


def test_it_shows_the_newest_frame_under_the_name_of_its_source(
    screen: Desktop, open_window: Callable[..., WindowSink]
) -> None:
    sink = open_window()
    assert isinstance(sink, StateSink)
    window = screen.window("garden")
    assert screen.title(window) == "edge-mnv2 - rtsp://garden"
    for colour in (RED, GREEN, BLUE):
        sink.write(frame_result(canvas=picture(colour)))
        wait_for(lambda colour=colour: shows(screen, colour))
    image = picture(RED)
    image[:100, :160] = GREEN
    image[100:, 160:] = BLUE
    sink.write(frame_result(canvas=image))
    wait_for(lambda: shows(screen, GREEN, 40, 40))
    assert shows(screen, RED, 280, 40)
    assert shows(screen, RED, 40, 160)
    assert shows(screen, BLUE, 280, 160)
    # The window is as large as the frames.
    assert not shows(screen, RED, 340, 40)
    sink.close()
    wait_for(lambda: shows(screen, (0, 0, 0), 40, 160))
    sink.close()


def test_large_frames_and_other_sizes_fit(screen: Desktop, open_window: Callable[..., WindowSink]) -> None:
    sink = open_window()
    sink.write(frame_result(canvas=picture(RED, 3840, 2160)))
    wait_for(lambda: shows(screen, RED, 1270, 710))
    assert not shows(screen, RED, 1300, 400)
    for width, height in [(1, 1), (2000, 10), (641, 483)]:
        sink.write(frame_result(canvas=picture(GREEN, width, height)[:, ::-1]))
        wait_for(lambda: shows(screen, GREEN, 640, 360))
        sink.write(frame_result(canvas=picture(BLUE, width, height)))
        wait_for(lambda: shows(screen, BLUE, 640, 360))


def test_a_lost_camera_is_shown(screen: Desktop, open_window: Callable[..., WindowSink]) -> None:
    sink = open_window()
    now = datetime.now(timezone.utc)
    sink.show(CameraStatus("rtsp://garden", "opening", "", now))
    sink.write(frame_result(canvas=picture(RED)))
    wait_for(lambda: shows(screen, RED))
    sink.show(CameraStatus("rtsp://garden", "lost", "It is gone.", now, now, canvas=picture(BLUE)))
    wait_for(lambda: shows(screen, BLUE))


@pytest.mark.parametrize("how", ["q", "Q", "cross"])
def test_q_and_the_cross_quit(
    screen: Desktop, open_window: Callable[..., WindowSink], told: Told, how: str
) -> None:
    sink = open_window()
    sink.write(frame_result(canvas=picture(RED)))
    wait_for(lambda: shows(screen, RED))
    window = screen.window("garden")
    if how == "cross":
        screen.close(window)
    else:
        screen.press(window, "q" if how == "q" else "shift+q")
    wait_for(lambda: told.quits)
    wait_for(lambda: not screen.tool("search", "--onlyvisible", "--name", "garden"))
    for _ in range(3):
        sink.write(frame_result(canvas=picture(RED)))  # nobody wants to see it; no failure
    sink.close()
    assert told.quits == 1


def test_other_keys_do_nothing(screen: Desktop, open_window: Callable[..., WindowSink], told: Told) -> None:
    sink = open_window()
    window = screen.window("garden")
    for key in ("x", "Escape", "Return", "F1", "eacute", "ctrl+c"):
        screen.press(window, key)
    screen.press(window, "h")
    wait_for(lambda: told.huds)
    sink.write(frame_result(canvas=picture(GREEN)))
    wait_for(lambda: shows(screen, GREEN))
    assert told.quits == 0


def test_space_holds_the_picture_and_lets_it_go(
    screen: Desktop, open_window: Callable[..., WindowSink]
) -> None:
    sink = open_window()
    sink.write(frame_result(canvas=picture(RED)))
    wait_for(lambda: shows(screen, RED))
    window = screen.window("garden")
    screen.press(window, "space")
    wait_for(lambda: screen.title(window) == "edge-mnv2 - rtsp://garden - paused")
    for _ in range(20):
        sink.write(frame_result(canvas=picture(BLUE)))
    screen.press(window, "h")  # the window is alive
    assert shows(screen, RED)
    screen.press(window, "space")
    wait_for(lambda: shows(screen, BLUE))
    wait_for(lambda: screen.title(window) == "edge-mnv2 - rtsp://garden")


def test_s_saves_what_is_shown_and_overwrites_nothing(
    screen: Desktop,
    open_window: Callable[..., WindowSink],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    folder = tmp_path / "new" / "folder"
    sink = open_window(folder=folder)
    window = screen.window("garden")
    screen.press(window, "s")
    wait_for(lambda: "there is no picture yet" in caplog.text)
    image = np.random.default_rng(0).integers(0, 256, (200, 320, 3), np.uint8)
    image[90:110, 90:110] = RED
    sink.write(frame_result(canvas=image))
    wait_for(lambda: shows(screen, RED))
    for count in (1, 2, 3):
        screen.press(window, "s")
        wait_for(lambda count=count: len(list(folder.glob("edge-mnv2-*.png"))) == count)
    wait_for(lambda: caplog.text.count("saved ") == 3)
    for path in folder.iterdir():
        assert str(path) in caplog.text
        np.testing.assert_array_equal(cv2.imread(str(path)), image)


def test_a_picture_that_cannot_be_saved_is_an_error_in_the_log(
    screen: Desktop,
    open_window: Callable[..., WindowSink],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("")
    sink = open_window(folder=tmp_path / "file" / "folder")
    sink.write(frame_result(canvas=picture(RED)))
    wait_for(lambda: shows(screen, RED))
    screen.press(screen.window("garden"), "s")
    wait_for(lambda: "the picture was not saved" in caplog.text)
    sink.write(frame_result(canvas=picture(BLUE)))
    wait_for(lambda: shows(screen, BLUE))


def test_h_switches_the_hud(screen: Desktop, open_window: Callable[..., WindowSink], told: Told) -> None:
    open_window()
    window = screen.window("garden")
    for count in (1, 2, 3):
        screen.press(window, "h")
        wait_for(lambda count=count: len(told.huds) == count)
    assert told.huds == [False, True, False]


def test_two_cameras_have_two_windows(
    screen: Desktop, open_window: Callable[..., WindowSink], told: Told
) -> None:
    left, right = open_window("left"), open_window("right")
    screen.tool("windowmove", "--sync", screen.window("right"), 700, 0)
    for sink, colour in ((left, RED), (right, BLUE)):
        sink.write(frame_result(canvas=picture(colour)))
    wait_for(lambda: shows(screen, RED, 100, 100) and shows(screen, BLUE, 800, 100))
    screen.press(screen.window("left"), "q")
    wait_for(lambda: told.quits)
    right.write(frame_result(canvas=picture(GREEN)))
    wait_for(lambda: shows(screen, GREEN, 800, 100))


def test_behind_the_loops_queue_it_is_opened_again_when_it_died(
    screen: Desktop, open_window: Callable[..., WindowSink]
) -> None:
    opened: list[WindowSink] = []

    def open_next(_: int) -> WindowSink:
        opened.append(open_window())
        return opened[-1]

    outlet = QueuedOutlet(SinkSpec("window", open_next, wants_canvas=True))
    outlet.write(frame_result(canvas=picture(RED)))
    wait_for(lambda: shows(screen, RED))
    opened[0]._child.kill()

    def is_shown_again() -> bool:
        outlet.write(frame_result(canvas=picture(GREEN)))
        return shows(screen, GREEN)

    wait_for(is_shown_again)
    outlet.close()
    assert len(opened) == 2
    assert outlet.failures == [], "it works again"


def test_a_display_that_goes_away_is_a_failure_of_the_window_alone(told: Told) -> None:
    with desktop() as own:
        sink = WindowSink("garden", told.quit, environment=own.environment)
        own.wake(own.window("garden"))
        sink.write(frame_result(canvas=picture(RED)))
        own.server.kill()
        own.server.wait()
        failures: list[str] = []

        def fails() -> bool:
            try:
                sink.write(frame_result(canvas=picture(RED)))
            except SinkError as error:
                failures.append(str(error))
            return bool(failures)

        wait_for(fails)
        assert failures == ["The window is gone: its display was closed, or went away."]
        sink.close()
    assert told.quits == 0


def test_a_window_that_hangs_is_given_up(
    open_window: Callable[..., WindowSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "_WRITE_TIMEOUT_MS", 50)
    monkeypatch.setattr(window_module, "_CLOSE_TIMEOUT_S", 0.2)
    sink = open_window()
    sink._child.send_signal(signal.SIGSTOP)

    def write_on() -> None:
        for _ in range(100):
            sink.write(frame_result(canvas=picture(RED, 1280, 720)))

    with pytest.raises(SinkError, match="The window hangs"):
        write_on()
    sink.close()
    assert sink._child.returncode == -signal.SIGKILL


def test_it_leaves_with_its_parent(screen: Desktop) -> None:
    code = (
        "import sys\n"
        "from edge_mnv2.sinks.window import WindowSink\n"
        "sink = WindowSink('orphan', print)\n"
        "print(sink._child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env=screen.environment,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        screen.window("orphan")
        parent.kill()
        parent.wait(30)
        wait_for(lambda: not Path(f"/proc/{child}").exists() or "Z" in _state(child))
        assert parent.stderr is not None
        assert parent.stderr.read() == b"", "what toolkits say does not reach the user"


def _state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_without_a_display_it_says_what_to_do(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "DISPLAY" not in key}
    with pytest.raises(RequestError) as raised:
        WindowSink("garden", print, environment=environment)
    assert str(raised.value) == "There is no display: over ssh use --web, or log in on the desktop."


def test_a_display_that_cannot_be_reached_is_named() -> None:
    environment = {**os.environ, "DISPLAY": ":987"}
    environment.pop("WAYLAND_DISPLAY", None)
    with pytest.raises(
        RequestError, match=r"The display :987 cannot be opened .*xhost .*use --web\."
    ) as raised:
        WindowSink("garden", print, environment=environment)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "class error(Exception): pass\n"
            "WINDOW_NORMAL = WINDOW_KEEPRATIO = WINDOW_GUI_NORMAL = 0\n"
            "def namedWindow(*_): raise error('The function is not implemented.')\n",
            r"This OpenCV has no windows .*pip install --force-reinstall opencv-python",
        ),
        ("raise ImportError('libGL.so.1: no such file')\n", r"OpenCV cannot be imported: libGL\.so\.1"),
        ("import time\ntime.sleep(100)\n", r"did not open a window within 1 s"),
    ],
)
def test_an_opencv_that_cannot_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, message: str
) -> None:
    if "sleep" in module:
        monkeypatch.setattr(window_module, "_OPEN_TIMEOUT_S", 1.0)
        monkeypatch.setattr(window_module, "_CLOSE_TIMEOUT_S", 0.2)
    (tmp_path / "cv2.py").write_text(module)
    environment = {**os.environ, "DISPLAY": ":987", "PYTHONPATH": str(tmp_path)}
    with pytest.raises(RequestError, match=message):
        WindowSink("garden", print, environment=environment)
