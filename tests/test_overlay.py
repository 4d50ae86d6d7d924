from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.overlay import Hud, class_colour, draw_overlay
from tests.samples import detections

SIZES = [(160, 120), (320, 240), (640, 272), (1280, 720), (1920, 1080), (3840, 2160)]
GREY = 90


def canvas(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, np.uint8)


def changed(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (image != GREY).any(axis=2)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_box_and_label_are_drawn_in_the_classes_colour(width: int, height: int) -> None:
    image = canvas(width, height)
    box = (width * 0.3, height * 0.4, width * 0.7, height * 0.9)
    draw_overlay(image, detections((*box, 0.87, 1)), {1: "person"})
    colour = np.array(class_colour(1))
    middle = int(height * 0.65)
    left = image[middle, max(0, int(box[0]) - 3) : int(box[0]) + 4].astype(int)
    assert (np.abs(left - colour).max(axis=1) < 40).any()
    label = image[: int(height * 0.4)]
    background = (np.abs(label.astype(int) - colour).max(axis=2) < 10).sum()
    letters = (label.max(axis=2) < 60).sum() + (label.min(axis=2) > 230).sum()
    assert background > 200
    assert letters > 15
    # Nothing is drawn inside the box: a picture is to be seen.
    assert not changed(image)[
        int(height * 0.6) : int(height * 0.7), int(width * 0.4) : int(width * 0.6)
    ].any()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_text_keeps_a_readable_size(width: int, height: int) -> None:
    image = canvas(width, height)
    draw_overlay(image, detections(), {}, Hud(24.5, 31.0, 2))
    rows = np.flatnonzero(changed(image).any(axis=1))
    columns = np.flatnonzero(changed(image).any(axis=0))
    assert 11 <= rows[-1] + 1 <= height * 0.15
    assert columns[-1] < width


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.lists(
        st.tuples(
            st.floats(-50, 250),
            st.floats(-50, 250),
            st.floats(-50, 250),
            st.floats(-50, 250),
            st.floats(0, 1),
            st.integers(0, 90),
        ),
        max_size=8,
    ),
)
@settings(deadline=None)
def test_any_box_on_any_picture_is_drawn_without_complaint(
    width: int, height: int, rows: list[tuple[float, float, float, float, float, int]]
) -> None:
    image = canvas(width, height)
    draw_overlay(image, detections(*rows), {1: "person"}, Hud(None, 0, 0))
    assert image.shape == (height, width, 3)


def test_labels_do_not_cover_each_other() -> None:
    image = canvas(640, 480)
    boxes = [(100, 100, 300, 300, 0.9, 1), (104, 102, 290, 310, 0.8, 2)]
    draw_overlay(image, detections(*boxes), {1: "person", 2: "bicycle"})
    for class_id in (1, 2):
        colour = np.array(class_colour(class_id))
        assert (np.abs(image.astype(int) - colour).max(axis=2) < 10).sum() > 700


def test_a_class_keeps_its_colour_and_neighbours_differ() -> None:
    colours = [np.array(class_colour(class_id)) for class_id in range(1, 91)]
    assert (colours[4] == class_colour(5)).all()
    for one, next_one in itertools.pairwise(colours):
        assert np.abs(one - next_one).sum() > 120


def test_labels_in_any_script_become_drawable() -> None:
    image = canvas(320, 240)
    draw_overlay(image, detections((50, 50, 200, 200, 0.5, 1)), {1: "Fußgänger 歩行者"})
    assert changed(image).any()


def test_the_hud_says_rate_latency_and_drops() -> None:
    assert Hud(24.46, 31.2, 7).lines() == ("24.5 FPS  31 ms  dropped 7", "24.5 FPS  31 ms", "24.5 FPS")
    assert Hud(None, 0, 0).lines()[2] == "-- FPS"


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_hud_hides_no_label(width: int, height: int) -> None:
    found = detections((1, 1, width * 0.4, height * 0.5, 0.9, 1))
    with_hud, without = canvas(width, height), canvas(width, height)
    draw_overlay(with_hud, found, {1: "person"}, Hud(24.5, 31.0, 0))
    draw_overlay(without, found, {1: "person"})
    pixels = [
        (np.abs(image.astype(int) - class_colour(1)).max(axis=2) < 10).sum() for image in (with_hud, without)
    ]
    assert pixels[0] > 0.8 * pixels[1]
