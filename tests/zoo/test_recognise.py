from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_mnv2.errors import WeightsError
from edge_mnv2.networks.classifier import ClassifierSpec
from edge_mnv2.networks.deeplabv3 import DeepLabSpec
from edge_mnv2.networks.mobilenet_v2 import IMAGENET_SCALING
from edge_mnv2.networks.ssdlite import SsdLiteSpec
from edge_mnv2.networks.weight_sources import shapes_only
from edge_mnv2.zoo.architectures import Spec, build_network
from edge_mnv2.zoo.importers.folding import check_finite
from edge_mnv2.zoo.recognise import Training, recognise
from tests.zoo.test_importers import Arrays

SPECS: dict[str, Spec] = {
    "ssdlite": SsdLiteSpec(4, width_multiplier=0.35),
    "deeplabv3": DeepLabSpec(5, width_multiplier=0.5, channel_multiple=1),
    "classifier": ClassifierSpec(6, width_multiplier=0.75),
}
each_network = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def shapes(spec: Spec) -> Arrays:
    """Return weights of the right shapes that take no memory."""
    needed = build_network(spec, shapes_only).weight_shapes
    return {name: shapes_only(name, shape) for name, shape in needed.items()}


@each_network
def test_every_number_of_classes_is_found(spec: Spec) -> None:
    for classes in (2, 3, 21, 91, 256):
        wanted = replace(spec, classes=classes)
        assert recognise(shapes(wanted), Training()) == wanted


@each_network
def test_training_says_what_shapes_do_not(spec: Spec) -> None:
    training = Training((320, 448), IMAGENET_SCALING, "symmetric")
    found = recognise(shapes(spec), training)
    assert found.size == (320, 448)
    assert getattr(found, "scaling", IMAGENET_SCALING) == IMAGENET_SCALING
    assert getattr(found, "padding", "symmetric") == "symmetric"


@each_network
def test_one_tensor_missing_extra_or_misshapen_is_named(spec: Spec) -> None:
    whole = shapes(spec)
    for name in ("backbone/conv/weights", "backbone/expanded_conv_16/project/biases"):
        without = {key: array for key, array in whole.items() if key != name}
        with pytest.raises(WeightsError, match=f"^1 tensors do not fit .* for example: {name} is missing"):
            recognise(without, Training())
    for name in ("backbone/expanded_conv_17/expand/weights", "head/aspp1/weights", "global_step"):
        with pytest.raises(WeightsError, match=f"^1 tensors .* {name} is not part of the network"):
            recognise(whole | {name: np.zeros(1, np.float32)}, Training())
    name = "backbone/expanded_conv_3/project/weights"
    misshapen = whole[name].swapaxes(0, 1)
    with pytest.raises(WeightsError) as caught:
        recognise(whole | {name: misshapen}, Training())
    assert f"{name} is {misshapen.shape}, needed {whole[name].shape}" in str(caught.value)


def test_the_weights_of_one_network_are_no_other() -> None:
    """A head that was put on another network's backbone; two heads in one file."""
    ssdlite, deeplab, classifier = (shapes(replace(spec, width_multiplier=1.0)) for spec in SPECS.values())
    for one, other, words in (
        (ssdlite, classifier, "a SSDLite of 4 classes"),
        (deeplab, classifier, "a Mobile DeepLabv3 of"),
    ):
        with pytest.raises(WeightsError, match=f"tensors do not fit {words}.*is not part of the network"):
            recognise(other | one, Training())
    backbone = {name: array for name, array in classifier.items() if name.startswith("backbone")}
    with pytest.raises(WeightsError, match=r"no network that we know.*SSDLite.*DeepLabv3.*classifier"):
        recognise(backbone, Training())
    with pytest.raises(WeightsError, match="no network that we know"):
        recognise({}, Training())


def test_heads_of_different_numbers_of_classes_are_named() -> None:
    whole = shapes(SPECS["ssdlite"])
    other = shapes(SsdLiteSpec(9, width_multiplier=0.35))
    name = "heads/head_3/class/predict"
    mixed = whole | {key: other[key] for key in (f"{name}/weights", f"{name}/biases")}
    with pytest.raises(
        WeightsError, match=rf"2 tensors do not fit a SSDLite of 4 classes.*{name}/biases is \(54,\)"
    ):
        recognise(mixed, Training())


@pytest.mark.parametrize("width", [0.25, 0.6, 1.2, 2.0])
def test_an_unpublished_width_is_no_network_that_we_know(width: float) -> None:
    with pytest.raises(WeightsError, match="tensors do not fit a classifier of 6 classes"):
        recognise(shapes(ClassifierSpec(6, width_multiplier=width)), Training())


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_head_too_small_for_a_class_is_named(size: int) -> None:
    name = "heads/head_0/class/predict/biases"
    with pytest.raises(WeightsError, match="tensors do not fit a SSDLite of 0 classes"):
        recognise(shapes(SPECS["ssdlite"]) | {name: np.zeros(size, np.float32)}, Training())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_is_named(value: float) -> None:
    whole = shapes(SPECS["deeplabv3"])
    check_finite(whole)
    biases = np.zeros_like(whole["head/aspp0/biases"])
    biases[7] = value
    with pytest.raises(WeightsError, match="head/aspp0/biases holds NaN or infinity"):
        check_finite(whole | {"head/aspp0/biases": biases})
