from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from camera import CameraError, Frame, SourceInfo, UnsupportedSourceError
from camera.options import Transform
from camera.transform import (
    Transformed,
    parse_crop,
    transform_image,
    transformed_size,
)

ROTATIONS = (0, 90, 180, 270)
FLIPS = (None, "horizontal", "vertical", "both")


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Return a picture in which no two pixels next to each other are the same."""
    return (np.arange(height * width * 3) % 251).astype(np.uint8).reshape(height, width, 3)


def pixel_by_pixel(image: NDArray[np.uint8], transform: Transform) -> NDArray[np.uint8]:
    """Return what is expected, by the definition of each step."""
    x, y, width, height = transform.crop or (0, 0, image.shape[1], image.shape[0])
    rows = [[image[y + row, x + column] for column in range(width)] for row in range(height)]
    for _ in range(transform.rotate // 90):
        # Clockwise: the left column becomes the top row, its lowest pixel first.
        rows = [[rows[len(rows) - 1 - k][column] for k in range(len(rows))] for column in range(len(rows[0]))]
    if transform.flip in ("horizontal", "both"):
        rows = [row[::-1] for row in rows]
    if transform.flip in ("vertical", "both"):
        rows = rows[::-1]
    return np.array(rows, np.uint8)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[int, int, Transform]:
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    crop = None
    if draw(st.booleans()):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        crop = (x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y)))
    return width, height, Transform(crop, draw(st.sampled_from(ROTATIONS)), draw(st.sampled_from(FLIPS)))


@given(tasks())
def test_pixels_go_where_they_belong(task: tuple[int, int, Transform]) -> None:
    width, height, transform = task
    image = picture(width, height)
    kept = image.copy()
    changed = transform_image(image, transform)
    np.testing.assert_array_equal(changed, pixel_by_pixel(image, transform))
    np.testing.assert_array_equal(image, kept)
    assert changed.flags.c_contiguous
    assert changed.dtype == np.uint8
    assert transformed_size((width, height), transform) == changed.shape[1::-1]


def test_nothing_to_do_costs_no_copy() -> None:
    image = picture(8, 4)
    assert transform_image(image, Transform()) is image


def test_a_top_left_mark_turns_clockwise() -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 9
    assert transform_image(image, Transform(rotate=90))[0, 1, 0] == 9
    assert transform_image(image, Transform(rotate=270))[2, 0, 0] == 9
    assert transform_image(image, Transform(flip="horizontal"))[0, 2, 0] == 9


@pytest.mark.parametrize("crop", [(1, 0, 8, 4), (0, 1, 8, 4), (-1, 0, 4, 4), (0, 0, 0, 1), (8, 0, 1, 1)])
def test_a_crop_beyond_the_frame_names_both(crop: tuple[int, int, int, int]) -> None:
    x, y, width, height = crop
    with pytest.raises(CameraError, match=rf"{x},{y},{width}x{height} .* frame of 8x4"):
        transform_image(picture(8, 4), Transform(crop))


@dataclass
class Source:
    """Gives out the pictures that it holds, and counts what comes back."""

    sizes: list[tuple[int, int]]
    size: tuple[int, int] | None
    released: list[int] = field(default_factory=list)
    closed: int = 0
    _seq: itertools.count[int] = field(default_factory=itertools.count)

    def open(self) -> SourceInfo:
        return SourceInfo("source", live=True, fps=30, frames=None, size=self.size)

    def read(self) -> Frame:
        seq = next(self._seq)
        return Frame(picture(*self.sizes[seq]), seq, 1000 + seq, "source", lambda: self.released.append(seq))

    def close(self) -> None:
        self.closed += 1


def test_a_source_is_transformed_and_gets_its_buffers_back() -> None:
    inner = Source([(8, 4), (6, 5)], (8, 4))
    source = Transformed(inner, Transform((0, 0, 6, 3), 90))
    assert source.open().size == (3, 6)
    with source.read() as frame:
        assert frame.image.shape == (6, 3, 3)
        assert (frame.seq, frame.captured_ns, frame.origin) == (0, 1000, "source")
        # The copy is ours: the source may fill its buffer again.
        assert inner.released == [0]
    assert source.read().image.shape == (6, 3, 3)
    source.close()
    assert inner.closed == 1


def test_a_frame_that_stays_as_it_is_keeps_its_buffer() -> None:
    inner = Source([(8, 4)], None)
    source = Transformed(inner, Transform())
    assert source.open().size is None
    with source.read():
        assert inner.released == []
    assert inner.released == [0]


def test_a_crop_beyond_the_first_frame_fails_at_once_and_leaves_nothing_open() -> None:
    inner = Source([], (8, 4))
    with pytest.raises(UnsupportedSourceError, match="frame of 8x4"):
        Transformed(inner, Transform((0, 0, 9, 4))).open()
    assert inner.closed == 1


def test_a_frame_that_became_too_small_is_given_back() -> None:
    inner = Source([(8, 4), (4, 2)], (8, 4))
    source = Transformed(inner, Transform((0, 0, 8, 4)))
    source.open()
    source.read().release()
    with pytest.raises(CameraError, match="frame of 4x2"):
        source.read()
    assert inner.released == [0, 1]


def test_how_a_crop_is_written() -> None:
    assert parse_crop("160,0,960x720") == parse_crop(" 160, 0, 960 x 720 ") == (160, 0, 960, 720)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3x0", "1,2,-3x4", "1,2,3x4x5", "٣,0,1x1"])
def test_a_wrong_crop_says_what_is_right(text: str) -> None:
    with pytest.raises(UnsupportedSourceError, match="X,Y,WIDTHxHEIGHT"):
        parse_crop(text)
