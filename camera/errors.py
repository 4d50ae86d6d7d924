"""Everything that a source can raise.

CameraError
 +- SourceNotFoundError      (also FileNotFoundError) no such file, folder or device
 +- UnsupportedSourceError   (also ValueError) the URI is of no kind that we know, or has wrong options
 +- AccessDeniedError        (also PermissionError) it wants another user or password
 +- BadFrameError            one frame cannot be decoded; the source can go on
 +- EndOfStream              no more frames; not a failure
"""


class CameraError(Exception):
    """Base class of every error raised by `camera`; the message says what to do."""


class SourceNotFoundError(CameraError, FileNotFoundError):
    """The file, folder or device does not exist."""


class UnsupportedSourceError(CameraError, ValueError):
    """The URI names no kind of source that this version has, or its options are wrong."""


class AccessDeniedError(CameraError, PermissionError):
    """A camera refuses this user or password. Asked too often, it may lock the account."""


class BadFrameError(CameraError):
    """One picture or frame cannot be decoded. The next `read` goes on after it."""


class EndOfStream(CameraError):  # noqa: N818 - it is how a source ends, not an error
    """The source has no more frames."""
