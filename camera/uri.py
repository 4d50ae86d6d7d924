"""Which source a URI means."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote

from camera.base import FrameSource
from camera.credentials import uri_without_credentials, without_credentials
from camera.errors import UnsupportedSourceError


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of source.

    Attributes:
        module: Module below `camera` whose `from_uri(uri: Uri) -> FrameSource` makes it; imported when used.
        options: Which part of the URI holds our options. The query of a network camera is the camera's own.
        live: Whether it is a camera; `may_end`: only if its name is not that of a file; `if_paced`: unless it
            is `fps=0`.
    """

    module: str
    options: Literal["query", "fragment", "nowhere"]
    live: Literal["yes", "no", "may_end", "if_paced"] = "yes"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "v4l2": Kind("v4l2", "query"),
        "picamera": Kind("picamera", "query"),
        "argus": Kind("argus", "query"),
        "csi": Kind("csi", "query"),
        "gst": Kind("gstreamer", "nowhere"),
        "rtsp": Kind("network", "fragment"),
        "rtsps": Kind("network", "fragment"),
        "http": Kind("network", "fragment", "may_end"),
        "https": Kind("network", "fragment", "may_end"),
        "replay": Kind("replay", "query", "no"),
        "file": Kind("paths", "nowhere", "no"),
        "test": Kind("synthetic", "query", "if_paced"),
    }
)
# Files behind http:// that are read from the first to the last frame. Not among them: .ts and .flv, which
# cameras and relays stream without end.
_FILE_SUFFIXES = frozenset(
    {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
    | {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
)
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?", re.ASCII)
# `user:pass/word@host`, not `host:554/path@2` and not `[::1]/path@2`.
_CUT_PASSWORD = re.compile(r"[^/?#@\[]*:(?!\d*[/?#])[^/?#@]*[/?#]")
_VIDEO_MAJOR = 81  # the kernel's admin-guide/devices.txt


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI that was taken apart.

    Attributes:
        text: As it was given, credentials included: never to be shown.
        scheme: A key of `KINDS`; `v4l2` for devices and numbers, `file` for paths.
        address: What follows `://`, without query and fragment: the path of a device or file, a camera's
            number, the whole of a GStreamer pipeline, or user info, host and path.
        options: Ours, decoded.
    """

    text: str = field(repr=False)
    scheme: str
    address: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def shown(self) -> str:
        """The text without credentials, for messages, records and pages."""
        if KINDS[self.scheme].module == "network":
            return uri_without_credentials(self.text)
        # `admin:secret@host/stream` with its scheme forgotten reads as a relative path.
        if self.scheme == "file" and re.match(r"[^/.~][^/]*:.*@", self.text, re.DOTALL):
            return uri_without_credentials(self.text)
        return without_credentials(self.text)

    @property
    def has_user(self) -> bool:
        """Whether a camera on the network is told a user."""
        return KINDS[self.scheme].module == "network" and "@" in self.address.partition("/")[0]


def parse_uri(text: str) -> Uri:
    """Take a URI apart; nothing is opened.

    Args:
        text: A number, `/dev/videoN`, a link to such a device, `SCHEME://...`, or a path with or without
            `file://`.

    Raises:
        UnsupportedSourceError: The scheme is unknown, or the URI cannot be read as one.
    """
    device, _, query = text.removeprefix("v4l2://").partition("?")
    if device.isascii() and device.isdecimal():
        return Uri(text, "v4l2", f"/dev/video{device}", _options(text, query))
    if _DEVICE.fullmatch(device) or (device.startswith("/dev/") and _is_video_device(device)):
        return Uri(text, "v4l2", device, _options(text, query))
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    if found is None or not (found[2] or scheme in KINDS) or (not found[2] and _exists(text)):
        return Uri(text, "file", text, {})
    _check_scheme(scheme, has_slashes=bool(found[2]))
    rest = text[found.end() :]
    kind = KINDS[scheme]
    if kind.module == "network":
        return _network_uri(text, scheme, rest)
    if kind.options == "nowhere":
        return Uri(text, scheme, unquote(rest) if scheme == "file" else rest, {})
    address, _, query = rest.partition("?")
    return Uri(text, scheme, unquote(address), _options(text, query))


def raw_source(text: str) -> FrameSource:
    """Return the source that a URI means, without supervision; it is not opened yet.

    Raises:
        SourceNotFoundError: No such file, folder, or nothing matches the glob.
        UnsupportedSourceError: The scheme is unknown, or an option is wrong.
    """
    uri = parse_uri(text)
    module = import_module(f"camera.{KINDS[uri.scheme].module}")
    return cast("FrameSource", module.from_uri(uri))


def is_live(text: str) -> bool:
    """Return whether a URI means a camera, whose newest frame wins, and which may come and go; not files.

    Raises:
        UnsupportedSourceError: The scheme is unknown, or the rate of a synthetic camera is wrong.
    """
    uri = parse_uri(text)
    live = KINDS[uri.scheme].live
    if live == "if_paced":
        from camera.uri_options import number

        return number(uri, "fps") != 0
    if live == "may_end":
        return PurePosixPath(uri.address).suffix.lower() not in _FILE_SUFFIXES
    return live == "yes"


def _network_uri(text: str, scheme: str, rest: str) -> Uri:
    """Split what is meant for a camera from what is meant for us; the fragment is ours."""
    address, _, fragment = rest.partition("#")
    address = address.partition("?")[0]
    # Where a password holds one of these, FFmpeg would look for a host of the wrong name.
    is_cut = "@" in fragment or ("@" in rest and _CUT_PASSWORD.match(rest))
    if is_cut or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise UnsupportedSourceError(
            f"{uri_without_credentials(text)} is no valid URI. In user and password, write / as %2F, "
            "? as %3F, # as %23, @ as %40, % as %25, a space as %20."
        )
    return Uri(text, scheme, address, _options(text, fragment))


def _check_scheme(scheme: str, *, has_slashes: bool) -> None:
    if scheme not in KINDS:
        near = sorted(f"{known}://" for known in difflib.get_close_matches(scheme, KINDS, n=2))
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        raise UnsupportedSourceError(
            f"There is no source of the kind {scheme}://. {hint}Give a file, a folder, a glob, /dev/videoN, "
            f"or one of {', '.join(f'{known}://' for known in KINDS if known != 'v4l2')}."
        )
    if not has_slashes:
        raise UnsupportedSourceError(f"After {scheme}: come two slashes: {scheme}://...")
    if scheme == "v4l2":
        raise UnsupportedSourceError("After v4l2:// comes a device: v4l2:///dev/video0, or just /dev/video0.")


def _options(text: str, query: str) -> Mapping[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if len(options) < len(pairs):
        twice = next(key for key in options if sum(key == other for other, _ in pairs) > 1)
        raise UnsupportedSourceError(f"{uri_without_credentials(text)}: the option {twice} is given twice.")
    return MappingProxyType(options)


def _is_video_device(path: str) -> bool:
    """Return whether a path, such as a link made by a udev rule, leads to a V4L2 device."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _VIDEO_MAJOR


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False
