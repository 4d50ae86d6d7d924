from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera import CameraError, SourceNotFoundError, UnsupportedSourceError, open_files
from camera import uri_options as options
from camera.network import NetworkCamera
from camera.pictures import Pictures
from camera.synthetic import SyntheticCamera
from camera.uri import KINDS, Uri, is_live, parse_uri, raw_source
from camera.v4l2 import V4l2Camera
from camera.video_file import VideoFile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.png", "other.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "we[i]rd.png").write_bytes((tmp_path / "a.png").read_bytes())
    return tmp_path


def test_each_kind_is_recognised(folder: Path) -> None:
    assert isinstance(raw_source("0"), V4l2Camera)
    assert isinstance(raw_source("/dev/video12"), V4l2Camera)
    assert isinstance(raw_source("test://"), SyntheticCamera)
    assert isinstance(raw_source(str(folder / "clip.mp4")), VideoFile)
    assert isinstance(raw_source(f"file://{folder / 'clip.mp4'}"), VideoFile)
    for uri, count in (("a.png", 1), ("", 4), ("*.png", 3), ("[ab].png", 2), ("we[i]rd.png", 1)):
        source = raw_source(str(folder / uri))
        assert isinstance(source, Pictures)
        assert len(source.paths) == count


def test_a_glob_is_sorted(folder: Path) -> None:
    source = raw_source(str(folder / "?.png"))
    assert isinstance(source, Pictures)
    assert [path.name for path in source.paths] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nothing.mp4", "no file, folder or device nothing.mp4"),
        ("*.nothing", "No picture matches"),
        ("file:///nowhere/x.mp4", "no file"),
        ("video0", "device video0: did you mean /dev/video0?"),
        ("/dev/vidoe0", "device /dev/vidoe0: did you mean /dev/video0?"),
        ("Video12?fps=5", "did you mean /dev/video12?"),
        ("clip0", "device clip0: check the path"),
        ("/dev/ttyUSB0", "device /dev/ttyUSB0: check the path"),
    ],
)
def test_missing_things_are_named(uri: str, words: str) -> None:
    with pytest.raises(SourceNotFoundError, match=re.escape(words)):
        raw_source(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("tset://", "Did you mean test://"),
        ("rstp://user:secret@host/stream", "Did you mean rtsp:// or rtsps://"),
        ("rtps://user:secret@host/stream", "Did you mean rtsp:// or rtsps://"),
        ("htp://user:secret@host/stream", "Did you mean http://"),
        ("piccamera://0", "Did you mean picamera://"),
        ("ftp://user:secret@host/stream", "one of picamera://"),
        ("rtsp:/user:secret@host/stream", "two slashes: rtsp://"),
        ("v4l2://host", "v4l2:///dev/video0"),
        ("rtsp://", "names no host"),
        ("rtsp://user:secret@/x", "names no host"),
        ("rtsp://user:secret@host:99999/x", "its port is wrong: give 1 to 65535"),
        ("rtsp://user:secret@host:0/x", "its port is wrong: give 1 to 65535"),
        ("rtsp://user:secret@[::1/x", "its host is wrong"),
        ("rtsp://user:secret@a..b/x", "its host is wrong"),
        (f"http://user:secret@{'a' * 64}/x", "its host is wrong"),
        ("rtsp://user:se/cret@host/x", "write / as %2F"),
        ("rtsp://user:se#cret@host/x", "# as %23"),
        ("rtsp://user:se cret@host/x", "a space as %20"),
        ("rtsp://user:secret@host/x#transport=sctp", "give one of tcp, udp"),
        ("rtsp://user:secret@host/x#transprt=udp", "Did you mean transport"),
        ("rtsp://user:secret@host/x#timeout=1&timeout=2", "timeout is given twice"),
        ("http://user:secret@host/x#transport=udp", "Known: timeout"),
        ("http://user:secret@host/x#timeout=0", "from 0.1 to 600"),
        ("", "source is empty"),
        ("test://?size=0x10", "size=0x10"),
        ("test://?size=99999x1", "size"),
        ("test://?fps=-1", "fps=-1"),
        ("test://?frames=many", "frames=many"),
        ("test://?colour=red", "colour=red"),
        ("test://?size=640x480&size=1x1", "size is given twice"),
        ("test://host", "after test://"),
    ],
)
def test_wrong_uris_say_what_is_right(uri: str, words: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=words.replace("?", r"\?")) as caught:
        raw_source(uri)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "scheme", "address", "given"),
    [
        ("0", "v4l2", "/dev/video0", {}),
        ("2?size=640x480", "v4l2", "/dev/video2", {"size": "640x480"}),
        ("/dev/video0?fps=30&format=MJPG", "v4l2", "/dev/video0", {"fps": "30", "format": "MJPG"}),
        ("v4l2:///dev/video1", "v4l2", "/dev/video1", {}),
        ("/dev/v4l/by-id/usb-A_b-index0", "v4l2", "/dev/v4l/by-id/usb-A_b-index0", {}),
        ("/dev/v4l/by-path/p-0:1:1.0?fps=5", "v4l2", "/dev/v4l/by-path/p-0:1:1.0", {"fps": "5"}),
        ("picamera://", "picamera", "", {}),
        ("picamera://1?size=640x480", "picamera", "1", {"size": "640x480"}),
        ("ARGUS://0", "argus", "0", {}),
        ("gst://a b=c?d#e ! f", "gst", "a b=c?d#e ! f", {}),
        ("replay:///srv/a%3Fb?speed=0", "replay", "/srv/a?b", {"speed": "0"}),
        ("rtsp://u:p@h:1/a?b=c#transport=udp", "rtsp", "u:p@h:1/a", {"transport": "udp"}),
        ("rtsp://[::1]:554/a@b", "rtsp", "[::1]:554/a@b", {}),
        ("rtsp://h:554/a@b", "rtsp", "h:554/a@b", {}),
        ("http://h?size=1x1", "http", "h", {}),
        ("file:///a%20b?c", "file", "/a b?c", {}),
        ("/dev/stdin", "file", "/dev/stdin", {}),
        ("a?.png", "file", "a?.png", {}),
        ("a:b.png", "file", "a:b.png", {}),
    ],
)
def test_a_uri_is_taken_apart(text: str, scheme: str, address: str, given: dict[str, str]) -> None:
    uri = parse_uri(text)
    assert (uri.text, uri.scheme, uri.address, dict(uri.options)) == (text, scheme, address, given)


@pytest.mark.parametrize(
    ("text", "has_user"),
    [
        ("rtsp://u:p@h:1/a", True),
        ("http://u@h?a=b", True),
        ("rtsp://h:554/a@b", False),
        ("http://h/x?mail=a@b", False),
        ("/dev/video0", False),
        ("a@b/c.png", False),
    ],
)
def test_who_is_told_a_user(text: str, has_user: bool) -> None:
    assert parse_uri(text).has_user is has_user


def test_a_file_may_be_called_like_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("test:1.png", np.zeros((4, 4, 3), np.uint8))
    assert isinstance(raw_source("test:1.png"), Pictures)


@pytest.mark.parametrize(
    ("text", "live"),
    [
        ("0", True),
        ("csi://0", True),
        ("rtsp://h/x.mp4", True),
        ("http://h/stream", True),
        ("http://h/live.ts?a=b", True),
        ("http://h/clip.MP4?a=b", False),
        ("https://h/still.jpg#timeout=1", False),
        ("test://", True),
        ("test://?fps=0", False),
        ("clip.mp4", False),
        ("replay://a", False),
    ],
)
def test_cameras_are_live_and_files_are_not(text: str, live: bool) -> None:
    assert is_live(text) is live


def test_network_streams_are_recognised() -> None:
    for scheme in ("rtsp", "rtsps", "http", "https", "RTSP"):
        assert isinstance(raw_source(f"{scheme}://user:a%2Fb@[::1]:8554/x?token=1#timeout=2"), NetworkCamera)


def test_every_kind_has_a_module_that_makes_it() -> None:
    for kind in KINDS.values():
        assert callable(import_module(f"camera.{kind.module}").from_uri)


def test_options_are_typed() -> None:
    uri = parse_uri("test://?a=640x480&b=2.5&c=-3&d=RED&e&f=off&g=yes")
    assert options.size(uri, "a") == (640, 480)
    assert options.number(uri, "b") == 2.5
    assert options.integer(uri, "c", -5, 5) == -3
    assert options.choice(uri, "d", ("green", "red")) == "red"
    assert [options.flag(uri, key) for key in "efg"] == [True, False, True]
    assert options.size(uri) is options.number(uri, "x") is options.integer(uri, "x") is None
    assert options.choice(uri, "x", ("y",)) is options.flag(uri, "x") is None
    options.no_more(uri, "abcdefg")


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda uri: options.size(uri, "a"), "a=fast is wrong: give WIDTHxHEIGHT"),
        (lambda uri: options.number(uri, "a", 1, 2.5), "a=fast is wrong: give a number from 1 to 2.5"),
        (lambda uri: options.number(uri, "b", 1, 2.5), "b=3"),
        (lambda uri: options.integer(uri, "a", 1, 2), "a=fast is wrong: give a whole number from 1 to 2"),
        (lambda uri: options.integer(uri, "b", 1, 2), "b=3"),
        (lambda uri: options.choice(uri, "a", ("x", "y")), "a=fast is wrong: give one of x, y"),
        (lambda uri: options.flag(uri, "a"), "a=fast is wrong: give yes or no"),
        (lambda uri: options.no_more(uri, ("a", "bb")), "b=3 is unknown. Did you mean bb. Known: a, bb"),
    ],
)
def test_a_wrong_option_says_what_is_right(read: Callable[[Uri], object], words: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=words):
        read(parse_uri("test://?a=fast&b=3"))


def test_a_password_given_as_an_option_is_not_printed() -> None:
    with pytest.raises(UnsupportedSourceError, match="unknown") as caught:
        raw_source("test://?password=secret")
    assert "secret" not in str(caught.value)


def test_a_forgotten_scheme_shows_no_password() -> None:
    with pytest.raises(SourceNotFoundError, match="no file") as caught:
        raw_source("user:secret@host/stream")
    assert "secret" not in str(caught.value)


def test_batch_takes_no_cameras() -> None:
    for text in ("0", "rtsp://user:secret@h/x", "test://"):
        with pytest.raises(UnsupportedSourceError, match="where files are expected") as caught:
            open_files(text)
        assert "secret" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_a_clear_error(text: str) -> None:
    # Nothing but a CameraError may come out.
    with contextlib.suppress(CameraError):
        raw_source(text)


def test_what_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="too long"):
        raw_source("x" * 5000)


def test_a_missing_device_says_which_are_there() -> None:
    with pytest.raises(SourceNotFoundError, match="/dev/video97"):
        raw_source("97").open()
