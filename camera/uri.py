"""Which source a URI means."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from camera.base import FrameSource
from camera.errors import SourceNotFoundError, UnsupportedSourceError
from camera.pictures import Pictures, is_picture, list_pictures
from camera.synthetic import SyntheticCamera, SyntheticOptions
from camera.v4l2 import V4l2Camera
from camera.video_file import VideoFile

SCHEMES = ("file", "test")
VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
_MAX_SIDE = 16384
_MAX_FPS = 1000


def open_source(uri: str) -> FrameSource:
    """Return the source that a URI means; it is not opened yet.

    Args:
        uri: A number or `/dev/videoN` (V4L2), `test://...`, or a video, a picture, a folder or a glob of
            pictures, with or without `file://`.

    Raises:
        SourceNotFoundError: No such file, folder, or nothing matches the glob.
        UnsupportedSourceError: The scheme is unknown, or an option is wrong.
    """
    if uri.isdecimal():
        return V4l2Camera(Path(f"/dev/video{uri}"))
    if re.fullmatch(r"/dev/video\d+", uri):
        return V4l2Camera(Path(uri))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", uri)
    if scheme is None or scheme[1] == "file":
        with _looking_at(uri):
            return _from_path(uri if scheme is None else unquote(uri.removeprefix("file://")))
    if scheme[1] == "test":
        return SyntheticCamera(_synthetic_options(uri))
    near = difflib.get_close_matches(scheme[1], SCHEMES, n=1)
    hint = f"Did you mean {near[0]}://? " if near else ""
    raise UnsupportedSourceError(
        f"This version has no source of the kind {scheme[1]}://. {hint}"
        "Give a file, a folder, a glob, /dev/videoN, or test://."
    )


def open_files(text: str) -> list[FrameSource]:
    """Return a source for each file that a path, folder or glob means: pictures together, videos one by one.

    Raises:
        SourceNotFoundError: There are none.
        UnsupportedSourceError: It is no file but a camera.
    """
    path = _expand_user(text)
    with _looking_at(text):
        if path.is_dir():
            files = sorted(path.iterdir())
        elif _is_glob(path):
            files = _matches(path)
        else:
            source = open_source(text)
            if not isinstance(source, (Pictures, VideoFile)):
                raise UnsupportedSourceError(f"{text} is a camera, where files are expected.")
            return [source]
    pictures = [file for file in files if is_picture(file) and file.is_file()]
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()]
    if not pictures and not videos:
        raise SourceNotFoundError(f"{text} holds no pictures and no videos: check the path.")
    return [*([Pictures(pictures, text)] if pictures else []), *map(VideoFile, videos)]


def _from_path(text: str) -> FrameSource:
    if not text:
        raise UnsupportedSourceError("The source is empty: give a file, a folder, /dev/videoN, or test://.")
    path = _expand_user(text)
    if path.is_dir():
        return Pictures(list_pictures(path), str(path))
    if path.exists():
        return Pictures([path], str(path)) if is_picture(path) else VideoFile(path)
    if _is_glob(path):
        matches = _matches(path)
        pictures = [match for match in matches if is_picture(match) and match.is_file()]
        if not pictures:
            raise SourceNotFoundError(f"No picture matches {text}: check the pattern, and quote it.")
        return Pictures(pictures, text)
    raise SourceNotFoundError(f"There is no file, folder or device {text}: check the path.")


@contextmanager
def _looking_at(text: str) -> Iterator[None]:
    """Report what the file system says against a path (no permission, too long) as a missing source."""
    try:
        yield
    except SourceNotFoundError:
        raise
    except OSError as error:
        raise SourceNotFoundError(f"{text} cannot be looked at: {error.strerror}.") from error


def _expand_user(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - leaves an unknown ~user as it is


def _is_glob(path: Path) -> bool:
    return not path.exists() and glob.has_magic(str(path))


def _matches(path: Path) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - may be absolute


def _synthetic_options(uri: str) -> SyntheticOptions:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UnsupportedSourceError(f"{uri} is not a valid URI: {error}.") from error
    options = SyntheticOptions()
    if parts.netloc or parts.path not in ("", "/"):
        raise UnsupportedSourceError(
            f"{uri}: after test:// comes nothing, or ?size=640x480&fps=30&frames=100."
        )
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
        number = re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value)
        if key == "size" and size and all(1 <= int(side) <= _MAX_SIDE for side in size.groups()):
            options = replace(options, width=int(size[1]), height=int(size[2]))
        elif key == "fps" and number and float(value) <= _MAX_FPS:
            options = replace(options, fps=float(value))
        elif key == "frames" and re.fullmatch(r"\d{1,9}", value):
            options = replace(options, frames=int(value))
        else:
            raise UnsupportedSourceError(
                f"{uri}: the option {key}={value} is wrong. Known: size=WIDTHxHEIGHT, fps=0..{_MAX_FPS} "
                "(0: as fast as possible), frames=COUNT."
            )
    return options
