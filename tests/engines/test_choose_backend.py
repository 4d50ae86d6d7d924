"""Which backend is chosen, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import BackendUnavailableError, choose_backend
from engines.tensorrt import driver
from engines.tensorrt.probe import Probe, ProbeStep
from tests.engines.driver_library import ORIN

GOOD = Probe((ProbeStep("TensorRT version", "10.3.0"),), ORIN, "10.3.0")
BAD = Probe((ProbeStep("device", None, "there is no device", "buy one"),))


@pytest.mark.parametrize(
    ("wanted", "found", "backend", "why"),
    [
        ("auto", GOOD, "tensorrt", "the fastest here"),
        ("auto", BAD, "onnxruntime", "TensorRT cannot run: there is no device"),
        ("tensorrt", GOOD, "tensorrt", "as asked"),
    ],
)
def test_the_choice_follows_the_probe(
    monkeypatch: pytest.MonkeyPatch, wanted: str, found: Probe, backend: str, why: str
) -> None:
    monkeypatch.setattr("engines.factory.probe", lambda: found)
    choice = choose_backend(wanted)
    assert (choice.backend, choice.why, choice.probe) == (backend, why, found)


def test_onnx_runtime_is_taken_without_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.factory.probe", lambda: pytest.fail("nobody asked for TensorRT"))
    choice = choose_backend("onnxruntime")
    assert (choice.backend, choice.why, choice.probe) == ("onnxruntime", "as asked", None)


def test_tensorrt_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.factory.probe", lambda: BAD)
    with pytest.raises(BackendUnavailableError) as caught:
        choose_backend("tensorrt")
    assert str(caught.value).splitlines()[:2] == [
        "TensorRT cannot run here: there is no device.",
        "To mend it: buy one",
    ]


@pytest.mark.parametrize("wanted", ["tensorrtt", "", "TensorRT", "fake"])
def test_an_unknown_backend_is_named_with_the_known_ones(wanted: str) -> None:
    with pytest.raises(
        BackendUnavailableError, match=f"'{wanted}': choose one of auto, onnxruntime, tensorrt"
    ):
        choose_backend(wanted)


def test_auto_is_what_is_chosen_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.factory.probe", lambda: BAD)
    assert choose_backend() == choose_backend("auto")


def test_a_machine_without_nvidia_falls_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(driver, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    choice = choose_backend("auto")
    assert choice.backend == "onnxruntime"
    assert "there is no NVIDIA driver" in choice.why
