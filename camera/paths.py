"""Files as sources: a video, a picture, a folder of pictures, or a glob of pictures."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from camera.base import FrameSource
from camera.errors import SourceNotFoundError, UnsupportedSourceError
from camera.pictures import Pictures, is_picture, list_pictures
from camera.uri import Uri, parse_uri
from camera.video_file import VideoFile

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)

# `video0`, `/dev/vidoe0?fps=5`
_LIKE_A_DEVICE = re.compile(r"(?:/?dev/)?([A-Za-z]{3,8})([0-9]{1,3})(?:\?.*)?", re.DOTALL)


def from_uri(uri: Uri) -> FrameSource:
    """Return the source for a path, which may name a folder or be a glob.

    Raises:
        SourceNotFoundError: There is nothing, or nothing matches the glob.
        UnsupportedSourceError: The path is empty.
    """
    if not uri.address:
        raise UnsupportedSourceError("The source is empty: give a file, a folder, /dev/videoN, or test://.")
    with _looking_at(uri):
        path = _expand_user(uri.address)
        if path.is_dir():
            return Pictures(list_pictures(path), str(path))
        if path.exists():
            return Pictures([path], str(path)) if is_picture(path) else VideoFile(path)
        if _is_glob(path):
            matches = _matches(path)
            pictures = [match for match in matches if is_picture(match) and match.is_file()]
            if not pictures:
                hint = _device_hint(uri.address) or "check the pattern, and quote it."
                raise SourceNotFoundError(f"No picture matches {uri.shown}: {hint}")
            return Pictures(pictures, uri.address)
    hint = _device_hint(uri.address) or "check the path."
    raise SourceNotFoundError(f"There is no file, folder or device {uri.shown}: {hint}")


def open_files(text: str) -> list[FrameSource]:
    """Return a source for each file that a path, folder or glob means: pictures together, videos one by one.

    Raises:
        SourceNotFoundError: There are none.
        UnsupportedSourceError: It is no file but a camera.
    """
    uri = parse_uri(text)
    if uri.scheme != "file":
        raise UnsupportedSourceError(f"{uri.shown} is a camera or a stream, where files are expected.")
    with _looking_at(uri):
        path = _expand_user(uri.address)
        if path.is_dir():
            files = sorted(path.iterdir())
        elif _is_glob(path):
            files = _matches(path)
        else:
            return [from_uri(uri)]
    pictures = [file for file in files if is_picture(file) and file.is_file()]
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()]
    if not pictures and not videos:
        raise SourceNotFoundError(f"{uri.shown} holds no pictures and no videos: check the path.")
    return [*([Pictures(pictures, uri.address)] if pictures else []), *map(VideoFile, videos)]


@contextmanager
def _looking_at(uri: Uri) -> Iterator[None]:
    """Report what the file system says against a path (no permission, too long) as a missing source."""
    try:
        yield
    except SourceNotFoundError:
        raise
    except OSError as error:
        raise SourceNotFoundError(f"{uri.shown} cannot be looked at: {error.strerror}.") from error


def _device_hint(text: str) -> str | None:
    """Return the device that was probably meant, as a question."""
    found = _LIKE_A_DEVICE.fullmatch(text)
    is_near = found is not None and difflib.get_close_matches(found[1].lower(), ["video"], cutoff=0.75)
    return f"did you mean /dev/video{found[2]}?" if found is not None and is_near else None


def _expand_user(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - leaves an unknown ~user as it is


def _is_glob(path: Path) -> bool:
    return not path.exists() and glob.has_magic(str(path))


def _matches(path: Path) -> list[Path]:
    return [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - may be absolute
