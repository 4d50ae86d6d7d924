from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError
from edge_mnv2.networks.classifier import ClassifierSpec, build_classifier
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.importers.state_dict import read_state_dict
from edge_mnv2.zoo.importers.torchvision_names import canonical_torchvision

Arrays = dict[str, NDArray[np.float32]]


def shapes_of(spec: ClassifierSpec) -> dict[str, tuple[int, ...]]:
    return build_classifier(spec, shapes_only).weight_shapes


def theirs(name: str) -> tuple[str, str]:
    """Return torchvision's names of one of our convolutions and of its batch norm."""
    if name == "backbone/conv":
        return "features.0.0", "features.0.1"
    if name == "backbone/conv_1":
        return "features.18.0", "features.18.1"
    _, block, part = name.split("/")
    number = int(block.removeprefix("expanded_conv").removeprefix("_") or 0)
    steps = ["expand", "depthwise", "project"] if number else ["depthwise", "project"]
    position = steps.index(part)
    inside = f"features.{number + 1}.conv"
    if part == "project":
        return f"{inside}.{position}", f"{inside}.{position + 1}"
    return f"{inside}.{position}.0", f"{inside}.{position}.1"


def state_dict(spec: ClassifierSpec) -> Arrays:
    """Random weights as torchvision's mobilenet_v2 names them."""
    generator = np.random.default_rng(0)
    tensors: Arrays = {}
    for name, shape in shapes_of(spec).items():
        layer, _, kind = name.rpartition("/")
        if layer == "head/logits":
            suffix = "weight" if kind == "weights" else "bias"
            tensors[f"classifier.1.{suffix}"] = generator.normal(size=shape[:2])
        elif kind == "weights":
            convolution, norm = theirs(layer)
            tensors[f"{convolution}.weight"] = generator.normal(size=shape)
            tensors[f"{norm}.weight"] = generator.uniform(0.5, 2, shape[0])
            tensors[f"{norm}.bias"] = generator.normal(size=shape[0])
            tensors[f"{norm}.running_mean"] = generator.normal(size=shape[0])
            # Small ones: the wrong epsilon shows.
            tensors[f"{norm}.running_var"] = generator.uniform(1e-4, 1e-2, shape[0])
    return {name: array.astype(np.float32) for name, array in tensors.items()}


@pytest.mark.parametrize("width", [0.35, 1.0, 1.4])
def test_every_convolution_of_every_width_gets_its_name_and_shape(width: float) -> None:
    spec = ClassifierSpec(classes=7, width_multiplier=width)
    found = canonical_torchvision(state_dict(spec))
    assert {name: array.shape for name, array in found.items()} == shapes_of(spec)
    assert all(array.dtype == np.float32 for array in found.values())


def test_folded_batch_norm_equals_the_norm_after_the_convolution() -> None:
    spec = ClassifierSpec(classes=3, width_multiplier=0.35)
    tensors = state_dict(spec)
    folded = canonical_torchvision(tensors)
    generator = np.random.default_rng(1)
    layers = [name.removesuffix("/weights") for name in folded if name.endswith("/weights")]
    assert len(layers) == 53
    for layer in layers[:-1]:
        convolution, norm = theirs(layer)
        kernel = tensors[f"{convolution}.weight"]
        patch = generator.normal(size=kernel.shape[1:])
        output = (kernel * patch).sum(axis=(1, 2, 3), dtype=np.float64)
        deviation = np.sqrt(tensors[f"{norm}.running_var"].astype(np.float64) + 1e-5)
        normed = (output - tensors[f"{norm}.running_mean"]) / deviation
        expected = normed * tensors[f"{norm}.weight"] + tensors[f"{norm}.bias"]
        ours = (folded[f"{layer}/weights"] * patch).sum(axis=(1, 2, 3), dtype=np.float64)
        np.testing.assert_allclose(ours + folded[f"{layer}/biases"], expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(folded["head/logits/weights"][:, :, 0, 0], tensors["classifier.1.weight"])
    np.testing.assert_array_equal(folded["head/logits/biases"], tensors["classifier.1.bias"])


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("features.3.conv.1.1.running_mean", None, r"features\.3\.conv\.1\.1\.running_mean .* is missing"),
        ("features.9.conv.2.weight", None, r"features\.9\.conv\.2\.weight .* is missing"),
        ("classifier.1.bias", np.zeros(2), r"classifier\.1\.bias has the shape \(2,\), and needs .*\(3,\)"),
        ("features.0.1.bias", np.zeros(5), r"features\.0\.1\.bias has the shape \(5,\), and needs .*\(16,\)"),
        (
            "features.0.0.weight",
            np.zeros(5),
            r"features\.0\.0\.weight has the shape \(5,\), and needs 4 axes",
        ),
        ("features.18.1.running_var", np.full(1280, np.nan), "backbone/conv_1/weights holds NaN"),
        ("features.18.1.running_var", np.full(1280, -1.0), "backbone/conv_1/weights holds NaN"),
        ("classifier.1.bias", np.full(3, np.inf), "head/logits/biases holds NaN or infinity"),
        ("features.19.0.weight", np.zeros((1, 1, 1, 1)), r"features\.19\.0\.weight is not part of"),
        ("features.2.conv.4.weight", np.zeros(1), r"features\.2\.conv\.4\.weight is not part of"),
        ("features.0.0.weight", None, "not the weights of torchvision's mobilenet_v2"),
    ],
)
def test_what_does_not_belong_is_named(name: str, array: NDArray[np.float64] | None, message: str) -> None:
    tensors = state_dict(ClassifierSpec(classes=3, width_multiplier=0.35))
    if array is None:
        del tensors[name]
    else:
        tensors[name] = array.astype(np.float32)
    with pytest.raises(WeightsError, match=message):
        canonical_torchvision(tensors)


def test_another_network_is_named_by_its_first_tensor() -> None:
    with pytest.raises(WeightsError, match=r"the first tensor is layer1\.weight"):
        canonical_torchvision({"layer1.weight": np.zeros(1, np.float32)})
    with pytest.raises(WeightsError, match="the first tensor is nothing at all"):
        canonical_torchvision({})


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    module: ModuleType = pytest.importorskip("torch", reason="reading PyTorch files needs PyTorch")
    return module


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state, "epoch": 3}])
def test_state_dicts_of_both_formats_are_read(
    tmp_path: Path,
    torch: Any,  # noqa: ANN401 - optional, so without types
    wrap: Callable[[dict[str, object]], dict[str, object]],
    new_format: bool,
) -> None:
    state: dict[str, object] = {
        "module.a.weight": torch.arange(6.0).reshape(2, 3),
        "a.half": torch.ones(2, dtype=torch.float16),
        "a.num_batches_tracked": torch.tensor(5),
    }
    path = tmp_path / "x.pth"
    torch.save(wrap(state), path, _use_new_zipfile_serialization=new_format)
    found = read_state_dict(path)
    assert found.keys() == {"a.weight", "a.half"}
    np.testing.assert_array_equal(found["a.weight"], np.arange(6).reshape(2, 3))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


class Code:
    """Whoever unpickles it without protection creates a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False])
def test_code_is_neither_run_nor_read(
    tmp_path: Path,
    torch: Any,  # noqa: ANN401 - optional, so without types
    new_format: bool,
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": Code(tmp_path / "run")}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(WeightsError, match=r"x\.pth.*more than weights.*torch\.save\(model\.state_dict"):
        read_state_dict(path)
    assert not (tmp_path / "run").exists()
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(WeightsError, match="more than weights"):
        read_state_dict(path)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_damaged_file_is_named(
    tmp_path: Path,
    torch: Any,  # noqa: ANN401 - optional, so without types
    new_format: bool,
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(64), "b": torch.ones(3)}, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for size in range(0, len(whole), 11):
        path.write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=r"x\.pth is damaged"):
            read_state_dict(path)
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_state_dict(path)
        except WeightsError as error:
            outcomes.add(type(error.__cause__).__name__)
    assert outcomes - {"NoneType"}, "the damage must reach torch"


@pytest.mark.parametrize("content", [b"", b"no pickle", b"PK\x03\x04" * 30])
def test_what_is_no_pytorch_file_is_named(tmp_path: Path, torch: ModuleType, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pth is damaged"):
        read_state_dict(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"missing\.pth cannot be read: .*No such file"):
        read_state_dict(tmp_path / "missing.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"model": {}}])
def test_a_file_without_tensors_is_named(
    tmp_path: Path,
    torch: Any,  # noqa: ANN401 - optional, so without types
    content: object,
) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="no floating-point tensors"):
        read_state_dict(tmp_path / "x.pth")


def test_without_pytorch_its_installation_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RequestError, match="pip install torch"):
        read_state_dict(tmp_path / "x.pth")
