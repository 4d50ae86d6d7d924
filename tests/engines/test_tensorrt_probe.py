"""What is missing for TensorRT is said in order, with its remedy, before anything is loaded that needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from engines import BackendUnavailableError
from engines.tensorrt import driver
from engines.tensorrt import probe as probing
from engines.tensorrt.probe import Probe, ProbeStep, import_tensorrt, probe, require
from tests.engines.driver_library import ORIN, make_library

# JetPack leaves nvcc out of PATH.
PIP_INSTALL = f"PATH=$PATH:/usr/local/cuda/bin {sys.executable} -m pip install"
# What may be missing, in the order in which it is looked for; what is said to be missing, and its remedy.
ORDER = {
    "driver": ("NVIDIA driver", "there is no NVIDIA driver", "nvidia-jetpack"),
    "pycuda": (
        "pycuda",
        "module pycuda is not installed",
        f"{PIP_INSTALL} pycuda",
    ),
    "tensorrt": ("TensorRT", "module tensorrt is not installed", "apt install python3-libnvinfer"),
    "device": ("device", "no CUDA-capable device is detected (100)", "--runtime nvidia"),
    "pycuda import": (
        "pycuda",
        "pycuda is there, but does not load: broken",
        f"{PIP_INSTALL} --force-reinstall --no-cache-dir pycuda",
    ),
    "tensorrt import": ("tensorrt", "tensorrt is there, but does not load: broken", "python3-libnvinfer"),
    "version": ("TensorRT version", "TensorRT 8.5.2 is too old, 8.6 is the oldest", "JetPack 6"),
}
LEVELS = tuple(ORDER)
# How many of pycuda, pycuda.driver and tensorrt are imported until then.
IMPORTED = {"pycuda import": 2, "tensorrt import": 3, "version": 3}
STEPS = ["NVIDIA driver", "pycuda", "TensorRT", "device", "TensorRT version"]

Machine = Callable[..., Path]


@pytest.fixture
def log() -> list[str]:
    """What was called and imported, in order."""
    return []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[str]) -> Iterator[Machine]:
    """A function that makes a machine of which parts are broken, and returns where its modules lie."""
    for name in [name for name in sys.modules if is_vendors(name)]:
        monkeypatch.delitem(sys.modules, name)
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(sys, "import_log", log, raising=False)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)

    def make(
        broken: Collection[str] = (), error: str = "ImportError('broken')", version: str = "10.3.0"
    ) -> Path:
        monkeypatch.setattr(driver, "LIBRARY", str(tmp_path / "libcuda.so.1"))
        if "driver" not in broken:
            library = make_library({"cuInit": 100} if "device" in broken else {}, log=log)
            monkeypatch.setattr(driver, "open_driver", lambda: library)
        fail = f"raise {error}\n"
        told = "8.5.2" if "version" in broken else version
        bodies = {
            "pycuda/__init__.py": "",
            "pycuda/driver.py": fail if "pycuda import" in broken else "",
            "tensorrt/__init__.py": fail if "tensorrt import" in broken else f"__version__ = {told!r}\n",
        }
        for file, body in bodies.items():
            if file.partition("/")[0] not in broken:
                write_module(site / file, body)
        for name, number in (("pycuda", "2026.1"), ("tensorrt", version)):
            if name in broken:
                monkeypatch.setitem(sys.modules, name, None)  # whatever is installed
            else:
                write_record(site, name, number)
        return site

    yield make
    for name in [name for name in sys.modules if is_vendors(name)]:
        del sys.modules[name]


def is_vendors(module: str) -> bool:
    return module.partition(".")[0] in ("pycuda", "tensorrt")


def write_module(path: Path, body: str = "") -> None:
    """Write a module that first notes that it is imported."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"import sys\nsys.import_log.append(__name__)\n{body}", encoding="utf-8")


def write_record(site: Path, name: str, version: str) -> None:
    record = site / f"{name}-{version}.dist-info" / "METADATA"
    record.parent.mkdir()
    record.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")


def missing_in(found: Probe) -> ProbeStep:
    assert found.missing is not None
    return found.missing


# --- The order ---


def test_where_all_is_there_the_probe_says_what(machine: Machine, log: list[str]) -> None:
    machine()
    found = probe()
    assert found.missing is None
    assert [step.subject for step in found.steps] == STEPS
    assert [step.found for step in found.steps[1:]] == [
        "2026.1",
        "10.3.0",
        "Orin, compute capability 8.7, CUDA 12.6",
        "10.3.0",
    ]
    assert not any(step.problem or step.remedy for step in found.steps)
    assert (found.device, found.version) == (ORIN, "10.3.0")
    require(found)
    assert log[0] == "cuInit"
    assert log[-3:] == ["pycuda", "pycuda.driver", "tensorrt"]
    assert not [name for name in log if "Ctx" in name]


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_missing_first_is_said_first(machine: Machine, log: list[str], level: str) -> None:
    """Whatever comes after it is missing, too, and is not even tried."""
    later = LEVELS[LEVELS.index(level) :]
    machine(later)
    found = probe()
    subject, problem, remedy = ORDER[level]
    missing = missing_in(found)
    assert missing.subject == subject
    assert problem in missing.problem
    assert remedy in missing.remedy
    assert found.steps[-1] is missing
    assert [step.subject for step in found.steps[:-1]] == STEPS[: min(LEVELS.index(level), 4)]
    assert found.version is None
    imported = [name for name in log if is_vendors(name)]
    assert imported == ["pycuda", "pycuda.driver", "tensorrt"][: IMPORTED.get(level, 0)]


@pytest.mark.parametrize("level", LEVELS)
def test_each_thing_alone_is_found_to_be_missing(machine: Machine, level: str) -> None:
    machine([level])
    assert ORDER[level][1] in missing_in(probe()).problem


@pytest.mark.parametrize("level", LEVELS)
def test_a_refusal_has_three_lines(machine: Machine, level: str) -> None:
    machine([level])
    with pytest.raises(BackendUnavailableError) as caught:
        import_tensorrt()
    what, remedy, without = str(caught.value).splitlines()
    assert what.startswith("TensorRT cannot run here: ")
    assert ORDER[level][1] in what
    assert what.endswith(".")
    assert remedy.startswith("To mend it: ")
    assert ORDER[level][2] in remedy
    assert "--engine onnxruntime" in without


def test_tensorrt_is_imported_where_it_can_run(machine: Machine) -> None:
    site = machine()
    assert import_tensorrt().__file__ == str(site / "tensorrt" / "__init__.py")


# --- Devices ---


@pytest.mark.parametrize("node", ["nvmap", "nvhost-ctrl", "nvhost-ctrl-gpu"])
def test_a_jetson_s_device_that_this_user_may_not_open_is_told(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    machine(["device"])
    (tmp_path / "dev").mkdir()
    for name in ("nvmap", "nvhost-ctrl", "nvhost-ctrl-gpu", "null"):
        (tmp_path / "dev" / name).touch()
    # Root may open everything, and runs tests at times.
    monkeypatch.setattr(probing.os, "access", lambda path, mode: path.name not in (node, "null"))
    missing = missing_in(probe(device_root=tmp_path / "dev"))
    assert missing.subject == "device"
    assert missing.problem.startswith(f"this user may not open {tmp_path}/dev/{node} (")
    assert missing.remedy.startswith("sudo usermod -aG video,render $USER, then log in again; ")
    assert "SupplementaryGroups=video render" in missing.remedy


def test_groups_are_not_blamed_where_devices_can_be_opened(machine: Machine, tmp_path: Path) -> None:
    machine(["device"])
    (tmp_path / "dev").mkdir()
    for name in ((), ("nvmap",)):
        for each in name:
            (tmp_path / "dev" / each).touch()
        assert ORDER["device"][1] in missing_in(probe(device_root=tmp_path / "dev")).problem


# --- Modules ---


@pytest.mark.parametrize(
    "error", ["ImportError('broken')", "OSError('broken')", "ModuleNotFoundError('broken')"]
)
@pytest.mark.parametrize("package", ["pycuda", "tensorrt"])
def test_a_module_that_does_not_load_is_told(machine: Machine, package: str, error: str) -> None:
    machine([f"{package} import"], error)
    assert missing_in(probe()).problem == f"{package} is there, but does not load: broken"


def test_a_long_reason_still_makes_three_lines(machine: Machine) -> None:
    machine(["pycuda import"], "ImportError('numpy\\n\\nA module that was compiled\\n  with numpy 1')")
    with pytest.raises(BackendUnavailableError) as caught:
        import_tensorrt()
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "module",
    [
        "pycuda",
        "tensorrt",
    ],
)
def test_a_folder_of_that_name_is_no_module(machine: Machine, module: str) -> None:
    """Python takes it for a package without a file: a checkout in the current directory is enough."""
    site = machine([module])
    (site / module).mkdir()
    del sys.modules[module]
    assert missing_in(probe()).subject.lower() == module


def test_packages_without_a_record_are_of_unknown_version(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()

    def refuse(name: str) -> str:
        raise probing.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(probing.metadata, "version", refuse)
    found = probe()
    assert [step.found for step in found.steps[1:3]] == ["of unknown version", "of unknown version"]
    assert found.version == "10.3.0"


@pytest.mark.parametrize("python", ["python3", "python{}.{}".format(*sys.version_info[:2])])
@pytest.mark.parametrize(
    ("module", "remedy"),
    [("pycuda", "-m pip install pycuda"), ("tensorrt", "--system-site-packages")],
)
def test_a_module_that_the_environment_hides_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, remedy: str, python: str
) -> None:
    machine([module])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    system = tmp_path / "usr"
    write_module(system / "lib" / python / "dist-packages" / module / "__init__.py")
    missing = missing_in(probe(system))
    assert missing.problem == (
        f"the module {module} of the system is not visible from this virtual environment, {tmp_path}/venv"
    )
    assert remedy in missing.remedy


@pytest.mark.parametrize("module", ["pycuda", "tensorrt"])
@pytest.mark.parametrize("where", ["outside an environment", "not in the system"])
def test_a_module_that_nobody_hides_is_not_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str, where: str
) -> None:
    machine([module])
    system = tmp_path / "usr"
    if where == "outside an environment":
        write_module(system / "lib" / "python3" / "dist-packages" / module / "__init__.py")
    else:
        monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    missing = missing_in(probe(system))
    assert missing.problem == f"the module {module} is not installed for {sys.executable}"
    assert ORDER[module][2] in missing.remedy


@pytest.mark.parametrize(
    "version", ["8.6.0", "8.6.1.6", "9.0", "10.3.0", "10.13.3.9", "11.4.0.106", "11.0rc1"]
)
def test_versions_that_work(machine: Machine, version: str) -> None:
    machine(version=version)
    assert probe().version == version


@pytest.mark.parametrize("version", ["8.5.3.1", "8.0", "7.2.2", "8", "unknown", ""])
def test_versions_that_do_not(machine: Machine, version: str) -> None:
    machine(version=version)
    missing = missing_in(probe())
    assert missing.subject == "TensorRT version"
    assert "8.6 is the oldest" in missing.problem
