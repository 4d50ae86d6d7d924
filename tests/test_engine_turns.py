from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from camera.pictures import read_picture
from edge_mnv2.engine_turns import EngineTurns
from edge_mnv2.errors import RequestError
from edge_mnv2.predictor import PredictorOptions, open_predictor
from edge_mnv2.results import Detections
from edge_mnv2.threads import Worker
from edge_mnv2.zoo.model import DecoderOptions
from engines import FakeEngine, TensorSpec
from tests.samples import fake_predictor

WAIT_S = 30


def engine() -> FakeEngine:
    spec = TensorSpec("image", (1, 8, 8, 3), np.dtype(np.uint8))
    return FakeEngine((spec,), compute=lambda _: {}, output_specs=())


def test_the_first_to_come_is_the_first_served() -> None:
    turns, served = EngineTurns(engine(), "fp32"), []
    arrived = threading.Event()

    def take(number: int) -> Callable[[], None]:
        def run() -> None:
            arrived.set()
            with turns.turn():
                served.append(number)

        return run

    with turns.turn():
        workers = []
        for number in range(8):
            workers.append(Worker(take(number), f"camera {number}"))
            assert arrived.wait(WAIT_S)
            arrived.clear()
            while len(turns._waiting) < number + 2:
                pass
    assert all(worker.join(WAIT_S) for worker in workers)
    assert served == list(range(8))


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    """Whoever comes again at once waits behind those who wait already."""
    turns, order = EngineTurns(engine(), "fp32"), []
    begun = threading.Barrier(2)

    def camera(name: str) -> Callable[[], None]:
        def run() -> None:
            begun.wait(WAIT_S)
            for _ in range(200):
                with turns.turn():
                    order.append(name)
                    while len(turns._waiting) < 2 and order.count(other[name]) < 200:
                        pass

        return run

    other = {"a": "b", "b": "a"}
    workers = [Worker(camera(name), name) for name in other]
    assert all(worker.join(WAIT_S) for worker in workers)
    for worker in workers:
        worker.check()
    assert order.count("a") == order.count("b") == 200
    assert all(first != second for first, second in pairwise(order[:-1]))


def test_one_who_fails_gives_the_engine_back() -> None:
    turns = EngineTurns(engine(), "fp32")
    with pytest.raises(ZeroDivisionError), turns.turn():
        raise ZeroDivisionError
    with turns.turn() as given:
        assert given.backend == turns.backend
    turns.close()


def test_cameras_share_an_engine_each_with_its_own_decoder(pictures: Path) -> None:
    image: NDArray[np.uint8] = read_picture(pictures / "000000037777.jpg")
    first = open_predictor("ssdlite-mnv2-coco", PredictorOptions(engine="onnxruntime", precision="fp32"))
    second = first.for_camera(DecoderOptions(threshold=0.2, classes=["orange"]))
    found, stages_ms = first.predict(image)
    some, _ = second.predict(image)
    assert isinstance(found, Detections)
    assert isinstance(some, Detections)
    assert [*stages_ms] == ["wait", "prepare", "infer", "decode"]
    assert {first.labels[int(class_id)] for class_id in found.class_id} == {"oven"}
    assert {second.labels[int(class_id)] for class_id in some.class_id} == {"orange"}
    assert some.score.min() < 0.5 <= found.score.min()
    second.close()  # not its engine
    again, _ = first.predict(image)
    assert isinstance(again, Detections)
    assert np.array_equal(again.xyxy, found.xyxy)
    first.close()


def test_what_is_reported_changes_at_once_and_only_to_what_exists() -> None:
    predictor = open_predictor("ssdlite-mnv2-coco", PredictorOptions(engine="onnxruntime"))
    assert predictor.decoder == DecoderOptions()
    predictor.change_decoder(DecoderOptions(threshold=0.9))
    assert predictor.decoder == DecoderOptions(threshold=0.9)
    for wrong in (DecoderOptions(threshold=1.5), DecoderOptions(classes=["unicorn"])):
        with pytest.raises(RequestError):
            predictor.change_decoder(wrong)
    assert predictor.decoder == DecoderOptions(threshold=0.9)
    predictor.close()
    with pytest.raises(RequestError, match="cannot be changed"):
        fake_predictor().change_decoder(DecoderOptions())
