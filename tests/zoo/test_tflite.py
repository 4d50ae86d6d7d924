from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.zoo.importers.tflite import read_tflite, read_tflite_labels

tflite = pytest.importorskip("tflite", reason="TensorFlow Lite files need the package tflite")
flatbuffers = pytest.importorskip("flatbuffers", reason="comes with the package tflite")

TYPES = {"f4": "FLOAT32", "f2": "FLOAT16", "f8": "FLOAT64", "u1": "UINT8", "i1": "INT8", "i4": "INT32"}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `data` None for an activation."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "f4"
    data: NDArray[Any] | None = None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0


@dataclass(frozen=True)
class Step:
    kind: str
    inputs: tuple[str, ...]
    output: str
    activation: str = "NONE"


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
}


def vector(
    builder: Any,  # noqa: ANN401 - flatbuffers has no types
    items: list[int],
    start: Callable[..., object],
    prepend: str,
) -> int:
    start(builder, len(items))
    for item in reversed(items):
        getattr(builder, prepend)(item)
    return int(builder.EndVector())


def write_tflite(path: Path, tensors: list[Stored], steps: list[Step]) -> Path:
    """Write a file as TensorFlow's converter does, one graph, through the schema's own builders."""
    b = flatbuffers.Builder(1024)
    index = {tensor.name: number for number, tensor in enumerate(tensors)}
    buffers, stored = [], []
    for number, tensor in enumerate(tensors):
        data = b"" if tensor.data is None else np.asarray(tensor.data, f"<{tensor.dtype}").tobytes()
        content = b.CreateByteVector(data)
        tflite.BufferStart(b)
        if data:
            tflite.BufferAddData(b, content)
        buffers.append(tflite.BufferEnd(b))
        name = b.CreateString(tensor.name)
        shape = vector(b, list(tensor.shape), tflite.TensorStartShapeVector, "PrependInt32")
        quantisation = None
        if tensor.scale:
            scale = vector(
                b, list(tensor.scale), tflite.QuantizationParametersStartScaleVector, "PrependFloat32"
            )
            zero = vector(
                b, list(tensor.zero_point), tflite.QuantizationParametersStartZeroPointVector, "PrependInt64"
            )
            tflite.QuantizationParametersStart(b)
            tflite.QuantizationParametersAddScale(b, scale)
            if tensor.zero_point:
                tflite.QuantizationParametersAddZeroPoint(b, zero)
            tflite.QuantizationParametersAddQuantizedDimension(b, tensor.axis)
            quantisation = tflite.QuantizationParametersEnd(b)
        tflite.TensorStart(b)
        tflite.TensorAddName(b, name)
        tflite.TensorAddShape(b, shape)
        tflite.TensorAddType(b, getattr(tflite.TensorType, TYPES[tensor.dtype]))
        tflite.TensorAddBuffer(b, number)
        if quantisation is not None:
            tflite.TensorAddQuantization(b, quantisation)
        stored.append(tflite.TensorEnd(b))
    kinds = sorted({step.kind for step in steps})
    codes = []
    for kind in kinds:
        tflite.OperatorCodeStart(b)
        # All kinds used here are old enough for the field that was enlarged later.
        tflite.OperatorCodeAddDeprecatedBuiltinCode(b, getattr(tflite.BuiltinOperator, kind))
        tflite.OperatorCodeAddBuiltinCode(b, getattr(tflite.BuiltinOperator, kind))
        codes.append(tflite.OperatorCodeEnd(b))
    operators = []
    for step in steps:
        inputs = vector(
            b, [index.get(name, -1) for name in step.inputs], tflite.OperatorStartInputsVector, "PrependInt32"
        )
        outputs = vector(b, [index[step.output]], tflite.OperatorStartOutputsVector, "PrependInt32")
        options = None
        if step.kind in OPTIONS:
            table = OPTIONS[step.kind]
            getattr(tflite, f"{table}Start")(b)
            activation = getattr(tflite.ActivationFunctionType, step.activation)
            getattr(tflite, f"{table}AddFusedActivationFunction")(b, activation)
            options = getattr(tflite, f"{table}End")(b)
        tflite.OperatorStart(b)
        tflite.OperatorAddOpcodeIndex(b, kinds.index(step.kind))
        tflite.OperatorAddInputs(b, inputs)
        tflite.OperatorAddOutputs(b, outputs)
        if options is not None:
            tflite.OperatorAddBuiltinOptionsType(b, getattr(tflite.BuiltinOptions, OPTIONS[step.kind]))
            tflite.OperatorAddBuiltinOptions(b, options)
        operators.append(tflite.OperatorEnd(b))
    tensor_vector = vector(b, stored, tflite.SubGraphStartTensorsVector, "PrependUOffsetTRelative")
    operator_vector = vector(b, operators, tflite.SubGraphStartOperatorsVector, "PrependUOffsetTRelative")
    tflite.SubGraphStart(b)
    tflite.SubGraphAddTensors(b, tensor_vector)
    tflite.SubGraphAddOperators(b, operator_vector)
    graphs = vector(b, [tflite.SubGraphEnd(b)], tflite.ModelStartSubgraphsVector, "PrependUOffsetTRelative")
    code_vector = vector(b, codes, tflite.ModelStartOperatorCodesVector, "PrependUOffsetTRelative")
    buffer_vector = vector(b, buffers, tflite.ModelStartBuffersVector, "PrependUOffsetTRelative")
    tflite.ModelStart(b)
    tflite.ModelAddVersion(b, 3)
    tflite.ModelAddOperatorCodes(b, code_vector)
    tflite.ModelAddSubgraphs(b, graphs)
    tflite.ModelAddBuffers(b, buffer_vector)
    b.Finish(tflite.ModelEnd(b), b"TFL3")
    path.write_bytes(bytes(b.Output()))
    return path


def activation(name: str, *shape: int, scale: float = 0.0, zero_point: int = 0) -> Stored:
    if not scale:
        return Stored(name, shape)
    return Stored(name, shape, "u1", scale=(scale,), zero_point=(zero_point,))


# Odd sizes everywhere: no axis can be taken for another.
KERNELS = {
    "CONV_2D": ("MobilenetV2/Conv", (4, 2, 3, 5), "backbone/conv", (4, 5, 2, 3)),
    "DEPTHWISE_CONV_2D": (
        "MobilenetV2/expanded_conv/depthwise",
        (1, 2, 3, 4),
        "backbone/expanded_conv/depthwise",
        (4, 1, 2, 3),
    ),
    "FULLY_CONNECTED": ("MobilenetV2/Logits/Conv2d_1c_1x1", (6, 4), "head/logits", (6, 4, 1, 1)),
}


BIASES = {
    kind: Stored(f"{kind}/bias", (count,), "i4", np.arange(count) - 2, scale=(0.25,), zero_point=(0,))
    for kind, count in (("CONV_2D", 4), ("DEPTHWISE_CONV_2D", 4), ("FULLY_CONNECTED", 6))
}


def three_layers(kernels: dict[str, Stored]) -> tuple[list[Stored], list[Step]]:
    """A network of one layer of each kind, in the order of `KERNELS`."""
    tensors = [activation("input", 1, 33, 65, 5)]
    steps = []
    for kind in KERNELS:
        given = tensors[-1].name if kind == "CONV_2D" else steps[-1].output
        tensors += [kernels[kind], BIASES[kind], activation(f"{kind}/out", 1, 9, 9, 4)]
        steps.append(Step(kind, (given, kernels[kind].name, BIASES[kind].name), f"{kind}/out"))
    return tensors, steps


def kernels_of(dtype: str, seed: int = 0) -> tuple[dict[str, Stored], dict[str, NDArray[np.float32]]]:
    """Return random kernels stored as `dtype`, and their real values under canonical names."""
    generator = np.random.default_rng(seed)
    stored, real = {}, {}
    for kind, (scope, shape, canonical, _) in KERNELS.items():
        name = f"{scope}/weights"
        channel_axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
        if dtype in ("f4", "f2"):
            data = generator.normal(size=shape).astype(dtype)
            stored[kind], values = Stored(name, shape, dtype, data), data.astype(np.float32)
        elif dtype == "u1":
            data = generator.integers(0, 256, shape)
            stored[kind] = Stored(name, shape, "u1", data, scale=(0.5,), zero_point=(100,))
            values = (data - 100) * 0.5
        else:
            data = generator.integers(-127, 128, shape)
            scale = tuple(2.0**-i for i in range(shape[channel_axis]))
            stored[kind] = Stored(name, shape, "i1", data, scale=scale, axis=channel_axis)
            along = [1] * len(shape)
            along[channel_axis] = -1
            values = data * np.array(scale).reshape(along)
        if kind == "CONV_2D":
            values = np.einsum("ohwi->oihw", values)
        elif kind == "DEPTHWISE_CONV_2D":
            values = np.einsum("mhwc->cmhw", values)
        else:
            values = values[:, :, None, None]
        real[f"{canonical}/weights"] = values.astype(np.float32)
    return stored, real


@pytest.mark.parametrize("dtype", ["f4", "f2", "u1", "i1"])
def test_kernels_of_every_kind_become_real_numbers_in_our_axes(tmp_path: Path, dtype: str) -> None:
    kernels, real = kernels_of(dtype)
    found = read_tflite(write_tflite(tmp_path / "x.tflite", *three_layers(kernels)))
    assert found.size == (33, 65)
    assert {name for name in found.weights if name.endswith("/weights")} == real.keys()
    for name, values in real.items():
        np.testing.assert_array_equal(found.weights[name], values)
        assert found.weights[name].dtype == np.float32
        assert found.weights[name].shape in [shape for *_, shape in KERNELS.values()]
    np.testing.assert_array_equal(found.weights["backbone/conv/biases"], [-0.5, -0.25, 0, 0.25])


def test_float16_kernels_are_found_behind_their_dequantisation(tmp_path: Path) -> None:
    kernels, real = kernels_of("f2")
    tensors, steps = three_layers(kernels)
    half = replace(kernels["CONV_2D"], name="half")
    # What the operator gives carries the scope's name; what the file holds need not.
    tensors = [replace(t, dtype="f4", data=None) if t == kernels["CONV_2D"] else t for t in tensors]
    steps.insert(0, Step("DEQUANTIZE", ("half",), kernels["CONV_2D"].name))
    found = read_tflite(write_tflite(tmp_path / "x.tflite", [*tensors, half], steps))
    np.testing.assert_array_equal(found.weights["backbone/conv/weights"], real["backbone/conv/weights"])


def test_a_layer_without_bias_gets_zeros(tmp_path: Path) -> None:
    kernels, _ = kernels_of("f4")
    tensors, steps = three_layers(kernels)
    steps[0] = replace(steps[0], inputs=(*steps[0].inputs[:2], "left out"))
    steps[1] = replace(steps[1], inputs=steps[1].inputs[:2])
    found = read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps)).weights
    np.testing.assert_array_equal(found["backbone/conv/biases"], np.zeros(4))
    np.testing.assert_array_equal(found["backbone/expanded_conv/depthwise/biases"], np.zeros(4))


def chain(*layers: tuple[str, str, float, int, str]) -> tuple[list[Stored], list[Step]]:
    """A quantised chain of 1x1 convolutions: kernel's name, output's name, scale, zero point, activation."""
    tensors = [activation("input", 1, 8, 8, 3, scale=1 / 128, zero_point=128)]
    steps = []
    given = "input"
    for kernel, output, scale, zero_point, fused in layers:
        data = np.arange(9).reshape(3, 1, 1, 3)
        tensors += [
            Stored(kernel, (3, 1, 1, 3), "u1", data, scale=(1.0,), zero_point=(0,)),
            activation(output, 1, 8, 8, 3, scale=scale, zero_point=zero_point),
        ]
        steps.append(Step("CONV_2D", (given, kernel), output, fused))
        given = output
    return tensors, steps


MLIR_KERNEL = "{0}/Conv2D_Fold;{0}/weights_quant/FakeQuantWithMinMaxVars"


def test_ranges_come_from_scales_and_fused_activations(tmp_path: Path) -> None:
    scopes = ("MobilenetV2/Conv", "aspp0", "concat_projection", "logits/semantic")
    conv, aspp0, projection, logits = (MLIR_KERNEL.format(scope) for scope in scopes)
    logits = f"anything/else;{logits}"
    tensors, steps = chain(
        # The converter names outputs after everything it merged, other layers included.
        (
            conv,
            "MobilenetV2/Conv/Relu6;MobilenetV2/expanded_conv_5/project/Conv2D_Fold",
            0.0235295,
            0,
            "RELU6",
        ),
        (aspp0, "b", 0.1, 10, "RELU"),
        (projection, "c", 0.01, 0, "RELU6"),
        (logits, "d", 0.5, 20, "NONE"),
    )
    found = read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps))
    assert found.ranges == {
        "image": pytest.approx((-1.0, 127 / 128)),
        "backbone/conv": (0.0, 6.0),  # the scale reaches 6.0000225
        "head/aspp0": pytest.approx((0.0, 24.5)),
        "head/concat": pytest.approx((-1.0, 24.5)),
        "head/concat_projection": pytest.approx((0.0, 2.55)),
        "head/logits": pytest.approx((-10.0, 117.5)),
    }
    assert found.weights.keys() >= {"head/logits/weights", "head/concat_projection/biases"}


def bottlenecks() -> tuple[list[Stored], list[Step]]:
    return chain(
        ("MobilenetV2/Conv/weights", "a", 1.0, 0, "NONE"),
        ("MobilenetV2/expanded_conv_1/project/weights", "b", 1.0, 0, "NONE"),
        ("MobilenetV2/expanded_conv_2/project/weights", "c", 1.0, 0, "NONE"),
    )


@pytest.mark.parametrize("inputs", [("b", "c"), ("c", "b")])
def test_a_sum_is_named_after_its_own_bottleneck(tmp_path: Path, inputs: tuple[str, str]) -> None:
    tensors, steps = bottlenecks()
    tensors += [
        activation("anything", 1, 8, 8, 3, scale=2.0, zero_point=1),
        *chain(("MobilenetV2/expanded_conv_3/project/weights", "d", 1.0, 0, "NONE"))[0][1:],
        activation("another", 1, 8, 8, 3, scale=3.0, zero_point=2),
    ]
    steps += [
        Step("ADD", inputs, "anything"),
        Step("CONV_2D", ("anything", "MobilenetV2/expanded_conv_3/project/weights"), "d"),
        Step("ADD", tuple("d" if name == "c" else "anything" for name in inputs), "another"),
    ]
    ranges = read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps)).ranges
    assert ranges["backbone/expanded_conv_2/add"] == (-2.0, 508.0)
    assert ranges["backbone/expanded_conv_3/add"] == (-6.0, 759.0)
    assert sum(name.endswith("/add") for name in ranges) == 2


def test_a_float_file_has_no_ranges(tmp_path: Path) -> None:
    kernels, _ = kernels_of("i1")
    found = read_tflite(write_tflite(tmp_path / "x.tflite", *three_layers(kernels)))
    assert found.ranges == {}


@pytest.mark.parametrize("kind", ["MUL", "ADD"])
def test_batch_norm_that_was_not_folded_is_refused(tmp_path: Path, kind: str) -> None:
    tensors, steps = bottlenecks()
    tensors += [Stored("gamma", (3,), "f4", np.ones(3)), activation("scaled", 1, 8, 8, 3)]
    steps.append(Step(kind, ("c", "gamma"), "scaled"))
    with pytest.raises(WeightsError, match=rf"operator {kind} follows backbone/expanded_conv_2/project"):
        read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps))


def test_a_kernel_that_is_left_out_is_named(tmp_path: Path) -> None:
    tensors, steps = bottlenecks()
    steps[1] = replace(steps[1], inputs=("a", "left out"))
    with pytest.raises(WeightsError, match="there is no tensor -1"):
        read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps))


def test_an_activation_with_several_scales_is_refused(tmp_path: Path) -> None:
    tensors, steps = bottlenecks()
    tensors[-1] = replace(tensors[-1], scale=(1.0, 2.0, 3.0), zero_point=(0, 0, 0), axis=3)
    with pytest.raises(WeightsError, match="c is quantised with 3 scales"):
        read_tflite(write_tflite(tmp_path / "x.tflite", tensors, steps))


def with_kernel(**changes: object) -> tuple[list[Stored], list[Step]]:
    kernels, _ = kernels_of("u1")
    kernels["CONV_2D"] = replace(kernels["CONV_2D"], **changes)  # type: ignore[arg-type]
    return three_layers(kernels)


NAN = np.full((4, 2, 3, 5), 1, np.float32)
NAN[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_kernel(scale=()), "Conv/weights is quantised, but the file gives no scale"),
        (with_kernel(scale=(-0.5,)), "a scale that is negative or no number"),
        (with_kernel(scale=(float("nan"),)), "a scale that is negative or no number"),
        (with_kernel(scale=(3e38,)), "backbone/conv/weights holds NaN or infinity"),
        (with_kernel(dtype="f4", data=NAN), "backbone/conv/weights holds NaN or infinity"),
        (with_kernel(dtype="f8", data=NAN), "unsupported type FLOAT64"),
        (with_kernel(data=None), "Conv/weights holds no numbers"),
        (with_kernel(data=np.zeros(7)), "not a whole TensorFlow Lite file"),
        (with_kernel(shape=(120,)), "not a whole TensorFlow Lite file"),
        (with_kernel(name="conv2d_1/Kernel"), "first convolution is called conv2d_1/Kernel.*lost its names"),
        (with_kernel(name="MobilenetV2/Logits/Conv2d_1c_1x1/w"), "Two convolutions claim to be head/logits"),
        (chain(), "holds no convolutions"),
        (
            chain(("MobilenetV2/Conv/w", "a", 1.0, 0, "NONE"), ("decoder/conv0/w", "b", 1.0, 0, "NONE")),
            "The convolution decoder/conv0/w is not part of any network",
        ),
    ],
)
def test_what_cannot_be_imported_is_named(
    tmp_path: Path, content: tuple[list[Stored], list[Step]], message: str
) -> None:
    with pytest.raises(WeightsError, match=rf"x\.tflite.*{message}"):
        read_tflite(write_tflite(tmp_path / "x.tflite", *content))


def test_a_file_cut_anywhere_or_with_wild_offsets_is_named(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "x.tflite", *three_layers(kernels_of("u1")[0]))
    whole = path.read_bytes()
    read_tflite(path)
    # The tables lie in front, the numbers behind: up to the last of them nothing may be missing.
    for size in range(0, len(whole) - 64, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"x\.tflite"):
            read_tflite(path)
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(whole)
        for position in generator.integers(8, len(whole), 3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_tflite(path)
        except WeightsError as error:
            outcomes.add(type(error.__cause__).__name__)
    assert len(outcomes) > 4, "the damage must reach flatbuffers and numpy in several ways"


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\xff" * 100, b"PK\x03\x04" * 30])
def test_what_is_no_flatbuffer_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.tflite"):
        read_tflite(tmp_path / "x.tflite")
    with pytest.raises(WeightsError, match="FileNotFoundError"):
        read_tflite(tmp_path / "missing.tflite")


def test_without_the_package_its_installation_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(RequestError, match="pip install tflite"):
        read_tflite(tmp_path / "x.tflite")


def append_zip(path: Path, members: dict[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    path.write_bytes(b"model" * 100 + buffer.getvalue())
    return path


def test_labels_come_from_the_appended_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    members = {"labels.txt": "background\ntench\n\ngrößte Kröte \n".encode(), "vocabulary.txt": b"x"}
    assert read_tflite_labels(append_zip(path, members)) == ["background", "tench", "", "größte Kröte"]
    assert read_tflite_labels(append_zip(path, {"vocabulary.txt": b"x"})) is None
    path.write_bytes(b"model")
    assert read_tflite_labels(path) is None
    assert read_tflite_labels(tmp_path / "missing.tflite") is None
    with pytest.raises(WeightsError, match=r"several files of labels: labels\.txt, labels_de\.txt"):
        read_tflite_labels(append_zip(path, {"labels.txt": b"a", "labels_de.txt": b"b"}))
    with pytest.raises(WeightsError, match=r"labels inside .*x\.tflite cannot be read"):
        read_tflite_labels(append_zip(path, {"labels.txt": b"\xff\xff"}))
    damaged = append_zip(path, {"labels.txt": b"background"}).read_bytes()
    path.write_bytes(damaged.replace(b"background", b"backgroond", 1))
    with pytest.raises(WeightsError, match="Bad CRC-32"):
        read_tflite_labels(path)


@pytest.mark.parametrize(
    ("name", "size", "parameters", "ranges"),
    [
        ("deeplabv3_mnv2_pascal_quant", (513, 513), 2_097_013, 67),
        ("deeplabv3_mnv2_dm05_pascal_quant", (513, 513), 688_357, 67),
        ("mobilenet_v2_1.0_224_quant", (224, 224), 3_489_097, 64),
    ],
)
def test_published_quantised_models_are_read_whole(
    shared: Path, name: str, size: tuple[int, int], parameters: int, ranges: int
) -> None:
    path = shared / "models" / f"{name}.tflite"
    found = read_tflite(path)
    assert found.size == size
    assert sum(array.size for array in found.weights.values()) == parameters
    assert len(found.ranges) == ranges
    assert found.ranges["image"] == (-1.0, 127 / 128)
    assert found.ranges["backbone/expanded_conv_16/depthwise"] == pytest.approx((0, 6), abs=1e-3)
    added = [n for n in range(1, 17) if f"backbone/expanded_conv_{n}/add" in found.ranges]
    assert added == [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]
    for low, high in found.ranges.values():
        assert low <= 0 < high
    for key, array in found.weights.items():
        if key.endswith("/weights"):
            assert len(np.unique(array)) <= 256, f"{key} was stored in 8 bits"
    labels = read_tflite_labels(path)
    if "deeplab" in name:
        assert labels is None
    else:
        assert labels is not None
        assert (len(labels), labels[:2]) == (1001, ["background", "tench, Tinca tinca"])
