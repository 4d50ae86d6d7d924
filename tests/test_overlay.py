from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_mnv2.overlay import Hud, class_colour, draw_overlay
from edge_mnv2.overlay.drawing import style_of, text_size
from edge_mnv2.readings import DeviceReading, Reading, Throttling
from edge_mnv2.results import Result
from tests.samples import CLASSIFIER_LABELS, LABELS, classification, detections, segmentation

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


@pytest.mark.parametrize("count", [20, 90])
def test_classes_of_one_picture_can_be_told_apart(count: int) -> None:
    colours = np.array([class_colour(class_id) for class_id in range(1, count + 1)])
    differences = np.abs(colours[:, None] - colours[None]).sum(axis=2)
    assert differences[np.triu_indices(count, k=1)].min() >= {20: 70, 90: 15}[count]


def test_labels_in_any_script_become_drawable() -> None:
    image = canvas(320, 240)
    draw_overlay(image, detections((50, 50, 200, 200, 0.5, 1)), {1: "Fußgänger 歩行者"})
    assert changed(image).any()


def test_the_hud_says_rate_latency_and_drops() -> None:
    assert Hud(24.46, 31.2, 7).lines() == ("24.5 FPS  31 ms  dropped 7", "24.5 FPS  31 ms", "24.5 FPS")
    assert Hud(None, 0, 0).lines()[-1] == "-- FPS"
    device = DeviceReading(
        temperature_c=Reading(61.4, "measured", "cpu-thermal"),
        power_w=Reading(5.04, "estimated", "PMIC"),
        throttling=Throttling(now=frozenset({"under-voltage"})),
    )
    assert Hud(24.46, 31.2, 7, device).lines()[:3] == (
        "24.5 FPS  31 ms  under-voltage  ~5.0 W  61 C  dropped 7",
        "24.5 FPS  31 ms  under-voltage  ~5.0 W  61 C",
        "24.5 FPS  31 ms  under-voltage  ~5.0 W",
    )
    # What is unavailable is left out, not shown as 0.
    assert Hud(24.46, 31.2, 7, DeviceReading()).lines() == Hud(24.46, 31.2, 7).lines()


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


@pytest.fixture
def drawn_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written onto pictures, in the order in which it is written."""
    texts: list[str] = []
    put_text = cv2.putText

    def spy(image: NDArray[np.uint8], text: str, *arguments: object) -> object:
        texts.append(text)
        return put_text(image, text, *arguments)  # type: ignore[call-overload]

    monkeypatch.setattr(cv2, "putText", spy)
    return texts


def line_height(text: str, width: int, height: int) -> int:
    """Return how high a text with its ground is on a picture."""
    return text_size(text, style_of(canvas(width, height)))[1]


def is_colour(image: NDArray[np.uint8], class_id: int) -> NDArray[np.bool_]:
    """Return which pixels have a class's own colour, neither blended nor smoothed."""
    return (image == np.array(class_colour(class_id), np.uint8)).all(axis=2)


def three_areas(width: int, height: int) -> NDArray[np.uint8]:
    """A map whose lower half shows class 1 for a third, then background, then classes 2 and 3."""
    areas = np.zeros((height, width), np.uint8)
    lower = areas[height // 2 :]
    lower[:, : width // 3] = 1
    lower[:, width // 2 : width * 3 // 4] = 2
    lower[:, width * 3 // 4 :] = 3
    return areas


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_areas_are_tinted_and_what_is_none_stays_as_it_was(width: int, height: int) -> None:
    before = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    image, areas = before.copy(), three_areas(width, height)
    draw_overlay(image, segmentation(areas), LABELS)
    # Away from outlines and legend.
    near = np.ones((2 * max(2, height // 100) + 1,) * 2, np.uint8)
    inside = cv2.dilate(areas, near) == cv2.erode(areas, near)
    inside[: height // 2] = False
    for class_id in (1, 2, 3):
        here = inside & (areas == class_id)
        expected = before[here] * 0.5 + np.array(class_colour(class_id)) * 0.5
        assert here.sum() > 0.05 * areas.size
        assert np.abs(image[here] - expected).max() <= 1
    background = inside & (areas == 0)
    assert background.sum() > 0.05 * areas.size
    np.testing.assert_array_equal(image[background], before[background])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_areas_have_outlines_as_wide_as_boxes_have(width: int, height: int) -> None:
    image = canvas(width, height)
    draw_overlay(image, segmentation(three_areas(width, height)), LABELS)
    line = max(1, round(min(width, height) / 240))
    row = image[height * 3 // 4 : height * 3 // 4 + 1]
    # From the left: where 1 ends, where 2 begins, where 3 takes over from 2.
    for class_id, border in ((1, width // 3), (2, width // 2), (3, width * 3 // 4)):
        columns = np.flatnonzero(is_colour(row, class_id)[0])
        assert len(columns) == line
        assert (np.abs(columns - border) <= line).all()
    upper = np.flatnonzero(is_colour(image[height // 3 :, width // 6 : width // 6 + 1], 1)) + height // 3
    assert len(upper) == line
    assert (np.abs(upper - height // 2) <= line).all()


def test_an_area_that_fills_the_picture_has_no_outline() -> None:
    image = canvas(320, 240)
    draw_overlay(image, segmentation(np.ones((240, 320))), {})
    np.testing.assert_allclose(
        image[100:], (np.array(class_colour(1)) + GREY) / 2 + np.zeros((140, 320, 3)), atol=1
    )


def test_the_legend_has_the_classes_that_are_there_and_nothing_else(drawn_texts: list[str]) -> None:
    image = canvas(320, 240)
    areas = np.zeros((240, 320), np.uint8)
    areas[200:, 10:30], areas[100:200, 10:50] = 1, 7
    draw_overlay(image, segmentation(areas), LABELS | {3: "not here"})
    assert drawn_texts == ["7 5%", "person 1%"]
    legend = image[:60]
    for class_id in range(1, 256):
        shown = is_colour(legend, class_id)
        assert shown.any() == (class_id in (1, 7))
        if shown.any():
            columns = np.flatnonzero(shown.any(axis=0))
            assert columns.max() == 319
            assert columns.min() > 160
            assert shown.sum() > 200
    # One below the other, the larger class first.
    assert (
        np.flatnonzero(is_colour(legend, 7).any(axis=1))[-1]
        < np.flatnonzero(is_colour(legend, 1).any(axis=1))[0]
    )


def test_the_legend_never_says_that_nothing_is_there(drawn_texts: list[str]) -> None:
    areas = np.zeros((240, 320), np.uint8)
    areas[100, 10:20], areas[200, :300], areas[150:152, :300] = 1, 2, 3
    draw_overlay(canvas(320, 240), segmentation(areas), LABELS)
    assert drawn_texts == ["3 1%", "bicycle <1%", "person <1%"]


def test_a_legend_that_has_no_room_says_how_many_are_left_out(drawn_texts: list[str]) -> None:
    areas = np.zeros((100, 100), np.uint8)
    areas[50:, :60] = np.repeat(np.arange(1, 31), 2)
    draw_overlay(canvas(100, 100), segmentation(areas), {})
    assert len(drawn_texts) == 100 // line_height("1 1%", 100, 100)
    assert drawn_texts[:-1] == [f"{class_id} 1%" for class_id in range(1, len(drawn_texts))]
    assert drawn_texts[-1] == f"+ {30 - len(drawn_texts) + 1}"
    drawn_texts.clear()
    draw_overlay(canvas(100, 14), segmentation(np.ones((1, 1))), {})
    assert drawn_texts == ["1 100%"]


@pytest.mark.parametrize("shape", [(240, 320), (24, 32), (1, 1)])
def test_a_map_without_areas_draws_nothing(shape: tuple[int, int]) -> None:
    image, with_hud, hud_alone = canvas(320, 240), canvas(320, 240), canvas(320, 240)
    draw_overlay(image, segmentation(np.zeros(shape)), LABELS)
    assert not changed(image).any()
    draw_overlay(with_hud, segmentation(np.zeros(shape)), LABELS, Hud(24.5, 31.0, 2))
    draw_overlay(hud_alone, detections(), LABELS, Hud(24.5, 31.0, 2))
    assert changed(with_hud).any()
    np.testing.assert_array_equal(with_hud, hud_alone)


@pytest.mark.parametrize("enlarged", [2, 5])
def test_a_map_of_another_resolution_covers_the_whole_picture(enlarged: int, drawn_texts: list[str]) -> None:
    """A coarse map looks like the same areas drawn at the picture's own resolution; a finer one, too."""
    image, expected = canvas(320, 240), canvas(320, 240)
    coarse = three_areas(320 // enlarged, 240 // enlarged)
    draw_overlay(image, segmentation(coarse), LABELS)
    draw_overlay(expected, segmentation(np.kron(coarse, np.ones((enlarged, enlarged)))), LABELS)
    np.testing.assert_array_equal(image, expected)
    finer = canvas(320, 240)
    draw_overlay(finer, segmentation(np.kron(three_areas(320, 240), np.ones((enlarged, enlarged)))), LABELS)
    own = canvas(320, 240)
    draw_overlay(own, segmentation(three_areas(320, 240)), LABELS)
    np.testing.assert_array_equal(finer, own)
    assert drawn_texts[:3] == drawn_texts[3:6]
    assert drawn_texts[6:9] == drawn_texts[9:12]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_status_line_hides_nothing_of_the_legend(width: int, height: int, drawn_texts: list[str]) -> None:
    """Beside it where there is room, else below it."""
    labels = {1: "person", 2: "bicycle", 3: "car"}
    areas = three_areas(width, height)
    areas[: height * 3 // 4] = 0  # far below the legend
    with_hud, without = canvas(width, height), canvas(width, height)
    draw_overlay(without, segmentation(areas), labels)
    draw_overlay(with_hud, segmentation(areas), labels, Hud(24.5, 31.0, 2))
    assert drawn_texts[-1].startswith("24.5 FPS  31 ms")  # shorter where fonts are wide
    assert drawn_texts[:3] == drawn_texts[3:6]
    for class_id in (1, 2, 3):
        assert is_colour(with_hud, class_id).sum() == is_colour(without, class_id).sum() > 100


@settings(deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=60), elements=st.integers(0, 255)),
    st.integers(1, 200),
    st.integers(1, 200),
)
def test_any_map_on_any_picture_is_drawn_without_complaint(
    class_id: NDArray[np.uint8], width: int, height: int
) -> None:
    image, before = canvas(width, height), class_id.copy()
    found = segmentation(class_id)
    draw_overlay(image, found, LABELS, Hud(None, 0, 0))
    assert image.shape == (height, width, 3)
    np.testing.assert_array_equal(found.class_id, before)


def test_classes_are_listed_best_first_below_the_status_line(drawn_texts: list[str]) -> None:
    image = canvas(320, 240)
    found = classification((2, 0.712), (0, 0.2), (9, 0.05))
    draw_overlay(image, found, CLASSIFIER_LABELS, Hud(24.5, 31.0, 2))
    assert drawn_texts == ["0.71 great white shark", "0.20 tench", "0.05 9", "24.5 FPS  31 ms  dropped 2"]
    tops = [np.flatnonzero(is_colour(image, class_id)[:, 0])[0] for class_id in (2, 0, 9)]
    assert tops == sorted(tops)
    hud_alone = canvas(320, 240)
    draw_overlay(hud_alone, classification(), CLASSIFIER_LABELS, Hud(24.5, 31.0, 2))
    np.testing.assert_array_equal(image[: tops[0]], hud_alone[: tops[0]])
    assert changed(hud_alone)[: tops[0]].any()
    assert not changed(hud_alone)[tops[0] :].any()
    # Letters on a ground of the class's colour; the rest of the picture is to be seen.
    for class_id in (2, 0, 9):
        assert is_colour(image, class_id).sum() > 200
    assert not changed(image)[120:].any()
    assert not changed(image)[:, 200:].any()


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_listed_classes_keep_a_readable_size(width: int, height: int) -> None:
    image = canvas(width, height)
    draw_overlay(image, classification((1, 0.9)), {1: "cat"})
    rows = np.flatnonzero(changed(image).any(axis=1))
    assert rows[0] == 0
    assert 11 <= rows[-1] + 1 <= height * 0.15


def test_only_as_many_classes_as_fit_are_listed(drawn_texts: list[str]) -> None:
    image = canvas(160, 40)
    found = classification(*((class_id, 0.1) for class_id in range(9)))
    draw_overlay(image, found, {})
    assert drawn_texts == [f"0.10 {class_id}" for class_id in range(len(drawn_texts))]
    assert len(drawn_texts) == 40 // line_height("0.10 0", 160, 40)
    draw_overlay(small := canvas(8, 8), found, {})
    assert not changed(small).any()


@pytest.mark.parametrize("found", [segmentation(np.ones((24, 32))), classification((1, 0.5))])
def test_every_result_has_labels_in_characters_that_can_be_drawn(
    found: Result, drawn_texts: list[str]
) -> None:
    draw_overlay(canvas(320, 240), found, {1: "Fußgänger 歩"})
    (text,) = drawn_texts
    assert "Fu?ganger ?" in text
