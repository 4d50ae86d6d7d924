"""A graph as an ONNX file."""

from __future__ import annotations

from edge_mnv2.networks.graph import Graph

# Opset 13 is the first with per-channel QDQ and is read by TensorRT 8.6 and every ONNX Runtime we support.
_OPSET = 13
_IR_VERSION = 8


def to_onnx(graph: Graph, name: str, description: str) -> bytes:
    """Serialise a graph as an ONNX model, checked by onnx itself."""
    import onnx
    from onnx import helper, numpy_helper

    types = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
    nodes = [
        helper.make_node(node.op, node.inputs, [node.output], name=node.output, **node.attributes)
        for node in graph.nodes
    ]
    inputs, outputs = (
        [helper.make_tensor_value_info(tensor.name, types[tensor.dtype], tensor.shape) for tensor in tensors]
        for tensors in (graph.inputs, graph.outputs)
    )
    constants = [numpy_helper.from_array(array, key) for key, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, name.replace("-", "_"), inputs, outputs, constants, description),
        producer_name="edge-mnv2",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised
