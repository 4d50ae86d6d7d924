from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera import CameraError, SourceNotFoundError, UnsupportedSourceError, open_source
from camera.pictures import Pictures
from camera.synthetic import SyntheticCamera
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
    assert isinstance(open_source("0"), V4l2Camera)
    assert isinstance(open_source("/dev/video12"), V4l2Camera)
    assert isinstance(open_source("test://"), SyntheticCamera)
    assert isinstance(open_source(str(folder / "clip.mp4")), VideoFile)
    assert isinstance(open_source(f"file://{folder / 'clip.mp4'}"), VideoFile)
    for uri, count in (("a.png", 1), ("", 4), ("*.png", 3), ("[ab].png", 2), ("we[i]rd.png", 1)):
        source = open_source(str(folder / uri))
        assert isinstance(source, Pictures)
        assert len(source.paths) == count


def test_a_glob_is_sorted(folder: Path) -> None:
    source = open_source(str(folder / "?.png"))
    assert isinstance(source, Pictures)
    assert [path.name for path in source.paths] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nothing.mp4", "no file, folder or device nothing.mp4"),
        ("*.nothing", "No picture matches"),
        ("file:///nowhere/x.mp4", "no file"),
    ],
)
def test_missing_things_are_named(uri: str, words: str) -> None:
    with pytest.raises(SourceNotFoundError, match=words):
        open_source(uri)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("tset://", "Did you mean test://"),
        ("rtsp://user:secret@host/stream", "rtsp://"),
        ("", "source is empty"),
        ("test://?size=0x10", "size=0x10"),
        ("test://?size=99999x1", "size"),
        ("test://?fps=-1", "fps=-1"),
        ("test://?frames=many", "frames=many"),
        ("test://?colour=red", "colour=red"),
        ("test://host", "after test://"),
    ],
)
def test_wrong_uris_say_what_is_right(uri: str, words: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=words.replace("?", r"\?")) as caught:
        open_source(uri)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_a_source_or_a_clear_error(text: str) -> None:
    # Nothing but a CameraError may come out.
    with contextlib.suppress(CameraError):
        open_source(text)


def test_what_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="too long"):
        open_source("x" * 5000)


def test_a_missing_device_says_which_are_there() -> None:
    with pytest.raises(SourceNotFoundError, match="/dev/video97"):
        open_source("97").open()
