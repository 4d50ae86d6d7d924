from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.overlay.banner import draw_banner, draw_lost_banner, duration_text, lost_texts
from edge_mnv2.overlay.drawing import style_of, text_size
from edge_mnv2.results import CameraStatus

GREY = 200
DIMMED = 80
NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=timezone.utc).astimezone()
SIZES = [(160, 120), (320, 240), (640, 480), (1920, 1080), (3840, 2160)]


def status(
    state: str = "reconnecting", reason: str = "It does not answer.", ago_s: float = 12
) -> CameraStatus:
    since = (NOW - timedelta(seconds=ago_s)).astimezone(timezone.utc)
    return CameraStatus("rtsp://garden", state, reason, NOW, lost_since=since, attempt=1)


def canvas(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, np.uint8)


def strip(image: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the first row of the strip, and the one behind it."""
    rows = np.flatnonzero((image != DIMMED).any(axis=(1, 2)))
    return int(rows[0]), int(rows[-1]) + 1


def spoken(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.replace("\N{NO-BREAK SPACE}", " ") for text in texts)


def test_it_says_since_when_for_how_long_why_and_what_is_done() -> None:
    clock = f"{NOW - timedelta(seconds=12):%H:%M:%S}"
    lost = f"camera lost since {clock} (12 s)"
    assert spoken(lost_texts(status(), NOW)) == (
        f"{lost}: It does not answer, reconnecting",
        f"{lost}, reconnecting",
        lost,
        "lost 12 s",
        "lost",
    )
    assert spoken(lost_texts(status("stalled", ""), NOW))[0] == f"{lost}, waiting"


def test_a_loss_of_yesterday_has_its_date() -> None:
    since = NOW - timedelta(days=1, hours=2)
    text = spoken(lost_texts(status(ago_s=26 * 3600), NOW))[2]
    assert text == f"camera lost since {since:%Y-%m-%d %H:%M} (1 d 2 h)"


def test_a_camera_that_never_came_has_no_time() -> None:
    never = CameraStatus("rtsp://garden", "reconnecting", "It does not answer.", NOW)
    assert lost_texts(never, NOW)[0] == "no picture yet: It does not answer, reconnecting"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_picture_is_dimmed_and_a_readable_strip_lies_across_it(width: int, height: int) -> None:
    image = canvas(width, height)
    draw_lost_banner(image, status(), NOW)
    first, end = strip(image)
    assert abs((first + end) / 2 - height / 2) <= 2
    assert 12 <= end - first <= height * 0.7
    band = image[first:end]
    letters = (band.min(axis=2) > 200).sum()
    assert letters > 100
    # Nothing is cut at the sides.
    assert (band[:, [0, -1]] < 100).all()


def test_a_reason_too_long_is_left_out_and_not_cut() -> None:
    short, long = canvas(160, 120), canvas(160, 120)
    draw_lost_banner(short, status(reason=""), NOW)
    draw_lost_banner(long, status(reason="It does not answer. " * 20), NOW)
    assert np.array_equal(short, long)
    wide = canvas(1280, 720)
    draw_lost_banner(wide, status(reason="It does not answer. " * 5), NOW)
    first, end = strip(wide)
    assert end - first > 720 / 30 * 3, "it has several lines"


def test_a_number_stays_beside_its_unit() -> None:
    together, apart = canvas(640, 480), canvas(640, 480)
    style = style_of(together)
    # So long that the number would still fit beside it, but not its unit.
    word = next(w for n in range(999) if text_size(f"{(w := 'i' * n)} 12 s", style)[0] > 640)
    assert text_size(f"{word} 12", style)[0] <= 640
    draw_banner(together, f"{word} 12\N{NO-BREAK SPACE}s")
    draw_banner(apart, f"{word} 12 s")
    assert not np.array_equal(together, apart)


@given(st.integers(1, 120), st.integers(1, 120), st.text(max_size=80))
@settings(deadline=None, max_examples=60)
def test_any_picture_takes_any_text(width: int, height: int, reason: str) -> None:
    image = canvas(width, height)
    draw_lost_banner(image, status(reason=reason), NOW)
    assert (image != GREY).any()
