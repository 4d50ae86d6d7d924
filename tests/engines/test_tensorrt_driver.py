"""The CUDA driver by ctypes: what it says of its device, and that each of its errors is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.tensorrt import driver
from engines.tensorrt.driver import DriverError, first_device, open_driver
from tests.engines.driver_library import ORIN, make_library


@pytest.mark.parametrize(
    ("number", "version"), [(11040, "11.4"), (12060, "12.6"), (12110, "12.11"), (13000, "13.0")]
)
def test_the_version_is_told_as_cuda_counts(number: int, version: str) -> None:
    assert first_device(make_library(version=number)).driver_version == version


def test_the_first_device_is_described() -> None:
    assert first_device(make_library(devices=2)) == ORIN


def test_no_device_is_an_error() -> None:
    with pytest.raises(DriverError, match="no CUDA device"):
        first_device(make_library(devices=0))


@pytest.mark.parametrize(
    "function",
    [
        "cuInit",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetName",
        "cuDriverGetVersion",
        "cuDeviceGetAttribute",
    ],
)
@pytest.mark.parametrize(
    ("code", "words"), [(2, r"out of memory \(2\)"), (999, r"unknown error \(999\)"), (4711, "error 4711")]
)
def test_an_error_of_the_driver_is_named(function: str, code: int, words: str) -> None:
    with pytest.raises(DriverError, match=rf"^{function} failed: {words}$"):
        first_device(make_library({function: code}))


def test_a_driver_that_is_not_there_or_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libcuda.so.1"
    monkeypatch.setattr(driver, "LIBRARY", str(library))
    with pytest.raises(DriverError, match=r"libcuda\.so\.1") as caught:
        open_driver()
    assert isinstance(caught.value.__cause__, OSError)
    library.write_bytes(b"no library")
    with pytest.raises(DriverError, match=r"libcuda\.so\.1"):
        open_driver()


def test_a_function_that_an_old_driver_lacks_is_named() -> None:
    library = make_library()
    del library.cuDeviceGetName
    with pytest.raises(DriverError, match="cuDeviceGetName"):
        first_device(library)


def test_the_real_driver_answers_or_says_why_not() -> None:
    """On any machine: no crash, and either a device or a reason."""
    try:
        device = first_device(open_driver())
    except DriverError:
        return
    assert device.name
    assert device.sm_count > 0
