"""Turn a model into LiteRT's own int8 file of the same network, to be timed beside ours by `int8.py`.

Weights and activations are quantised by TensorFlow's converter, at its defaults for whole-number networks
(per-channel weights, ranges from pictures), so that LiteRT runs what its own tools make.
Usage: python benchmarks/litert_model.py MODEL --images DIR OUTPUT.tflite
Needs TensorFlow, which nothing else here does: python -m pip install tensorflow-cpu ai-edge-litert
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from camera.pictures import list_pictures, read_picture
from edge_mnv2.networks.base import INPUT_NAME
from edge_mnv2.networks.graph import Graph, Node, same_padding
from edge_mnv2.networks.onnx_writer import to_onnx
from edge_mnv2.networks.weight_sources import weights_from
from edge_mnv2.zoo.architectures import build_network
from edge_mnv2.zoo.model import Model, load_model, make_network
from engines import OnnxRuntimeEngine

try:
    import tensorflow as tf
except ImportError as error:
    sys.exit(
        f"TensorFlow makes LiteRT's files ({error}): python -m pip install tensorflow-cpu ai-edge-litert"
    )

# The picture less its mean: where LiteRT's network begins, on the bytes of the picture as they are.
CENTRED = "centred"
NHWC = [0, 2, 3, 1]
HEIGHT_WIDTH_INPUT_OUTPUT = (2, 3, 1, 0)


def apply_graph(graph: Graph, centred: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the graph's outputs; what is NCHW there is NHWC here."""
    tensors = {CENTRED: centred}
    for node in graph.nodes:
        if node.output not in (CENTRED, "pixels", "planes"):
            tensors[node.output] = _apply(graph, node, [tensors.get(name) for name in node.inputs])
    return {output.name: tensors[output.name] for output in graph.outputs}


def _apply(graph: Graph, node: Node, inputs: list[tf.Tensor]) -> tf.Tensor:
    x = inputs[0]
    match node.op:
        case "Conv":
            x = _convolve(graph, node, x)
        case "Clip":
            x = tf.nn.relu6(x)
        case "Relu":
            x = tf.nn.relu(x)
        case "Add":
            x += inputs[1]
        case "GlobalAveragePool":
            x = tf.reduce_mean(x, (1, 2), keepdims=True)
        case "Expand":
            # Of one position this repeats it, too, and XNNPACK has no int8 kernel for BROADCAST_TO.
            x = tf.image.resize(x, graph.constants[node.inputs[1]][2:])
        case "Reshape":
            x = tf.reshape(x, graph.constants[node.inputs[1]])
        case "Concat":
            is_map = len(graph.tensors[node.output].shape) == 4
            x = tf.concat(inputs, NHWC.index(node.attributes["axis"]) if is_map else node.attributes["axis"])
        case "Identity":
            x = tf.identity(x)
        case "Transpose" if node.attributes["perm"] == NHWC:
            pass  # it is so already
        case _:
            raise NotImplementedError(f"{node.op} ({node.output}) has no counterpart here yet.")
    return x


def _convolve(graph: Graph, node: Node, x: tf.Tensor) -> tf.Tensor:
    kernel = graph.constants[node.inputs[1]].transpose(HEIGHT_WIDTH_INPUT_OUTPUT)
    stride, dilation = node.attributes["strides"][0], node.attributes["dilations"][0]
    top, left, bottom, right = node.attributes["pads"]
    same = [same_padding(size, kernel.shape[0], stride, dilation)[:2] for size in x.shape[1:3]]
    padding = "SAME"
    if [(top, bottom), (left, right)] != same:
        x, padding = tf.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)]), "VALID"
    if node.attributes["group"] > 1:
        x = tf.nn.depthwise_conv2d(
            x, kernel.transpose(0, 1, 3, 2), (1, stride, stride, 1), padding, dilations=(dilation, dilation)
        )
    else:
        x = tf.nn.conv2d(x, kernel, stride, padding, dilations=dilation)
    return tf.nn.bias_add(x, graph.constants[node.inputs[2]]) if len(node.inputs) > 2 else x


def prepared(model: Model, folder: Path, count: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the network's input of each picture of a folder, the first `count`."""
    network = make_network(model)
    for path in list_pictures(folder)[:count]:
        pixels = np.empty((1, *model.spec.size, 3), np.uint8)
        network.prepare(read_picture(path), pixels)
        yield pixels


def main() -> None:
    """Write the file, and print how close its network is to ours before anything is rounded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output", type=Path)
    parser.add_argument("--images", type=Path, required=True, help="pictures to find ranges on")
    parser.add_argument("--count", type=int, default=100, help="of how many of them")
    arguments = parser.parse_args()

    model = load_model(arguments.model)
    graph = build_network(model.spec, weights_from(model.weights.arrays()))
    subtraction = next(node for node in graph.nodes if node.output == CENTRED)
    means = graph.constants[subtraction.inputs[1]].reshape(-1)
    pictures = list(prepared(model, arguments.images, arguments.count))

    module = tf.Module()
    shape = tf.TensorSpec((1, *model.spec.size, 3), tf.float32, CENTRED)
    module.run = tf.function(lambda centred: apply_graph(graph, centred), [shape], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.run.get_concrete_function()], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([pixels - means] for pixels in pictures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # Anything else costs LiteRT a conversion at each end.
    converter.inference_input_type = converter.inference_output_type = tf.int8
    arguments.output.write_bytes(converter.convert())

    with TemporaryDirectory() as folder:
        onnx_path = Path(folder) / "float.onnx"
        onnx_path.write_bytes(to_onnx(graph, model.name, "float32"))
        expected = OnnxRuntimeEngine(onnx_path, threads=1).run({INPUT_NAME: pictures[0]})
    in_float = module.run(tf.constant(pictures[0] - means))
    for name, values in expected.items():
        found = in_float[name].numpy()
        found = found.transpose(0, 3, 1, 2) if found.ndim == 4 else found
        print(f"{name}: float32 differs from ONNX Runtime's by at most {np.abs(found - values).max():.1e}")


if __name__ == "__main__":
    main()
