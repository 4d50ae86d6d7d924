"""What the kernel and a V4L2 program say to each other: the structures and numbers of linux/videodev2.h.

Only those that are used here. Layouts are C's own on the machine that this runs on, so that they agree with
the kernel on 32 and on 64 bits. See https://docs.kernel.org/userspace-api/media/v4l/user-func.html.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_int64, c_uint8, c_uint32, c_void_p
from typing import ClassVar

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_VIDEO_OUTPUT = 0x0000_0002
CAP_VIDEO_CAPTURE_MPLANE = 0x0000_1000
CAP_VIDEO_OUTPUT_MPLANE = 0x0000_2000
CAP_VIDEO_M2M_MPLANE = 0x0000_4000
CAP_VIDEO_M2M = 0x0000_8000
CAP_META_CAPTURE = 0x0080_0000
CAP_STREAMING = 0x0400_0000
CAP_META_OUTPUT = 0x0800_0000
CAP_DEVICE_CAPS = 0x8000_0000

BUF_TYPE_VIDEO_CAPTURE = 1
BUF_TYPE_VIDEO_CAPTURE_MPLANE = 9

FRMSIZE_TYPE_DISCRETE = 1
FRMIVAL_TYPE_DISCRETE = 1

CTRL_TYPE_INTEGER = 1
CTRL_TYPE_BOOLEAN = 2
CTRL_TYPE_MENU = 3
CTRL_TYPE_BUTTON = 4
CTRL_TYPE_BITMASK = 8
CTRL_TYPE_INTEGER_MENU = 9

CTRL_FLAG_DISABLED = 0x0001
CTRL_FLAG_READ_ONLY = 0x0004
CTRL_FLAG_NEXT_CTRL = 0x8000_0000


class Capability(ctypes.Structure):
    """`struct v4l2_capability`."""

    _fields_: ClassVar = [
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FormatDescription(ctypes.Structure):
    """`struct v4l2_fmtdesc`."""

    _fields_: ClassVar = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FrameSize(ctypes.Structure):
    """`struct v4l2_frmsizeenum`; `sides`: width, height; or min, max, step of the width and the height."""

    _fields_: ClassVar = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("sides", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]


class FrameInterval(ctypes.Structure):
    """`struct v4l2_frmivalenum`; `fractions` of a second: one; or the shortest, the longest, and the step."""

    _fields_: ClassVar = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("fractions", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]


class _FormatUnion(ctypes.Union):
    # A window, another member of the union, has pointers: they set the alignment.
    _fields_: ClassVar = [("words", c_uint32 * 50), ("pointer", c_void_p)]


class Format(ctypes.Structure):
    """`struct v4l2_format`; `fmt.words`: width, height, pixel format, of one or more planes."""

    _fields_: ClassVar = [("type", c_uint32), ("fmt", _FormatUnion)]


class StreamParameters(ctypes.Structure):
    """`struct v4l2_streamparm` of a capture: the time of one frame is a fraction of a second."""

    _fields_: ClassVar = [
        ("type", c_uint32),
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("numerator", c_uint32),
        ("denominator", c_uint32),
        ("rest", c_uint8 * 184),
    ]


class ControlQuery(ctypes.Structure):
    """`struct v4l2_queryctrl`."""

    _fields_: ClassVar = [
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int32),
        ("maximum", c_int32),
        ("step", c_int32),
        ("default_value", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 2),
    ]


class _MenuUnion(ctypes.Union):
    _pack_ = 1
    _fields_: ClassVar = [("name", c_char * 32), ("value", c_int64)]


class MenuQuery(ctypes.Structure):
    """`struct v4l2_querymenu`, which is packed."""

    _pack_ = 1
    _fields_: ClassVar = [("id", c_uint32), ("index", c_uint32), ("item", _MenuUnion), ("reserved", c_uint32)]


class Control(ctypes.Structure):
    """`struct v4l2_control`."""

    _fields_: ClassVar = [("id", c_uint32), ("value", c_int32)]


_READ, _WRITE_READ = 2, 3


def _number(direction: int, number: int, structure: type[ctypes.Structure]) -> int:
    """Return the request code of an ioctl as `_IOR` and `_IOWR` of linux/ioctl.h make it on x86 and Arm."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


QUERYCAP = _number(_READ, 0, Capability)
ENUM_FMT = _number(_WRITE_READ, 2, FormatDescription)
G_FMT = _number(_WRITE_READ, 4, Format)
S_FMT = _number(_WRITE_READ, 5, Format)
G_PARM = _number(_WRITE_READ, 21, StreamParameters)
G_CTRL = _number(_WRITE_READ, 27, Control)
S_CTRL = _number(_WRITE_READ, 28, Control)
QUERYCTRL = _number(_WRITE_READ, 36, ControlQuery)
QUERYMENU = _number(_WRITE_READ, 37, MenuQuery)
ENUM_FRAMESIZES = _number(_WRITE_READ, 74, FrameSize)
ENUM_FRAMEINTERVALS = _number(_WRITE_READ, 75, FrameInterval)


def fourcc_code(fourcc: str) -> int:
    """Return the number of a pixel format of four characters, such as `MJPG`."""
    return int.from_bytes(fourcc.encode("latin-1"), "little")


def fourcc_text(code: int) -> str:
    """Return the four characters of a pixel format; bit 31 says big endian, and is left out."""
    return (code & 0x7FFF_FFFF).to_bytes(4, "little").decode("latin-1")
