"""How far two engines are from each other, and that no result lives in an engine's buffers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_mnv2.backends import open_onnx, synthetic_frames
from edge_mnv2.limits import LIMITS, failed_limits
from edge_mnv2.networks.base import INPUT_NAME, Network
from edge_mnv2.networks.deeplabv3 import DeepLab, DeepLabSpec
from edge_mnv2.parity import MAX_OUTPUT_ERROR, Parity, compare_engines
from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Result
from edge_mnv2.zoo.graph_store import Precision
from edge_mnv2.zoo.model import DecoderOptions, Model, load_model, make_network
from engines import Engine, FakeEngine, TensorSpec
from engines.base import Tensors

DETECTOR, SEGMENTER, CLASSIFIER = "ssdlite-mnv2-coco", "deeplabv3-mnv2-voc", "mobilenet-v2-imagenet"
MODELS = (DETECTOR, SEGMENTER, CLASSIFIER)
# What the graphs of these models give back.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    DETECTOR: {"box_encodings": (1, 1917, 4), "class_logits": (1, 1917, 91)},
    SEGMENTER: {"logits": (1, 21, 33, 33)},
    CLASSIFIER: {"logits": (1, 1000)},
}
IMAGE = np.zeros((48, 64, 3), np.uint8)

Arrays = dict[str, NDArray[Any]]


def scripted_engine(model: Model, answers: Iterable[Arrays]) -> FakeEngine:
    """Return an engine that gives one answer after the other, whatever it is asked."""
    script = iter(answers)
    return FakeEngine(
        (TensorSpec(INPUT_NAME, (1, *model.spec.size, 3), np.dtype(np.uint8)),),
        compute=lambda _: next(script),
        output_specs=tuple(
            TensorSpec(name, shape, np.dtype(np.float32)) for name, shape in SHAPES[model.name].items()
        ),
    )


class OverwritingEngine:
    """An engine whose answers lie in the same arrays after every run, as TensorRT's do."""

    def __init__(self, engine: Engine) -> None:
        self.backend = engine.backend
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.input_buffers = engine.input_buffers
        self.buffers: Arrays = {spec.name: np.empty(spec.shape, spec.dtype) for spec in engine.outputs}
        self._engine = engine

    def run(self, feeds: Tensors) -> Tensors:
        for name, array in self._engine.run(feeds).items():
            np.copyto(self.buffers[name], array)
        return self.buffers

    def close(self) -> None:
        for array in self.buffers.values():
            array.fill(np.nan)
        self._engine.close()


def random_answers(name: str, count: int, seed: int = 0) -> list[Arrays]:
    """Return random outputs; those of a detector with a handful of boxes, as of a trained one."""
    rng = np.random.default_rng(seed)
    mean = {"class_logits": -6.0}
    return [
        {
            output: rng.normal(mean.get(output, 0), 1, shape).astype(np.float32)
            for output, shape in SHAPES[name].items()
        }
        for _ in range(count)
    ]


def compare_scripts(
    name: str, expected: list[Arrays], given: list[Arrays], precision: Precision = "fp32"
) -> Parity:
    model = load_model(name)
    return compare_engines(
        model,
        scripted_engine(model, expected),
        scripted_engine(model, given),
        precision,
        [IMAGE] * len(expected),
    )


def slow_error(output: str, expected: list[Arrays], given: list[Arrays]) -> tuple[float, float]:
    """Return relative RMS error and largest difference, value by value over all pictures at once."""
    squared_errors, squares, differences = [], [], []
    for before, after in zip(expected, given, strict=True):
        pairs = zip(before[output].ravel().tolist(), after[output].ravel().tolist(), strict=True)
        for wanted, got in pairs:
            squared_errors.append((got - wanted) ** 2)
            squares.append(wanted**2)
            differences.append(abs(got - wanted))
    count = len(squares)
    rms_error = math.sqrt(math.fsum(squared_errors) / count)
    return rms_error / math.sqrt(math.fsum(squares) / count), max(differences)


@pytest.mark.parametrize("name", MODELS)
def test_errors_are_those_of_all_values_of_all_pictures_together(name: str) -> None:
    expected = random_answers(name, 3)
    # Of different size from picture to picture: a mean over pictures would be another number.
    scales = np.float32([1e-3, 0.1, 3])
    noise = random_answers(name, 3, seed=1)
    given = [
        {output: array + scale * extra[output] for output, array in answer.items()}
        for answer, extra, scale in zip(expected, noise, scales, strict=True)
    ]
    found = compare_scripts(name, expected, given)
    assert found.images == 3
    assert [*found.outputs] == [*SHAPES[name]]
    for output, error in found.outputs.items():
        relative, largest = slow_error(output, expected, given)
        assert error.relative == pytest.approx(relative, rel=1e-9)
        assert error.largest == pytest.approx(largest, rel=1e-9)


def test_each_engine_gets_the_same_picture_and_each_run_is_timed() -> None:
    model = load_model(CLASSIFIER)
    answers = itertools.repeat(random_answers(CLASSIFIER, 1)[0])
    seen: list[bytes] = []

    def look(feeds: Tensors) -> Tensors:
        seen.append(feeds[INPUT_NAME].tobytes())
        return next(answers)

    engines = [scripted_engine(model, ()) for _ in range(2)]
    for engine in engines:
        engine._compute = look
    counted: list[int] = []
    frames = list(synthetic_frames())
    found = compare_engines(model, *engines, "fp32", frames, counted.append)  # type: ignore[arg-type]
    assert counted == [1, 2, 3, 4]
    assert found.images == len(found.reference_ms) == len(found.candidate_ms) == 4
    assert all(duration_ms > 0 for duration_ms in (*found.reference_ms, *found.candidate_ms))
    prepared = np.empty((1, *model.spec.size, 3), np.uint8)
    for number, frame in enumerate(frames):
        make_network(model).prepare(frame, prepared)
        assert seen[2 * number] == seen[2 * number + 1] == prepared.tobytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_how_far_an_output_may_be_off_depends_on_the_precision(precision: Precision) -> None:
    limit = MAX_OUTPUT_ERROR[precision]
    expected = {"logits": np.ones((1, 1000), np.float32)}
    for factor, fails in ((0, False), (0.98, False), (1.02, True)):
        given = {"logits": expected["logits"] * np.float32(1 + factor * limit)}
        found = compare_scripts(CLASSIFIER, [expected], [given], precision)
        assert bool(found.failures) is fails
    (sentence,) = found.failures
    assert sentence.startswith(f"logits is off by {1.02 * limit:.2%} of its values")
    assert sentence.endswith(f"must be by at most {limit:.2%} in {precision}.")


def test_the_limits_widen_with_the_loss_of_a_precision() -> None:
    assert 0 < MAX_OUTPUT_ERROR["fp32"] < MAX_OUTPUT_ERROR["fp16"] < MAX_OUTPUT_ERROR["int8"] < 1


def test_only_the_output_that_is_off_fails() -> None:
    expected = random_answers(DETECTOR, 2)
    given = [{name: array.copy() for name, array in answer.items()} for answer in expected]
    given[1]["class_logits"] *= 2
    found = compare_scripts(DETECTOR, expected, given)
    assert [sentence.split()[0] for sentence in found.failures] == ["class_logits"]
    assert found.outputs["box_encodings"].relative == found.outputs["box_encodings"].largest == 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["candidate", "reference", "both"])
def test_what_is_not_finite_fails_and_is_not_decoded(name: str, value: float, side: str) -> None:
    """Warnings are errors here: decoding NaN would give some."""
    good, bad = random_answers(name, 2), random_answers(name, 2)
    for answer in bad:
        for array in answer.values():
            array.reshape(-1)[:: array.size // 2] = value
    found = compare_scripts(name, good if side == "candidate" else bad, good if side == "reference" else bad)
    for output in SHAPES[name]:
        assert (found.outputs[output].relative, found.outputs[output].largest) == (math.inf, math.inf)
    assert found.failures == tuple(f"{output} has values that are not finite." for output in SHAPES[name])
    # Nothing was compared, and nothing is said about it: neither that it is good nor that it is bad.
    assert (found.figures, found.disagreements) == ({}, ())


@pytest.mark.parametrize("name", MODELS)
def test_one_value_of_one_picture_that_is_not_finite_is_enough(name: str) -> None:
    expected, given = random_answers(name, 3), random_answers(name, 3)
    output = [*SHAPES[name]][-1]
    given[1][output].reshape(-1)[7] = np.nan
    found = compare_scripts(name, expected, given)
    assert found.failures == (f"{output} has values that are not finite.",)
    # The two others agree, and that is what the figures are about.
    assert found.figures
    assert found.disagreements == ()


def test_a_reference_of_zeros() -> None:
    zeros = {"logits": np.zeros((1, 1000), np.float32)}
    ones = {"logits": np.ones((1, 1000), np.float32)}
    found = compare_scripts(CLASSIFIER, [zeros], [zeros], "int8")
    assert (found.outputs["logits"].relative, found.failures) == (0, ())
    found = compare_scripts(CLASSIFIER, [zeros], [ones], "int8")
    assert (found.outputs["logits"].largest, len(found.failures)) == (1, 1)


def test_what_is_reported_is_compared_too_and_each_limit_that_is_missed_is_named() -> None:
    """Another best class: small beside all logits, and yet another answer."""
    expected = random_answers(CLASSIFIER, 2)
    given = [{"logits": answer["logits"].copy()} for answer in expected]
    for answer in given:
        answer["logits"][0, int(answer["logits"].argmin())] = answer["logits"].max() + 1
    found = compare_scripts(CLASSIFIER, expected, given, "int8")
    assert found.failures == ()
    assert found.figures["top1_agreement"] == 0
    (sentence, *_) = found.disagreements
    assert sentence == "top1_agreement is 0.0000, and must be at least 0.85."
    assert found.disagreements == failed_limits("classify", found.figures)


@pytest.mark.parametrize("task", LIMITS)
def test_a_figure_may_be_as_far_as_its_limit_and_no_farther(task: str) -> None:
    at_the_limit = {limit.figure: limit.bound for limit in LIMITS[task]}
    assert failed_limits(task, at_the_limit) == ()
    for limit in LIMITS[task]:
        step = -1e-6 if limit.is_smallest else 1e-6
        for bad in (limit.bound + step, math.nan):
            (sentence,) = failed_limits(task, at_the_limit | {limit.figure: bad})
            assert sentence == f"{limit.figure} is {bad:.4f}, and must be {limit.in_words()}."


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_agrees_with_itself_and_int8_within_its_limit(name: str) -> None:
    model = load_model(name)
    frames = list(synthetic_frames())
    with (
        closing(open_onnx(model, "fp32")) as reference,
        closing(open_onnx(model, "fp32")) as same,
        closing(open_onnx(model, "int8")) as other,
    ):
        found = compare_engines(model, reference, same, "fp32", frames)
        assert [*found.outputs] == [spec.name for spec in reference.outputs]
        for error in found.outputs.values():
            assert (error.relative, error.largest) == (0, 0)
        assert (found.failures, found.disagreements) == ((), ())
        found = compare_engines(model, reference, other, "int8", frames)
        assert all(0 < error.relative < MAX_OUTPUT_ERROR["int8"] for error in found.outputs.values())
        assert found.failures == ()
        # It is told from float32 by more than rounding.
        assert compare_engines(model, reference, other, "fp32", frames).failures


@pytest.mark.parametrize("name", MODELS)
def test_engines_that_overwrite_their_outputs_are_compared_the_same(name: str) -> None:
    model = load_model(name)
    frames = list(synthetic_frames())
    with closing(open_onnx(model, "fp32")) as reference, closing(open_onnx(model, "int8")) as candidate:
        found = compare_engines(model, reference, candidate, "int8", frames)
        again = compare_engines(
            model, OverwritingEngine(reference), OverwritingEngine(candidate), "int8", frames
        )
    assert (again.outputs, again.figures) == (found.outputs, found.figures)
    assert (again.failures, again.disagreements) == (found.failures, found.disagreements)


def columns(found: Result) -> Arrays:
    return {name: getattr(found, name) for name in type(found).__slots__}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (DETECTOR, DecoderOptions(threshold=0.01)),
        (SEGMENTER, DecoderOptions()),
        (SEGMENTER, DecoderOptions(masks=True)),
        (SEGMENTER, DecoderOptions(classes=["person"])),
        (CLASSIFIER, DecoderOptions(top_k=1000)),
        (CLASSIFIER, DecoderOptions(classes=["tench"])),
    ],
)
def test_a_result_stays_as_it_is_when_the_engine_goes_on(name: str, options: DecoderOptions) -> None:
    model = load_model(name)
    engine = OverwritingEngine(open_onnx(model, "fp32"))
    predictor = Predictor(name, model.task, model.labels, make_network(model, options), engine)
    frames = list(synthetic_frames())
    found, _ = predictor.predict(frames[0])
    before = {column: array.copy() for column, array in columns(found).items()}
    assert all(array.size for array in before.values())
    for array in columns(found).values():
        assert not any(np.shares_memory(array, buffer) for buffer in engine.buffers.values())
    predictor.predict(np.flip(frames[3]).copy())
    for buffer in engine.buffers.values():
        buffer.fill(-1)
    predictor.close()
    for column, array in columns(found).items():
        assert np.array_equal(array, before[column])


def test_a_map_as_fine_as_its_logits_is_no_view_of_them_either() -> None:
    """Nothing is interpolated then."""
    network: Network[Any] = DeepLab(DeepLabSpec(classes=3, size=(33, 33)))
    logits = np.random.default_rng(0).normal(size=(1, 3, 33, 33)).astype(np.float32)
    image = np.zeros((33, 33, 3), np.uint8)
    geometry = network.prepare(image, np.empty((1, 33, 33, 3), np.uint8))
    found = network.decode({"logits": logits}, geometry)
    assert np.array_equal(found.class_id, logits[0].argmax(axis=0))
    assert not np.shares_memory(found.class_id, logits)
