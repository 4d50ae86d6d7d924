"""Importing costs nothing and needs no vendor library; each library is imported where it is used."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import camera
import edge_mnv2
import engines
from tests.conftest import ROOT

VENDORS = (
    *("onnxruntime", "onnx", "tensorrt", "pycuda", "picamera2", "cv2", "google"),
    *("pycocotools", "tflite", "torch", "gi", "aiohttp", "paho", "prometheus_client"),
)
MODULES = sorted(
    module.name
    for package in (edge_mnv2, engines, camera)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
)


def python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout


def test_every_module_imports_with_all_vendor_libraries_blocked() -> None:
    code = (
        "import sys, importlib\n"
        f"for name in {VENDORS!r}: sys.modules[name] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print('all')"
    )
    assert len(MODULES) > 80
    assert {"edge_mnv2.overlay.areas", "edge_mnv2.zoo.importers.tflite", "engines.onnx_memory"} < set(MODULES)
    assert python(code, *MODULES) == "all\n"


def test_import_edge_mnv2_imports_nothing_else() -> None:
    heavy = {"numpy", "cv2", "camera", "engines"}
    code = f"import sys; import edge_mnv2; print(sorted(set(sys.modules) & {heavy!r}))"
    assert python(code) == "[]\n"


def test_help_imports_no_heavy_library() -> None:
    heavy = {"numpy", "cv2", "onnx", "onnxruntime", "pydantic", "yaml", *VENDORS}
    code = (
        "import sys; from edge_mnv2.cli.app import run_app; from edge_mnv2.stop import StopRequest\n"
        "assert run_app(['--help'], StopRequest()) == 0\n"
        f"print('HEAVY', sorted(set(sys.modules) & {heavy!r}))"
    )
    assert python(code).endswith("HEAVY []\n")


def test_the_public_names_are_there() -> None:
    for name in edge_mnv2.__all__:
        assert getattr(edge_mnv2, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edge_mnv2.nothing  # noqa: B018 - the access is the test


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", ["camera", "engines"])
def test_the_lower_packages_use_one_vendor_library_per_file(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        foreign = imported(path) - set(sys.stdlib_module_names) - {"numpy", package}
        assert len(foreign) <= 1, f"{path.name}: {foreign}"
        assert foreign <= set(VENDORS), f"{path.name}: {foreign}"


def test_no_module_is_long() -> None:
    for package in ("edge_mnv2", "engines", "camera"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
