from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from camera.pictures import read_picture
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.deeplabv3 import LOGITS_OUTPUT, DeepLab
from edge_mnv2.networks.upsampling import Samples, samples_at, upsampled_argmax
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import load_model
from engines import OnnxRuntimeEngine, allocate_inputs

Logits = NDArray[np.float32]
Map = NDArray[np.uint8]


def dense_argmax(logits: Logits, rows: Samples, columns: Samples) -> Map:
    """Interpolate every class at every pixel, and take the largest: what the fast way must equal."""
    fx, left, one = columns.share, columns.cell, np.float32(1)
    lines = []
    for above, fy in zip(rows.cell, rows.share, strict=True):
        a, b = logits[:, above, left], logits[:, above, left + 1]
        c, d = logits[:, above + 1, left], logits[:, above + 1, left + 1]
        values = (one - fy) * ((one - fx) * a + fx * b) + fy * ((one - fx) * c + fx * d)
        assert values.dtype == np.float32
        lines.append(values.argmax(axis=0))
    return np.array(lines, np.uint8)


def pixels_on(points: int, pixels: int) -> Samples:
    """Return so many pixels over a whole axis, the first and the last on its ends."""
    return samples_at(np.linspace(0, points - 1, pixels), points)


def assert_equal_to_dense(logits: Logits, rows: Samples, columns: Samples) -> Map:
    found = upsampled_argmax(logits, rows, columns)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, dense_argmax(logits, rows, columns))
    return found


# Ties of two and of all classes, leads that rounding closes up, and one that it does not.
NEAR = np.nextafter(np.float32(1), np.float32(2))
VALUES = {
    "ties": [0.0, 1.0],
    "near ties": [1.0, NEAR, 1 + 1e-6, 1 + 1e-5],
    "signs": [-1.0, -0.0, 0.0, 1.0],
    "apart": [-3.0, 0.1, 7.3],
}


@settings(max_examples=120, deadline=None)
@given(
    grid=st.tuples(st.integers(1, 40), st.integers(2, 6), st.integers(2, 6)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    values=st.sampled_from(sorted(VALUES)),
    magnitude=st.sampled_from([1.0, 1e30, 1e-30, 1e-42]),
    seed=st.integers(0, 1000),
)
def test_equals_interpolating_everything(
    grid: tuple[int, int, int], size: tuple[int, int], values: str, magnitude: float, seed: int
) -> None:
    """Grids smaller and larger than the picture, one class and many, at the ends of float32."""
    generator = np.random.default_rng(seed)
    logits = generator.choice(np.array(VALUES[values], np.float32), grid) * np.float32(magnitude)
    assert_equal_to_dense(logits, pixels_on(grid[1], size[0]), pixels_on(grid[2], size[1]))


@settings(max_examples=40, deadline=None)
@given(
    grid=st.tuples(st.integers(2, 25), st.integers(2, 5), st.integers(2, 5)),
    shares=st.tuples(*[st.lists(st.floats(0, 1), min_size=1, max_size=12)] * 2),
    seed=st.integers(0, 1000),
)
def test_pixels_may_lie_anywhere(
    grid: tuple[int, int, int], shares: tuple[list[float], list[float]], seed: int
) -> None:
    """Cells with many pixels, with one, and with none; smooth logits, where few classes meet in a cell."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=(grid[0], 2, 2)).astype(np.float32)
    logits = np.stack([cv2.resize(plane, grid[:0:-1], interpolation=cv2.INTER_LINEAR) for plane in coarse])
    rows, columns = (
        samples_at(np.sort(share) * (points - 1), points)
        for share, points in zip(shares, grid[1:], strict=True)
    )
    assert_equal_to_dense(logits, rows, columns)


def test_of_equal_classes_the_first_wins() -> None:
    logits = np.full((30, 3, 4), 2.5, np.float32)
    assert not upsampled_argmax(logits, pixels_on(3, 9), pixels_on(4, 9)).any()
    logits[[4, 11]] = 3
    assert (upsampled_argmax(logits, pixels_on(3, 9), pixels_on(4, 9)) == 4).all()


def test_a_class_that_wins_at_no_grid_point_may_win_between_them() -> None:
    """Second best at both ends, but best in the middle: filling from the corners would never find it."""
    ends = np.array([[10, 0], [0, 10], [6, 6]], np.float32)
    logits = np.repeat(ends[:, None], 2, axis=1)
    found = assert_equal_to_dense(logits, pixels_on(2, 3), pixels_on(2, 11))
    assert found[0].tolist() == [0] * 5 + [2] + [1] * 5


def test_a_lead_that_rounding_closes_up_is_a_tie() -> None:
    """Class 1 leads at every corner by the last bit; where interpolation loses it, class 0 comes first."""
    logits = np.full((2, 2, 2), 1, np.float32)
    logits[1] = NEAR
    found = assert_equal_to_dense(logits, pixels_on(2, 64), pixels_on(2, 64))
    assert set(np.unique(found)) == {0, 1}


@pytest.mark.parametrize("at_frame_resolution", [False, True])
@pytest.mark.parametrize("name", ["000000025560.jpg", "000000037777.jpg"])
def test_real_logits_at_input_and_frame_resolution(
    pictures: Path, name: str, at_frame_resolution: bool
) -> None:
    """One picture larger than the network's input, one smaller, with three classes each."""
    model = load_model("deeplabv3-mnv2-voc")
    network = DeepLab(model.spec, at_frame_resolution=at_frame_resolution)
    frame = read_picture(pictures / name)
    engine = OnnxRuntimeEngine(ensure_graph(model))
    feeds = allocate_inputs(engine.inputs)
    geometry = network.prepare(frame, feeds[INPUT_NAME])
    outputs = engine.run(feeds)
    found = network.decode(outputs, geometry).class_id
    engine.close()
    axes = []
    for pixels, content in zip(
        frame.shape[:2], (geometry.content_height, geometry.content_width), strict=True
    ):
        centres = np.arange(content, dtype=np.float64)
        if at_frame_resolution:  # a pixel has its centre in the middle
            centres = np.clip((np.arange(pixels) + 0.5) * (content / pixels) - 0.5, 0, content - 1)
        axes.append(samples_at(centres * (32 / 512), 33))  # corners on corners, as TensorFlow does it
    np.testing.assert_array_equal(found, dense_argmax(outputs[LOGITS_OUTPUT][0], *axes))
    assert len(np.unique(found)) == 3
