from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.networks.base import Geometry
from edge_mnv2.networks.deeplabv3 import DeepLab, DeepLabSpec, build_deeplabv3, fit
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.weight_sources import random_weights, shapes_only
from edge_mnv2.zoo.graph_store import ensure_graph
from edge_mnv2.zoo.model import DecoderOptions, Model, Variant, load_model, make_network
from engines import OnnxRuntimeEngine
from tests.conftest import read_golden

Golden = dict[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.float32]]

SIDES = st.integers(1, 3000)
INPUT_SIDES = st.integers(32, 200)


@pytest.fixture(scope="module")
def golden() -> Golden:
    """TensorFlow's own outputs for the embedded model's original, at output stride 8."""
    return read_golden("deeplabv3_voc_os8.npz")


@pytest.fixture(scope="module")
def model() -> Model:
    """The embedded model as its original was exported."""
    return load_model("deeplabv3-mnv2-voc", Variant(output_stride=8))


@pytest.fixture(scope="module")
def outputs(model: Model, golden: Golden) -> Outputs:
    """What the float32 graph gives for the golden picture."""
    engine = OnnxRuntimeEngine(ensure_graph(model, "fp32"))
    return engine.run({"image": np.ascontiguousarray(golden["image_rgb"][None, ..., ::-1])})


def whole(size: tuple[int, int]) -> Geometry:
    """Return the geometry of a frame that has just the input's size (height, width)."""
    return Geometry(size[1], size[0], content_width=size[1], content_height=size[0])


def test_embedded_weights_give_tensorflows_logits(outputs: Outputs, golden: Golden) -> None:
    expected = golden["logits"]
    assert (expected.shape, expected.dtype) == ((65, 65, 21), np.float16)
    # The file has them in float16: each may be off by half of the distance to its neighbours.
    rounding = np.abs(np.spacing(expected)).astype(np.float64) / 2
    differences = np.abs(outputs["logits"][0].transpose(1, 2, 0) - expected.astype(np.float64))
    assert (differences - rounding).max() < 1e-3


def test_the_classes_of_the_pixels_are_tensorflows(model: Model, outputs: Outputs, golden: Golden) -> None:
    found = make_network(model).decode(outputs, whole((513, 513))).class_id
    assert found.shape == golden["classes"].shape == (513, 513)
    assert (found == golden["classes"]).mean() >= 0.999


def test_the_objects_would_be_tensorflows_too(outputs: Outputs, golden: Golden) -> None:
    """The golden picture shows none: without the background, TensorFlow's logits still have a best class."""
    objects = DeepLab(DeepLabSpec(20)).decode({"logits": outputs["logits"][:, 1:]}, whole((513, 513)))
    position = np.arange(513) * 64 / 512
    corner_weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(65)))
    logits = golden["logits"][..., 1:].astype(np.float64)
    dense = np.einsum("yr,rck,xc->kyx", corner_weights, logits, corner_weights, optimize=True)
    assert len(np.unique(dense.argmax(axis=0))) >= 3
    assert (objects.class_id == dense.argmax(axis=0)).mean() >= 0.999


def test_only_the_classes_asked_for_are_reported(model: Model) -> None:
    logits = np.random.default_rng(0).normal(0, 1, (1, 21, 65, 65)).astype(np.float32)
    everything = make_network(model).decode({"logits": logits}, whole((513, 513))).class_id
    assert np.unique(everything).tolist() == list(range(21))
    for wanted in ({15}, {1, 20}, set(range(1, 21))):
        options = DecoderOptions(classes=[model.labels[class_id] for class_id in wanted])
        some = make_network(model, options).decode({"logits": logits}, whole((513, 513))).class_id
        np.testing.assert_array_equal(some, np.where(np.isin(everything, list(wanted)), everything, 0))
        assert some.dtype == np.uint8


@settings(deadline=None)
@given(SIDES, SIDES, INPUT_SIDES, INPUT_SIDES)
@example(1, 3000, 32, 200)
@example(3000, 1, 32, 32)
def test_a_frame_keeps_its_proportions_and_touches_two_sides(
    frame_width: int, frame_height: int, width: int, height: int
) -> None:
    found = fit(frame_width, frame_height, (height, width))
    assert (found.frame_width, found.frame_height) == (frame_width, frame_height)
    assert 1 <= found.content_width <= width
    assert 1 <= found.content_height <= height
    assert found.content_width == width or found.content_height == height
    scale = min(width / frame_width, height / frame_height)
    # To the pixel; what would vanish is one pixel wide.
    assert abs(found.content_width - max(1, frame_width * scale)) <= 0.5 + 1e-9
    assert abs(found.content_height - max(1, frame_height * scale)) <= 0.5 + 1e-9


@settings(deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), INPUT_SIDES, INPUT_SIDES)
@example(513, 513, 513, 513)
def test_prepare_puts_the_frame_at_the_top_left_and_grey_around_it(
    frame_width: int, frame_height: int, width: int, height: int
) -> None:
    network = DeepLab(DeepLabSpec(21, (height, width)))
    image = np.full((frame_height, frame_width, 3), (10, 20, 30), np.uint8)
    image.flags.writeable = False
    tensor = np.full((1, height, width, 3), 99, np.uint8)
    geometry = network.prepare(image, tensor)
    assert geometry == fit(frame_width, frame_height, (height, width))
    inside = tensor[0, : geometry.content_height, : geometry.content_width]
    assert (inside == (10, 20, 30)).all()
    outside = np.ones((height, width), np.bool_)
    outside[: geometry.content_height, : geometry.content_width] = False
    assert (tensor[0][outside] == 127).all()


@pytest.mark.parametrize(("frame_width", "frame_height"), [(320, 240), (240, 320), (64, 48), (65, 65)])
def test_prepare_shows_the_whole_frame(frame_width: int, frame_height: int) -> None:
    """Each quarter of the frame is in the same quarter of the content; colours stay where they are."""
    colours = np.array([[(250, 0, 0), (0, 250, 0)], [(0, 0, 250), (250, 250, 0)]], np.uint8)
    rows, columns = np.arange(frame_height) * 2 // frame_height, np.arange(frame_width) * 2 // frame_width
    image = colours[rows][:, columns]
    tensor = np.zeros((1, 65, 129, 3), np.uint8)
    geometry = DeepLab(DeepLabSpec(21, (65, 129))).prepare(image, tensor)
    width, height = geometry.content_width, geometry.content_height
    for row in (0, 1):
        for column in (0, 1):
            y, x = (height // 4, height * 3 // 4)[row], (width // 4, width * 3 // 4)[column]
            assert (tensor[0, y, x] == colours[row, column]).all()
    for y, x in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
        assert (tensor[0, y, x] == colours[int(y > 0), int(x > 0)]).all()


def test_a_frame_of_the_inputs_size_is_not_touched(golden: Golden) -> None:
    image = np.ascontiguousarray(golden["image_rgb"][..., ::-1])
    tensor = np.zeros((1, 513, 513, 3), np.uint8)
    assert DeepLab(DeepLabSpec(21)).prepare(image, tensor) == whole((513, 513))
    np.testing.assert_array_equal(tensor[0], image)


def slow_values(
    logits: NDArray[np.float32], size: tuple[int, int], geometry: Geometry, *, at_frame_resolution: bool
) -> NDArray[np.float64]:
    """Interpolate the logits at every pixel of the map, one after the other, in double precision."""
    height, width = geometry.content_height, geometry.content_width
    if at_frame_resolution:
        height, width = geometry.frame_height, geometry.frame_width
    values = np.empty((len(logits), height, width))
    for y in range(height):
        for x in range(width):
            corners = []
            for place, sides, content, side, points in (
                (y, height, geometry.content_height, size[0], logits.shape[1]),
                (x, width, geometry.content_width, size[1], logits.shape[2]),
            ):
                pixel = min(max((place + 0.5) * content / sides - 0.5, 0), content - 1)
                position = pixel * (points - 1) / (side - 1)
                before = min(int(position), points - 2)
                corners.append((before, before + 1, position - before))
            (top, bottom, down), (left, right, along) = corners
            upper = (1 - along) * logits[:, top, left] + along * logits[:, top, right]
            lower = (1 - along) * logits[:, bottom, left] + along * logits[:, bottom, right]
            values[:, y, x] = (1 - down) * upper + down * lower
    return values


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    frame=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    size=st.tuples(st.integers(33, 70), st.integers(33, 70)),
    stride=st.sampled_from([8, 16, 32]),
    at_frame_resolution=st.booleans(),
)
@example(seed=0, frame=(30, 60), size=(33, 65), stride=32, at_frame_resolution=True)
def test_decoding_equals_the_slow_reference(
    seed: int, frame: tuple[int, int], size: tuple[int, int], stride: int, at_frame_resolution: bool
) -> None:
    generator = np.random.default_rng(seed)
    grid = tuple(-(-side // stride) for side in size)
    logits = generator.normal(0, 4, (4, *grid)).astype(np.float32)
    network = DeepLab(DeepLabSpec(4, size, output_stride=stride), at_frame_resolution=at_frame_resolution)
    geometry = fit(*frame, size)
    found = network.decode({"logits": logits[None]}, geometry).class_id
    values = slow_values(logits, size, geometry, at_frame_resolution=at_frame_resolution)
    assert found.shape == values.shape[1:]
    ordered = np.sort(values, axis=0)
    is_clear = ordered[-1] - ordered[-2] > 1e-4
    np.testing.assert_array_equal(found[is_clear], values.argmax(axis=0)[is_clear])
    assert is_clear.mean() > 0.9 or is_clear.size < 100


@pytest.mark.parametrize("size", [(32, 65), (65, 32)])
def test_a_single_row_or_column_of_logits_is_spread_over_its_axis(size: tuple[int, int]) -> None:
    grid = tuple(-(-side // 32) for side in size)
    logits = np.random.default_rng(0).normal(0, 4, (4, *grid)).astype(np.float32)
    network = DeepLab(DeepLabSpec(4, size, output_stride=32))
    found = network.decode({"logits": logits[None]}, whole(size)).class_id
    doubled = np.repeat(logits, 2, axis=1 + grid.index(1))
    wider = (size[0] + (grid[0] == 1), size[1] + (grid[1] == 1))
    expected = DeepLab(DeepLabSpec(4, wider)).decode({"logits": doubled[None]}, whole(wider)).class_id
    np.testing.assert_array_equal(found, expected[: size[0], : size[1]])


def test_masks_have_the_frames_own_pixels(model: Model, outputs: Outputs) -> None:
    geometry = fit(640, 480, (513, 513))
    assert make_network(model).decode(outputs, geometry).class_id.shape == (385, 513)
    masks = make_network(model, DecoderOptions(masks=True)).decode(outputs, geometry)
    assert masks.class_id.shape == (480, 640)


@pytest.mark.parametrize(
    ("spec", "grid"),
    [
        (DeepLabSpec(21), (33, 33)),
        (DeepLabSpec(21, output_stride=8), (65, 65)),
        (DeepLabSpec(21, output_stride=32), (17, 17)),
        (DeepLabSpec(3, (97, 161), 0.35), (7, 11)),
        (DeepLabSpec(3, (64, 96), 0.5, channel_multiple=1), (4, 6)),
        (DeepLabSpec(3, (64, 96), 1.4, output_stride=8), (8, 12)),
    ],
)
def test_the_grid_follows_size_and_stride(spec: DeepLabSpec, grid: tuple[int, int]) -> None:
    (output,) = build_deeplabv3(spec, shapes_only).outputs
    assert (output.name, output.shape) == ("logits", (1, spec.classes, *grid))


@pytest.mark.parametrize("split", [1, 4])
@pytest.mark.parametrize("stride", [8, 16])
def test_any_width_and_size_builds_and_runs(stride: int, split: int) -> None:
    import onnxruntime

    spec = DeepLabSpec(3, (64, 97), 0.5, channel_multiple=1, output_stride=stride)
    serialised = to_onnx(build_deeplabv3(spec, random_weights(0), split), "test", "")
    session = onnxruntime.InferenceSession(serialised, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 97, 3), np.uint8)
    (logits,) = session.run(None, {"image": image})
    assert logits.shape == (1, 3, 64 // stride, -(-97 // stride))
    assert np.isfinite(logits).all()
    assert logits.std() > 0


def test_the_head_is_not_bounded_at_six() -> None:
    """DeepLab's own layers have ReLU, unlike MobileNetV2's; the embedded weights hardly reach 6 there."""
    graph = build_deeplabv3(DeepLabSpec(21), shapes_only)
    activations = {
        node.output: node.op
        for node in graph.nodes
        if node.output.startswith("head/") and node.op in ("Relu", "Clip")
    }
    layers = ("head/aspp0", "head/image_pooling", "head/concat_projection")
    assert activations == dict.fromkeys(layers, "Relu")


def test_counts_near_the_paper() -> None:
    """Table 7: 2.11 M parameters and 2.75 B multiply-adds at output stride 16."""
    graph = build_deeplabv3(DeepLabSpec(21), shapes_only)
    assert graph.parameters == pytest.approx(2.11e6, rel=0.01)
    assert graph.multiply_adds == pytest.approx(2.75e9, rel=0.01)
