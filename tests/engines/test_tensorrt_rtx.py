"""TensorRT itself parses every graph that the project ships, and builds a plan from it.

TensorRT for RTX comes as wheels and builds plans where there is no GPU, for one that is named. Its interface
and its rules are those of TensorRT 11: tensors have the types that the graph declares, quantisation is
symmetric. It cannot show that a plan runs: without a device there is no Runtime to load it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

import numpy as np
import onnx
import pytest

from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.graph import Graph, Tensor
from edge_mnv2.networks.half_precision import to_half
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.quantise import quantise
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import random_weights
from edge_mnv2.zoo.architectures import Spec, build_network
from edge_mnv2.zoo.catalogue import CATALOGUE
from edge_mnv2.zoo.graph_store import Precision, build_graph, build_untrained
from edge_mnv2.zoo.model import Variant, load_model
from tests.networks.test_quantise import NETWORKS, wide_statistics

try:
    import tensorrt_rtx_bindings as trt
except ImportError as missing:
    pytest.skip(f"needs TensorRT for RTX, the extra `rtx` ({missing})", allow_module_level=True)

TRAINED = {
    "ssdlite-mnv2-coco": (Variant(), Variant((320, 320)), Variant((257, 193))),
    "deeplabv3-mnv2-voc": (Variant(), Variant(output_stride=8), Variant((257, 193), 8)),
    "mobilenet-v2-imagenet": (Variant(), Variant((300, 300)), Variant((257, 193))),
}
UNTRAINED: tuple[Spec, ...] = (
    SsdLiteSpec(91, (300, 300), 0.35),
    SsdLiteSpec(2, (224, 224), 1.4),
    SsdLiteSpec(21, (193, 257), 0.5, last_channels=256),
    DeepLabSpec(21, (513, 513), 0.5, channel_multiple=1),
    DeepLabSpec(21, (224, 224), 0.35, output_stride=8, scaling=IMAGENET_SCALING),
    DeepLabSpec(2, (193, 257), 1.4, output_stride=32),
    ClassifierSpec(1000, (224, 224), 0.35),
    ClassifierSpec(10, (257, 193), 1.4, IMAGENET_SCALING, "symmetric"),
    ClassifierSpec(1000, (32, 32), 0.5),
)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Messages(trt.ILogger):
    """Keeps what TensorRT complains about; its own logger prints."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, severity: Any, line: str) -> None:  # noqa: ANN401 - the library's own type
        if severity <= trt.ILogger.Severity.ERROR:
            self.lines.append(line)


@cache
def messages() -> Messages:
    """Return the one logger: while any builder lives, TensorRT ignores that of the next."""
    return Messages()


class RefusedError(Exception):
    """TensorRT takes no such graph; its own words."""


@dataclass(frozen=True, slots=True)
class Built:
    """What TensorRT made of a graph.

    Attributes:
        layers: How many layers there are of each kind whose output is of each type.
        tensors: Shape and type by name, inputs and outputs.
        plan_bytes: Size of the plan.
    """

    layers: Counter[tuple[str, str]]
    tensors: dict[str, tuple[tuple[int, ...], str]]
    plan_bytes: int


def build(serialised: bytes) -> Built:
    """Parse a graph and build a plan for a GPU of the Ada generation."""
    logger = messages()
    logger.lines.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(serialised):
        raise RefusedError("; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RefusedError("; ".join(logger.lines))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    return Built(
        Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers),
        {tensor.name: (tuple(tensor.shape), tensor.dtype.name) for tensor in tensors},
        plan.nbytes,
    )


def build_and_check(serialised: bytes, precision: Precision) -> int:
    """Build a plan, make sure that TensorRT saw the network that was meant, and return the plan's size."""
    built = build(serialised)
    onnx_graph = onnx.load_from_string(serialised).graph
    shapes = {
        value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in (*onnx_graph.input, *onnx_graph.output)
    }
    # As on ONNX Runtime, in any precision: whoever fills inputs and decodes outputs does not notice.
    assert built.tensors == {
        name: (shape, "UINT8" if name == INPUT_NAME else "FLOAT") for name, shape in shapes.items()
    }
    written = Counter(node.op_type for node in onnx_graph.node)
    computed = "HALF" if precision == "fp16" else "FLOAT"
    assert built.layers["CONVOLUTION", computed] == written["Conv"]
    assert built.layers["ACTIVATION", computed] == written["Clip"] + written["Relu"]
    assert built.layers["QUANTIZE", "INT8"] == written["QuantizeLinear"]
    assert (written["QuantizeLinear"] > written["Conv"] / 2) == (precision == "int8")
    if precision == "fp16":
        in_float = {layer: count for layer, count in built.layers.items() if layer[1] != "HALF"}
        assert in_float == {("CAST", "FLOAT"): len(onnx_graph.output)}
    return built.plan_bytes


def untrained(spec: Spec, precision: Precision) -> bytes:
    if precision == "int8":
        return to_onnx(symmetric(build_network(spec, random_weights(0))), "untrained", "")
    return build_untrained(spec, precision=precision)


def symmetric(graph: Graph) -> Graph:
    return quantise(graph, wide_statistics(graph), "symmetric")


def test_every_embedded_model_is_among_them() -> None:
    assert set(TRAINED) == {card.name for card in CATALOGUE if card.embedded}


@pytest.mark.parametrize(
    ("name", "variant"), [(name, variant) for name, variants in TRAINED.items() for variant in variants]
)
def test_trained_networks_build(name: str, variant: Variant) -> None:
    model = load_model(name, variant)
    plan_bytes = {
        precision: build_and_check(build_graph(model, precision, flavour="symmetric"), precision)
        for precision in PRECISIONS
    }
    # Weights are most of it, and they are half as wide.
    assert plan_bytes["fp16"] < 0.7 * plan_bytes["fp32"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spec", UNTRAINED, ids=lambda spec: f"{type(spec).__name__}-{spec.width_multiplier}")
def test_untrained_networks_build(spec: Spec, precision: Precision) -> None:
    build_and_check(untrained(spec, precision), precision)


def test_split_networks_build() -> None:
    build_and_check(build_untrained(ClassifierSpec(), 4), "fp32")


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_made_for_onnx_runtime_is_refused(name: str) -> None:
    """These tests can fail: TensorRT neither moves bytes of 8 bits nor has zero points."""
    with pytest.raises(RefusedError, match=r"(?i)type.*uint8"):
        build(build_graph(load_model(name), "int8", flavour="asymmetric"))


@pytest.mark.parametrize("kind", ["weights", "activations"])
def test_a_zero_point_is_refused(kind: str) -> None:
    graph = symmetric(NETWORKS["classifier"]((65, 70)))
    name = {"weights": "backbone/conv/linear/weights", "activations": "backbone/conv/stored"}[kind]
    constant = f"{name}/zero_point"
    shifted = replace(graph, constants={**graph.constants, constant: graph.constants[constant] + np.int8(1)})
    with pytest.raises(RefusedError, match="Non-zero zero point"):
        build(to_onnx(shifted, "shifted", ""))


def test_a_quantised_bias_is_refused() -> None:
    graph = symmetric(NETWORKS["classifier"]((65, 70)))
    convolution = next(node for node in graph.nodes if node.op == "Conv")
    biases = graph.constants[convolution.inputs[2]]
    stored = replace(graph, nodes=[], tensors=dict(graph.tensors), constants=dict(graph.constants))
    levels = stored.constant("bias/stored", np.rint(biases / 1e-4).astype(np.int32))
    parameters = [stored.constant("bias/scale", np.float32(1e-4)), stored.constant("bias/zero", np.int32(0))]
    dequantised = stored.append("DequantizeLinear", [levels, *parameters], Tensor("bias", biases.shape))
    stored.nodes += [
        replace(node, inputs=(*node.inputs[:2], dequantised.name)) if node is convolution else node
        for node in graph.nodes
    ]
    with pytest.raises(RefusedError, match="type Int32 but must have type"):
        build(to_onnx(stored, "stored", ""))


@pytest.mark.parametrize("constant", ["backbone/conv/weights", "backbone/conv/biases", "centred/value"])
def test_one_float32_constant_in_float16_is_refused(constant: str) -> None:
    graph = NETWORKS["classifier"]((65, 70))
    half = to_half(graph)
    mixed = replace(half, constants={**half.constants, constant: graph.constants[constant]})
    with pytest.raises(RefusedError, match=r"must (be of|have) same (input )?type"):
        build(to_onnx(mixed, "mixed", ""))
