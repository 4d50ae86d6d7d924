from __future__ import annotations

import pytest

from camera.errors import UnsupportedSourceError
from camera.v4l2_modes import Choice, Mode, Wish, choose, in_words

WEBCAM = (
    Mode("YUYV", 640, 480, (30.0, 15.0)),
    Mode("YUYV", 1280, 720, (10.0, 5.0)),
    Mode("MJPG", 640, 480, (30.0, 15.0)),
    Mode("MJPG", 1280, 720, (30.0, 15.0)),
    Mode("MJPG", 1920, 1080, (30.0,)),
)
NOW = ("YUYV", 640, 480)


def chosen(wish: Wish, now: tuple[str, int, int] = NOW, modes: tuple[Mode, ...] = WEBCAM) -> Choice:
    return choose("cam", tuple(dict.fromkeys(mode.fourcc for mode in modes)), modes, wish, now)


@pytest.mark.parametrize(
    ("wish", "choice"),
    [
        # Left open, it stays; the cheapest format of those that are as fast.
        (Wish(), Choice("YUYV", (640, 480))),
        (Wish(fourcc="MJPG"), Choice("MJPG", (640, 480))),
        # Over USB 2 only the compressed one is fast in this size.
        (Wish(size=(1280, 720)), Choice("MJPG", (1280, 720))),
        (Wish(size=(1280, 720), fps=30), Choice("MJPG", (1280, 720))),
        (Wish(size=(1280, 720), fps=10), Choice("YUYV", (1280, 720))),
        (Wish(size=(1280, 720), fourcc="YUYV"), Choice("YUYV", (1280, 720))),
        # 29.97 is meant by 30.
        (Wish(fps=29.97), Choice("YUYV", (640, 480))),
        # Not in the size that is set: the nearest that does it.
        (Wish(fps=5), Choice("YUYV", (1280, 720))),
    ],
)
def test_what_is_asked_for_is_taken_and_the_rest_chosen(wish: Wish, choice: Choice) -> None:
    assert chosen(wish) == choice


def test_the_size_that_is_set_stays() -> None:
    assert chosen(Wish(), ("MJPG", 1920, 1080)) == Choice("MJPG", (1920, 1080))
    assert chosen(Wish(fourcc="YUYV"), ("MJPG", 1920, 1080)) == Choice("YUYV", (1280, 720))


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (
            Wish(size=(1000, 700), fourcc="YUYV"),
            r"not offer the size 1000x700\. It can: YUYV 640x480 at 30, 15; YUYV 1280x720 at 10, 5\.",
        ),
        (
            Wish(size=(1920, 1080), fps=60),
            r"cam does not offer 60 fps\. It can: MJPG 1920x1080 at 30\.",
        ),
        (Wish(fourcc="H264"), r"the format H264 is not offered\. Offered: YUYV, MJPG\."),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(wish: Wish, message: str) -> None:
    with pytest.raises(UnsupportedSourceError, match=message):
        chosen(wish)


def test_formats_without_pictures_are_refused_with_advice() -> None:
    with pytest.raises(UnsupportedSourceError, match=r"\(it has: RG10, BG10\).*use argus://0 instead"):
        choose("cam", ("RG10", "BG10"), (), Wish(), ("RG10", 3280, 2464), "tegra-video")
    with pytest.raises(UnsupportedSourceError, match="H264 cannot be turned into a picture"):
        choose("cam", ("YUYV", "H264"), WEBCAM, Wish(fourcc="H264"), NOW)


def test_a_driver_that_tells_no_sizes_is_believed_to_have_them() -> None:
    assert choose("cam", ("UYVY",), (), Wish(size=(720, 576)), ("UYVY", 720, 480)) == Choice(
        "UYVY", (720, 576)
    )
    assert choose("cam", ("UYVY",), (), Wish(), ("UYVY", 720, 480)) == Choice("UYVY", (720, 480))


def test_a_range_takes_every_size_within() -> None:
    modes = (Mode("NV12", 1920, 1080, (30.0,), smallest=(32, 32), step=(2, 2)),)
    assert chosen(Wish(size=(640, 360)), ("NV12", 64, 64), modes) == Choice("NV12", (640, 360))
    # The rates are those of the largest size: the device's answer shows what it can in this one.
    assert chosen(Wish(size=(640, 360), fps=90), ("NV12", 64, 64), modes) == Choice("NV12", (640, 360))
    with pytest.raises(UnsupportedSourceError, match="It can: NV12 32x32 to 1920x1080 at 30"):
        chosen(Wish(size=(640, 361)), ("NV12", 64, 64), modes)


def test_long_lists_are_cut() -> None:
    many = [Mode("MJPG", 100 + n, 100, tuple(map(float, range(60, 0, -5)))) for n in range(40)]
    words = in_words(many)
    assert words.endswith("and 28 more")
    assert words.startswith("MJPG 100x100 at 60, 55, 50, 45, ..., 5; ")
    assert in_words([Mode("RG10", 1, 1)]) == "nothing that its driver lists"
