from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import random_weights, shapes_only
from edge_mnv2.zoo.architectures import Spec, build_network
from edge_mnv2.zoo.importers.frozen_graph import _graph_class, read_frozen_graph
from edge_mnv2.zoo.importers.tensorflow_names import canonical_scope, canonical_weights
from edge_mnv2.zoo.importers.tfjs import read_tfjs
from edge_mnv2.zoo.importing import import_model
from edge_mnv2.zoo.labels import Labels, read_labels
from edge_mnv2.zoo.recognise import Training, recognise
from edge_mnv2.zoo.weights_file import load_weights

Arrays = dict[str, NDArray[np.float32]]


def write_tfjs(folder: Path, entries: list[tuple[dict[str, object], bytes]], shards: int) -> Path:
    data = b"".join(content for _, content in entries)
    size = -(-len(data) // shards)
    names = [f"shard{index}" for index in range(shards)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(data[index * size : (index + 1) * size])
    manifest = [{"paths": names, "weights": [entry for entry, _ in entries]}]
    path = folder / "model.json"
    path.write_text(json.dumps({"modelTopology": {}, "weightsManifest": manifest}))
    return path


def plain(name: str, array: NDArray[np.generic]) -> tuple[dict[str, object], bytes]:
    return {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}, array.tobytes()


@settings(deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=5),
    shards=st.integers(1, 4),
)
def test_tfjs_tensors_may_cross_shards(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], shards: int
) -> None:
    generator = np.random.default_rng(0)
    tensors = {
        str(index): generator.normal(size=shape).astype(np.float32) for index, shape in enumerate(shapes)
    }
    folder = tmp_path_factory.mktemp("tfjs")
    path = write_tfjs(folder, [plain(name, array) for name, array in tensors.items()], shards)
    found = read_tfjs(path)
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)


def test_tfjs_quantised_tensors_are_scaled_back(tmp_path: Path) -> None:
    stored = np.array([0, 128, 255], np.uint8)
    entry = {
        "name": "q",
        "shape": [3],
        "dtype": "float32",
        "quantization": {"dtype": "uint8", "scale": 0.5, "min": -10.0},
    }
    path = write_tfjs(tmp_path, [(entry, stored.tobytes()), plain("after", np.ones(2, np.float32))], 1)
    found = read_tfjs(path)
    np.testing.assert_allclose(found["q"], [-10, 54, 117.5])
    np.testing.assert_array_equal(found["after"], [1, 1])


def test_tfjs_damage_is_named(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path, [plain("a", np.zeros(10, np.float32))], 2)
    whole = (tmp_path / "shard1").read_bytes()
    (tmp_path / "shard1").write_bytes(whole[:-4])
    with pytest.raises(WeightsError, match="truncated"):
        read_tfjs(path)
    (tmp_path / "shard1").write_bytes(whole + b"more")
    with pytest.raises(WeightsError, match="44 bytes, expected 40"):
        read_tfjs(path)
    (tmp_path / "shard1").unlink()
    with pytest.raises(WeightsError, match="No such file"):
        read_tfjs(path)
    bad = ("", "{}", "[]", "no json", '{"weightsManifest": [{}]}', '{"weightsManifest": 5}', "[" * 100_000)
    for text in (*bad, '{"weightsManifest": [{"paths": [], "weights": [{"name": "a", "shape": [0]}]}]}'):
        path.write_text(text)
        with pytest.raises(WeightsError, match="not a whole TensorFlow"):
            read_tfjs(path)


def write_frozen(path: Path, tensors: Arrays) -> None:
    graph = _graph_class()()
    graph.node.add(name="input", op="Placeholder")
    for name, array in tensors.items():
        node = graph.node.add(name=name, op="Const")
        value = node.attr.add(key="value").value.tensor
        value.dtype = 1
        for size in array.shape:
            value.tensor_shape.dim.add(size=size)
        if array.size > 1 and (array == array.flat[0]).all():
            value.float_val.append(float(array.flat[0]))  # TensorFlow's short form of a filled tensor
        else:
            value.tensor_content = array.astype("<f4").tobytes()
    path.write_bytes(graph.SerializeToString())


def test_frozen_graph_constants_are_read_in_both_forms(tmp_path: Path) -> None:
    tensors = {
        "full": np.arange(6, dtype=np.float32).reshape(2, 3),
        "filled": np.full((3, 2), 7, np.float32),
        "scalar": np.array(3, np.float32),
    }
    write_frozen(tmp_path / "graph.pb", tensors)
    found = read_frozen_graph(tmp_path / "graph.pb")
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"not a graph at all"])
def test_what_is_no_frozen_graph_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pb").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pb"):
        read_frozen_graph(tmp_path / "x.pb")


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("FeatureExtractor/MobilenetV2/Conv", "backbone/conv"),
        ("MobilenetV2/Conv_1", "backbone/conv_1"),
        ("MobilenetV2/expanded_conv/depthwise", "backbone/expanded_conv/depthwise"),
        ("FeatureExtractor/MobilenetV2/expanded_conv_16/project", "backbone/expanded_conv_16/project"),
        ("FeatureExtractor/MobilenetV2/layer_19_1_Conv2d_2_1x1_256", "extras/extra_0/reduce"),
        ("FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_5_3x3_s2_128", "extras/extra_3/pointwise"),
        (
            "FeatureExtractor/MobilenetV2/layer_19_2_Conv2d_3_3x3_s2_256_depthwise",
            "extras/extra_1/depthwise",
        ),
        ("BoxPredictor_4/ClassPredictor", "heads/head_4/class/predict"),
        ("BoxPredictor_0/BoxEncodingPredictor_depthwise", "heads/head_0/box/depthwise"),
        ("aspp0", "head/aspp0"),
        ("image_pooling", "head/image_pooling"),
        ("concat_projection", "head/concat_projection"),
        ("logits/semantic", "head/logits"),
        ("MobilenetV2/Logits/Conv2d_1c_1x1", "head/logits"),
        ("aspp1", None),
        ("decoder/aspp0", None),
        ("MobilenetV1/Logits/Conv2d_1c_1x1", None),
        ("Postprocessor/Decode", None),
        ("Other/MobilenetV2/Conv", None),
    ],
)
def test_scopes_have_one_canonical_name(scope: str, name: str | None) -> None:
    assert canonical_scope(scope) == name


def norm(scope: str, channels: int, generator: np.random.Generator) -> Arrays:
    return {
        f"{scope}/BatchNorm/gamma": generator.uniform(0.5, 2, channels).astype(np.float32),
        f"{scope}/BatchNorm/beta": generator.normal(size=channels).astype(np.float32),
        f"{scope}/BatchNorm/moving_mean": generator.normal(size=channels).astype(np.float32),
        f"{scope}/BatchNorm/moving_variance": generator.uniform(0.1, 3, channels).astype(np.float32),
    }


def test_folded_batch_norm_equals_the_norm_after_the_convolution() -> None:
    generator = np.random.default_rng(0)
    scope, deep = "MobilenetV2/Conv", "MobilenetV2/expanded_conv/depthwise"
    tensors = norm(scope, 4, generator) | norm(deep, 4, generator)
    tensors[f"{scope}/weights"] = generator.normal(size=(3, 3, 3, 4)).astype(np.float32)
    tensors[f"{deep}/depthwise_weights"] = generator.normal(size=(3, 3, 4, 1)).astype(np.float32)
    folded = canonical_weights(tensors)
    patch = generator.normal(size=(3, 3, 3))
    plain_output = np.einsum("hwi,hwio->o", patch, tensors[f"{scope}/weights"])
    window = generator.normal(size=(3, 3, 4))
    deep_output = np.einsum("hwc,hwc->c", window, tensors[f"{deep}/depthwise_weights"][..., 0])
    for name, output, ours in (
        (scope, plain_output, np.einsum("hwi,oihw->o", patch, folded["backbone/conv/weights"])),
        (
            deep,
            deep_output,
            np.einsum("hwc,chw->c", window, folded["backbone/expanded_conv/depthwise/weights"][:, 0]),
        ),
    ):
        bn = {key: tensors[f"{name}/BatchNorm/{key}"] for key in ("gamma", "beta", "moving_mean")}
        deviation = np.sqrt(tensors[f"{name}/BatchNorm/moving_variance"] + 0.001)
        expected = (output - bn["moving_mean"]) / deviation * bn["gamma"] + bn["beta"]
        canonical = canonical_scope(name)
        np.testing.assert_allclose(ours + folded[f"{canonical}/biases"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("scope", "epsilon"),
    [
        ("MobilenetV2/Conv", 1e-3),
        ("MobilenetV2/expanded_conv/project", 1e-3),
        ("aspp0", 1e-5),
        ("image_pooling", 1e-5),
        ("concat_projection", 1e-5),
    ],
)
def test_deeplab_trains_its_head_with_another_epsilon_than_the_backbone(scope: str, epsilon: float) -> None:
    kernel = np.ones((1, 1, 1, 2), np.float32)
    tensors = {f"{name}/weights": kernel for name in (scope, "MobilenetV2/Conv")}
    tensors["MobilenetV2/Conv/biases"] = np.zeros(2, np.float32)
    tensors |= {
        f"{scope}/BatchNorm/gamma": np.array([1, 2], np.float32),
        f"{scope}/BatchNorm/beta": np.array([5, 6], np.float32),
        f"{scope}/BatchNorm/moving_mean": np.array([1, -1], np.float32),
        f"{scope}/BatchNorm/moving_variance": np.array([0, 1e-4], np.float32),
    }
    found = canonical_weights(tensors)
    scale = np.array([1, 2]) / np.sqrt(np.array([0, 1e-4]) + epsilon)
    name = canonical_scope(scope)
    np.testing.assert_allclose(found[f"{name}/weights"][:, 0, 0, 0], scale, rtol=1e-6)
    np.testing.assert_allclose(found[f"{name}/biases"], [5 - scale[0], 6 + scale[1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("bias", "factor"),
    [
        ("batchnorm/sub", "batchnorm/mul"),
        ("FusedBatchNorm/Offset", "FusedBatchNorm/Scaled"),
        ("FusedBatchNormV3/Offset", "FusedBatchNormV3/Scaled"),
    ],
)
def test_norms_that_the_tfjs_converter_folded_are_taken_as_they_are(bias: str, factor: str) -> None:
    generator = np.random.default_rng(0)
    plain_kernel = generator.normal(size=(3, 3, 3, 4)).astype(np.float32)
    deep_kernel = generator.normal(size=(3, 3, 4, 1)).astype(np.float32)
    conv, deep = "MobilenetV2/Conv", "MobilenetV2/expanded_conv/depthwise"
    found = canonical_weights(
        {
            f"{conv}/Conv2D/merged_input": plain_kernel,
            f"{conv}/BatchNorm/{bias}": np.arange(4, dtype=np.float32),
            f"{deep}/depthwise_weights": deep_kernel,
            f"{deep}/BatchNorm/{factor}": np.array([1, 2, 3, 4], np.float32),
            f"{deep}/BatchNorm/{bias}": np.arange(4, dtype=np.float32) - 9,
        }
    )
    np.testing.assert_array_equal(found["backbone/conv/weights"], np.einsum("hwio->oihw", plain_kernel))
    np.testing.assert_array_equal(found["backbone/conv/biases"], [0, 1, 2, 3])
    scaled = deep_kernel[..., 0] * np.array([1, 2, 3, 4], np.float32)
    name = "backbone/expanded_conv/depthwise"
    np.testing.assert_array_equal(found[f"{name}/weights"], np.einsum("hwc->chw", scaled)[:, None])
    np.testing.assert_array_equal(found[f"{name}/biases"], [-9, -8, -7, -6])


def test_an_incomplete_or_misshapen_norm_is_named() -> None:
    scope = "MobilenetV2/Conv"
    whole = norm(scope, 8, np.random.default_rng(0)) | {f"{scope}/weights": np.ones((3, 3, 3, 8), np.float32)}
    for part in ("beta", "moving_mean"):
        without = {name: array for name, array in whole.items() if not name.endswith(part)}
        with pytest.raises(WeightsError, match=f"batch norm of {scope} is incomplete .*{part}"):
            canonical_weights(without)
    for part in ("gamma", "beta", "moving_mean", "moving_variance"):
        misshapen = whole | {f"{scope}/BatchNorm/{part}": np.ones(5, np.float32)}
        with pytest.raises(WeightsError, match=f"batch norm of {scope} is incomplete or misshapen"):
            canonical_weights(misshapen)


@pytest.mark.parametrize("number", [np.nan, np.inf, -1.0])
def test_weights_that_are_no_numbers_are_named(number: float) -> None:
    scope = "MobilenetV2/Conv"
    tensors = norm(scope, 8, np.random.default_rng(0)) | {
        f"{scope}/weights": np.ones((3, 3, 3, 8), np.float32)
    }
    part = "moving_variance" if number == -1.0 else "beta"
    tensors[f"{scope}/BatchNorm/{part}"][3] = number
    with pytest.raises(WeightsError, match=r"backbone/conv/(weights|biases) holds NaN or infinity"):
        canonical_weights(tensors)


def test_a_convolution_without_norm_and_bias_is_named() -> None:
    with pytest.raises(WeightsError, match=r"MobilenetV2/Conv has neither"):
        canonical_weights({"MobilenetV2/Conv/weights": np.zeros((3, 3, 3, 8), np.float32)})
    with pytest.raises(WeightsError, match="not a MobileNetV2"):
        canonical_weights({"ResNet/Conv/weights": np.zeros((3, 3, 3, 8), np.float32)})


def test_a_kernel_must_have_four_axes() -> None:
    with pytest.raises(WeightsError, match="MobilenetV2/Conv/weights has 1 dimensions"):
        canonical_weights({"MobilenetV2/Conv/weights": np.zeros(3, np.float32)})


def test_a_narrowed_last_layer_is_recognised() -> None:
    """TensorFlow's detectors apply the width multiplier to the last layer too, unlike the paper."""
    spec = SsdLiteSpec(7, (300, 300), 0.35, last_channels=448)
    assert recognise(canonical(spec), Training()) == spec


def canonical(spec: Spec) -> Arrays:
    source = random_weights(0)
    shapes = build_network(spec, shapes_only).weight_shapes
    return {name: source(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
@pytest.mark.parametrize(
    ("spec", "training"),
    [
        (SsdLiteSpec(7), Training()),
        (SsdLiteSpec(7, (320, 200)), Training((320, 200))),
        (DeepLabSpec(7), Training()),
        (DeepLabSpec(7, (257, 129), channel_multiple=1), Training((257, 129))),
        (ClassifierSpec(7), Training()),
        (
            ClassifierSpec(7, scaling=IMAGENET_SCALING, padding="symmetric"),
            Training(scaling=IMAGENET_SCALING, padding="symmetric"),
        ),
    ],
    ids=["ssdlite", "ssdlite-sized", "deeplabv3", "deeplabv3-unrounded", "classifier", "classifier-torch"],
)
def test_network_width_and_classes_are_recognised_from_shapes(
    spec: Spec, training: Training, width: float
) -> None:
    spec = replace(spec, width_multiplier=width)
    found = recognise(canonical(spec), training)
    if isinstance(spec, DeepLabSpec) and width in (1.0,):
        spec = replace(spec, channel_multiple=8)  # the same channels, however they were rounded
    assert found == spec


def test_missing_extra_and_misshapen_tensors_are_named() -> None:
    whole = canonical(SsdLiteSpec(3))
    name = "backbone/expanded_conv_3/project/weights"
    without = {key: array for key, array in whole.items() if key != name}
    with pytest.raises(WeightsError, match=f"1 tensors do not fit a SSDLite of 3 classes.*{name} is missing"):
        recognise(without, Training())
    with pytest.raises(WeightsError, match="surplus is not part"):
        recognise(whole | {"surplus": np.zeros(1, np.float32)}, Training())
    with pytest.raises(WeightsError, match=rf"{name} is \(1,\), needed \(32, 144, 1, 1\)"):
        recognise(whole | {name: np.zeros(1, np.float32)}, Training())
    with pytest.raises(WeightsError, match=r"no network that we know.*SSDLite.*DeepLabv3.*classifier"):
        recognise({"backbone/conv/weights": np.zeros(1, np.float32)}, Training())


def as_tensorflow(spec: SsdLiteSpec) -> Arrays:
    """Name canonical weights as a frozen graph of the object detection API does, norm in place of biases."""
    renames = {
        "backbone/conv_1": "FeatureExtractor/MobilenetV2/Conv_1",
        "backbone/conv": "FeatureExtractor/MobilenetV2/Conv",
    }
    tensors: Arrays = {}
    for name, array in canonical(spec).items():
        if name.endswith("/biases"):
            continue
        scope = name.removesuffix("/weights")
        tf = renames.get(scope, scope.replace("backbone/", "FeatureExtractor/MobilenetV2/"))
        if scope.startswith("extras"):
            _, extra, kind = scope.split("/")
            index, channels = int(extra[-1]) + 2, array.shape[0]
            first = f"layer_19_1_Conv2d_{index}_1x1_{channels}"
            second = f"layer_19_2_Conv2d_{index}_3x3_s2_{channels}"
            tf = (
                "FeatureExtractor/MobilenetV2/"
                + {"reduce": first, "depthwise": f"{second}_depthwise", "pointwise": second}[kind]
            )
        if scope.startswith("heads"):
            _, head, kind, part = scope.split("/")
            predictor = {"box": "BoxEncodingPredictor", "class": "ClassPredictor"}[kind]
            tf = f"BoxPredictor_{head[-1]}/{predictor}" + ("_depthwise" if part == "depthwise" else "")
        is_depthwise = array.shape[1] == 1 and array.shape[2] == 3
        kernel = "depthwise_weights" if is_depthwise else "weights"
        tensors[f"{tf}/{kernel}"] = array.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        channels = array.shape[0]
        tensors[f"{tf}/BatchNorm/beta"] = np.linspace(-1, 1, channels, dtype=np.float32)
        tensors[f"{tf}/BatchNorm/moving_mean"] = np.zeros(channels, np.float32)
        tensors[f"{tf}/BatchNorm/moving_variance"] = np.full(channels, 0.999, np.float32)
    return tensors


def labels_file(path: Path, *names: str) -> Labels:
    path.write_text("\n".join(names))
    return read_labels(path)


def test_a_fine_tuned_frozen_graph_imports_with_its_own_labels(tmp_path: Path) -> None:
    spec = SsdLiteSpec(3, (300, 300), 0.35)
    write_frozen(tmp_path / "graph.pb", as_tensorflow(spec))
    pets = labels_file(tmp_path / "pets.txt", "cat", "dog")
    found = import_model(tmp_path / "graph.pb", tmp_path / "own.npz", pets)
    assert found == spec
    weights = load_weights(tmp_path / "own.npz")
    assert (weights.spec, weights.labels) == (spec, {1: "cat", 2: "dog"})
    imported = weights.arrays()
    for name, array in canonical(spec).items():
        if name.endswith("/weights"):
            np.testing.assert_allclose(imported[name], array, rtol=1e-5, atol=1e-6)
    birds = labels_file(tmp_path / "birds.txt", "-", "-", "-", "-", "bird")
    with pytest.raises(
        RequestError, match=r"birds\.txt has 5 lines, the network has 2 classes beside the background"
    ):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", birds)
    with pytest.raises(RequestError, match=r"coco-labels\.txt has 90 lines, the network has 2"):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", None)
    assert load_weights(tmp_path / "own.npz").digest == weights.digest


def test_the_size_that_a_network_was_trained_for_can_be_said(tmp_path: Path) -> None:
    write_frozen(tmp_path / "graph.pb", as_tensorflow(SsdLiteSpec(3, width_multiplier=0.35)))
    pets = labels_file(tmp_path / "pets.txt", "cat", "dog")
    found = import_model(tmp_path / "graph.pb", tmp_path / "own.npz", pets, (320, 640))
    assert found == load_weights(tmp_path / "own.npz").spec == SsdLiteSpec(3, (320, 640), 0.35)
