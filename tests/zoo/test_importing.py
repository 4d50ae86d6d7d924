"""Whole imports: a user's own frozen graph or quantised file in, a model that runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camera.pictures import read_picture
from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.networks.activation_statistics import check_statistics
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING, PixelScaling
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.results import Classification, SegmentationMap
from edge_mnv2.zoo.architectures import Spec, build_network
from edge_mnv2.zoo.importing import import_model
from edge_mnv2.zoo.labels import IMAGENET_LABELS, Labels, read_labels
from edge_mnv2.zoo.model import Variant, load_model, make_network
from edge_mnv2.zoo.ranges_file import TRAINED, beside, find_ranges
from edge_mnv2.zoo.weights_file import load_weights
from tests.conftest import Command
from tests.zoo.test_importers import Arrays, as_tensorflow, canonical, labels_file, write_frozen
from tests.zoo.test_torchvision import state_dict

SSDLITE = SsdLiteSpec(3, width_multiplier=0.35)
DEEPLAB = DeepLabSpec(4, width_multiplier=0.5)
NAMES: dict[type, tuple[str, ...]] = {SsdLiteSpec: ("cat", "dog"), DeepLabSpec: ("road", "grass", "sky")}


def frozen_deeplab(spec: DeepLabSpec) -> Arrays:
    """Name random weights as DeepLab's export does: norm everywhere, biases in the prediction alone."""
    tensors: Arrays = {}
    for name, array in canonical(spec).items():
        scope = name.rpartition("/")[0].removeprefix("head/")
        scope = {"backbone/conv": "MobilenetV2/Conv", "logits": "logits/semantic"}.get(scope, scope)
        scope = scope.replace("backbone/", "MobilenetV2/")
        channels = array.shape[0]
        if name.endswith("/biases"):
            if scope == "logits/semantic":
                tensors[f"{scope}/biases"] = np.linspace(-1, 1, channels, dtype=np.float32)
            else:
                tensors[f"{scope}/BatchNorm/gamma"] = np.full(channels, 1.5, np.float32)
                tensors[f"{scope}/BatchNorm/beta"] = np.linspace(-1, 1, channels, dtype=np.float32)
                tensors[f"{scope}/BatchNorm/moving_mean"] = np.zeros(channels, np.float32)
                tensors[f"{scope}/BatchNorm/moving_variance"] = np.full(channels, 2.25, np.float32)
            continue
        is_depthwise = scope.endswith("/depthwise")
        kernel = "depthwise_weights" if is_depthwise else "weights"
        tensors[f"{scope}/{kernel}"] = array.transpose((2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
    return tensors


def frozen(spec: Spec) -> Arrays:
    return as_tensorflow(spec) if isinstance(spec, SsdLiteSpec) else frozen_deeplab(spec)  # type: ignore[arg-type]


each_network = pytest.mark.parametrize("spec", [SSDLITE, DEEPLAB], ids=["ssdlite", "deeplabv3"])


@pytest.fixture
def own_labels(tmp_path: Path) -> Callable[..., Labels]:
    def write(*names: str) -> Labels:
        return labels_file(tmp_path / "own.txt", *names)

    return write


@each_network
def test_a_fine_tuned_network_imports_and_runs(
    tmp_path: Path, own_labels: Callable[..., Labels], spec: Spec, empty_cache: Path
) -> None:
    write_frozen(tmp_path / "graph.pb", frozen(spec))
    output = tmp_path / "own.npz"
    labels = own_labels(*NAMES[type(spec)])
    assert import_model(tmp_path / "graph.pb", output, labels) == spec
    weights = load_weights(output)
    assert weights.labels == dict(enumerate(labels.names, 1))
    assert not beside(output).exists(), "a float file brings no ranges"
    arrays = weights.arrays()
    for name, array in canonical(spec).items():
        if isinstance(spec, SsdLiteSpec) or name.startswith("head/logits"):
            factor = 1.0
        else:  # gamma through the deviation; each part of the network has its epsilon
            factor = 1.5 / np.sqrt(2.25 + (1e-5 if name.startswith("head/") else 1e-3))
        if name.endswith("/weights"):
            np.testing.assert_allclose(arrays[name], array * factor, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_allclose(arrays[name], np.linspace(-1, 1, len(array)), atol=1e-4)
    predictor = open_predictor(str(output), PredictorOptions(variant=Variant((65, 65))))
    assert (predictor.precision, predictor.labels) == ("fp32", weights.labels)
    found, _ = predictor.predict(np.zeros((50, 40, 3), np.uint8))
    assert set(np.unique(found.class_id)) <= {0, *weights.labels}
    predictor.close()


@each_network
def test_the_command_imports_a_fine_tuned_network(tmp_path: Path, spec: Spec, command: Command) -> None:
    write_frozen(tmp_path / "graph.pb", frozen(spec))
    labels_file(tmp_path / "own.txt", *NAMES[type(spec)])
    arguments = ("models", "import", "graph.pb", "--output", "own.npz", "--labels", "own.txt")
    done = command(*arguments, "--input-size", "320x192")
    assert done.returncode == 0, done.stderr
    assert "own.npz: " in done.stdout
    assert f"320x192, {spec.classes - 1} classes" in done.stdout
    assert "edge-mnv2 run --model own.npz" in done.stdout
    info = command("models", "info", "own.npz")
    assert info.returncode == 0
    assert all(name in info.stdout for name in NAMES[type(spec)])
    labels_file(tmp_path / "own.txt", "too", "many", "labels", "in", "here")
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"own.txt has 5 lines, the network has {spec.classes - 1} classes" in done.stderr
    for output in ("own.pb", "own.ranges.npz"):
        done = command("models", "import", "graph.pb", "--output", output)
        assert done.returncode == 2
        assert done.stderr.startswith(f"edge-mnv2: error: {output}: a weights file must end in .npz")
    done = command("models", "import", "missing.pb", "--output", "own.npz")
    assert (done.returncode, done.stderr) == (
        2,
        "edge-mnv2: error: There is no missing.pb: check the path.\n",
    )


@each_network
def test_labels_must_be_as_many_as_classes(
    tmp_path: Path, own_labels: Callable[..., Labels], spec: Spec
) -> None:
    """One too few, one too many (the background, perhaps), none at all; nothing is written then."""
    write_frozen(tmp_path / "graph.pb", frozen(spec))
    output, names = tmp_path / "own.npz", NAMES[type(spec)]
    for wrong in (names[:-1], ("background", *names)):
        with pytest.raises(
            RequestError,
            match=rf"own\.txt has {len(wrong)} lines, the network has {len(names)} classes beside the backgr",
        ):
            import_model(tmp_path / "graph.pb", output, own_labels(*wrong))
    with pytest.raises(RequestError, match=r"(coco|voc)-labels\.txt has \d+ lines, the network has"):
        import_model(tmp_path / "graph.pb", output, None)
    assert not output.exists()
    import_model(tmp_path / "graph.pb", output, own_labels(*names[:-1], "-"))
    assert load_weights(output).labels == dict(enumerate(names[:-1], 1))


def test_a_classifier_of_pytorchs_has_no_background_to_leave_out(
    tmp_path: Path, own_labels: Callable[..., Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the numbers are those of TensorFlow's, which has one."""
    output = tmp_path / "own.npz"
    (tmp_path / "net.pth").touch()
    for classes in (4, 1001):
        tensors = state_dict(ClassifierSpec(classes, width_multiplier=0.35))
        monkeypatch.setattr("edge_mnv2.zoo.importing.read_state_dict", lambda _, tensors=tensors: tensors)
        names = [str(number) for number in range(classes)]
        found = import_model(tmp_path / "net.pth", output, own_labels(*names))
        assert found == ClassifierSpec(classes, (224, 224), 0.35, IMAGENET_SCALING, "symmetric")
        with pytest.raises(
            RequestError, match=rf"has {classes - 1} lines, the network has {classes} classes"
        ):
            import_model(tmp_path / "net.pth", output, own_labels(*names[1:]))


def frozen_classifier(classes: int) -> Arrays:
    """Name random weights as TensorFlow's classifiers do: as DeepLab's but for two scopes."""
    tensors = frozen_deeplab(ClassifierSpec(classes, width_multiplier=0.35))  # type: ignore[arg-type]
    for kind in ("weights", "biases"):
        tensors[f"MobilenetV2/Logits/Conv2d_1c_1x1/{kind}"] = tensors.pop(f"logits/semantic/{kind}")
    return {name.replace("V2/conv_1", "V2/Conv_1"): array for name, array in tensors.items()}


def test_a_classifier_of_tensorflows_leaves_out_the_background_before_imagenets_classes(
    tmp_path: Path, own_labels: Callable[..., Labels]
) -> None:
    write_frozen(tmp_path / "graph.pb", frozen_classifier(1001))
    output = tmp_path / "own.npz"
    for labels, first in ((None, 1), (own_labels(*map(str, range(1001))), 0)):
        found = import_model(tmp_path / "graph.pb", output, labels)
        weights = load_weights(output)
        assert found.classes == len(weights.labels) == 1001 - first
        biases = weights.arrays()["head/logits/biases"]
        np.testing.assert_allclose(biases, np.linspace(-1, 1, 1001)[first:], atol=1e-4)
    assert load_weights(output).labels[0] == "0"


def test_of_other_classifiers_every_class_has_a_label(
    tmp_path: Path, own_labels: Callable[..., Labels]
) -> None:
    write_frozen(tmp_path / "graph.pb", frozen_classifier(4))
    assert import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*"abcd")).classes == 4
    for names in ("cd", "bcd", "abcde"):
        with pytest.raises(RequestError, match=f"has {len(names)} lines, the network has 4 classes: pass"):
            import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*names))


def change_one(
    tensors: Arrays, part: str, change: Callable[[NDArray[np.float32]], NDArray[np.float32] | None]
) -> Arrays:
    """Return the tensors with the one that ends so changed; None takes it away."""
    (name,) = [name for name in tensors if name.endswith(part)]
    changed = change(tensors[name])
    others = {key: array for key, array in tensors.items() if key != name}
    return others if changed is None else others | {name: changed}


@each_network
@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("_3/project/weights", lambda _: None, "expanded_conv_3/project/weights is missing"),
        (
            "_3/project/BatchNorm/beta",
            lambda _: None,
            "norm of .*expanded_conv_3/project is incomplete.*beta",
        ),
        (
            "_3/expand/BatchNorm/beta",
            lambda array: array[1:],
            "norm of .*expanded_conv_3/expand is .*misshapen",
        ),
        ("_3/project/weights", lambda array: array[:, :, 1:], "expanded_conv_3/project/weights is .*needed"),
        ("Conv/weights", lambda array: array * np.nan, "backbone/conv/weights holds NaN"),
        ("_3/depthwise/BatchNorm/moving_variance", lambda array: array - 9, "_3/depthwise/weights holds NaN"),
    ],
    ids=["missing", "no norm", "short norm", "misshapen", "nan", "negative variance"],
)
def test_what_does_not_fit_is_named_and_nothing_written(
    tmp_path: Path,
    own_labels: Callable[..., Labels],
    spec: Spec,
    part: str,
    change: Callable[[NDArray[np.float32]], NDArray[np.float32] | None],
    words: str,
) -> None:
    write_frozen(tmp_path / "graph.pb", change_one(frozen(spec), part, change))
    with pytest.raises(WeightsError, match=words):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*NAMES[type(spec)]))
    assert not (tmp_path / "own.npz").exists()


@each_network
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("expanded_conv_16/", "expanded_conv_17/", r"expanded_conv_16/\w+/(weights|biases) is missing"),
        ("MobilenetV2", "MobilenetV1", "not a MobileNetV2"),
    ],
)
def test_another_backbone_is_named(
    tmp_path: Path, own_labels: Callable[..., Labels], spec: Spec, old: str, new: str, words: str
) -> None:
    renamed = {name.replace(old, new): array for name, array in frozen(spec).items()}
    write_frozen(tmp_path / "graph.pb", renamed)
    with pytest.raises(WeightsError, match=words):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*NAMES[type(spec)]))


def test_a_deeplab_with_a_decoder_is_another_network(
    tmp_path: Path, own_labels: Callable[..., Labels]
) -> None:
    """Its other layers have the shapes of one without; left out, it would run and see nonsense."""
    decoder = {
        "decoder/feature_projection0/weights": np.ones((1, 1, 24, 48), np.float32),
        "decoder/feature_projection0/biases": np.zeros(48, np.float32),
        "decoder/decoder_conv0_depthwise/depthwise_weights": np.ones((3, 3, 304, 1), np.float32),
        "decoder/decoder_conv0_depthwise/biases": np.zeros(304, np.float32),
        "decoder/decoder_conv0_pointwise/weights": np.ones((1, 1, 304, 256), np.float32),
        "decoder/decoder_conv0_pointwise/biases": np.zeros(256, np.float32),
    }
    write_frozen(tmp_path / "graph.pb", frozen_deeplab(DEEPLAB) | decoder)
    with pytest.raises(WeightsError, match="decoder/"):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*NAMES[DeepLabSpec]))


def test_the_pyramid_of_the_full_deeplab_is_another_network(
    tmp_path: Path, own_labels: Callable[..., Labels]
) -> None:
    tensors = frozen_deeplab(DEEPLAB)
    tensors = change_one(tensors, "concat_projection/weights", lambda a: np.tile(a, (1, 1, 2, 1)))
    tensors["aspp1/weights"] = np.ones((3, 3, 160, 256), np.float32)
    tensors["aspp1/biases"] = np.zeros(256, np.float32)
    write_frozen(tmp_path / "graph.pb", tensors)
    with pytest.raises(WeightsError, match="not part of any network that we know, for example aspp1"):
        import_model(tmp_path / "graph.pb", tmp_path / "own.npz", own_labels(*NAMES[DeepLabSpec]))


QUANTISED_SCALING = PixelScaling((128.0,) * 3, (128.0,) * 3)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("deeplabv3_mnv2_pascal_quant", DeepLabSpec(21, scaling=QUANTISED_SCALING)),
        ("deeplabv3_mnv2_dm05_pascal_quant", DeepLabSpec(21, (513, 513), 0.5, 1, scaling=QUANTISED_SCALING)),
        ("mobilenet_v2_1.0_224_quant", ClassifierSpec(scaling=QUANTISED_SCALING)),
    ],
)
def test_a_quantised_file_runs_in_int8_as_its_own_runtime_has_it(
    shared: Path, pictures: Path, tmp_path: Path, empty_cache: Path, name: str, spec: Spec
) -> None:
    """At least 99 of 100 pixels, and every best class, on every fourth of the 48 pictures."""
    pytest.importorskip("tflite", reason="TensorFlow Lite files need the package tflite")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is what is compared with")
    source, output = shared / "models" / f"{name}.tflite", tmp_path / "own.npz"
    labels = None if isinstance(spec, DeepLabSpec) else read_labels(IMAGENET_LABELS)
    assert import_model(source, output, labels) == spec
    model = load_model(str(output))
    ranges = find_ranges(model)
    assert ranges is not None
    assert (ranges.method, ranges.images, ranges.compared) == (TRAINED, 0, ())
    check_statistics(build_network(spec, shapes_only), ranges.statistics)
    predictor = open_predictor(str(output), PredictorOptions())
    assert predictor.precision == "int8", "it was trained for it"
    interpreter = litert.Interpreter(str(source), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    network = make_network(model)
    agreements = []
    for path in sorted(pictures.iterdir())[::4]:
        picture = read_picture(path)
        pixels = np.zeros((1, *spec.size, 3), np.uint8)
        geometry = network.prepare(picture, pixels)
        interpreter.set_tensor(entry["index"], np.ascontiguousarray(pixels[..., ::-1]))
        interpreter.invoke()
        expected = interpreter.get_tensor(result["index"])[0]
        found, _ = predictor.predict(picture)
        if isinstance(found, SegmentationMap):
            seen = expected[: geometry.content_height, : geometry.content_width]
            agreements.append(float((found.class_id == seen).mean()))
        else:
            assert isinstance(found, Classification)
            agreements.append(float(found.class_id[0] == expected.argmax() - 1))  # theirs has a background
    predictor.close()
    assert len(agreements) == 12
    assert np.mean(agreements) >= (0.99 if isinstance(spec, DeepLabSpec) else 1)
    assert min(agreements) > 0.9


def test_a_float_import_over_a_quantised_one_removes_its_ranges(
    shared: Path, tmp_path: Path, own_labels: Callable[..., Labels], empty_cache: Path
) -> None:
    pytest.importorskip("tflite", reason="TensorFlow Lite files need the package tflite")
    output = tmp_path / "own.npz"
    import_model(shared / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite", output, None)
    assert find_ranges(load_model(str(output))) is not None
    write_frozen(tmp_path / "graph.pb", frozen_deeplab(DEEPLAB))
    import_model(tmp_path / "graph.pb", output, own_labels(*NAMES[DeepLabSpec]))
    assert not beside(output).exists()
    predictor = open_predictor(str(output), PredictorOptions(variant=Variant((65, 65))))
    assert predictor.precision == "fp32"
    predictor.close()


def test_the_input_is_read_as_the_file_says(shared: Path, tmp_path: Path) -> None:
    """Byte 0 is -1 and byte 255 is 127/128 there: a mean of 128, not of 127.5."""
    pytest.importorskip("tflite", reason="TensorFlow Lite files need the package tflite")
    import_model(shared / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite", tmp_path / "own.npz", None)
    model = load_model(str(tmp_path / "own.npz"))
    graph = build_network(model.spec, shapes_only)
    (subtraction,) = [node for node in graph.nodes if node.op == "Sub"]
    assert graph.constants[subtraction.inputs[1]].ravel().tolist() == [128]
    assert graph.inputs[0].name == INPUT_NAME


def test_labels_that_came_in_the_file_are_taken_without_the_background(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="TensorFlow Lite files need the package tflite")
    output = tmp_path / "own.npz"
    import_model(shared / "models" / "mobilenet_v2_1.0_224_quant.tflite", output, None)
    weights = load_weights(output)
    assert (weights.spec.classes, len(weights.labels)) == (1000, 1000)
    assert (weights.labels[0], weights.labels[999]) == (
        "tench, Tinca tinca",
        "toilet tissue, toilet paper, bathroom tissue",
    )
