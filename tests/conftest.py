"""What all tests share: an empty cache, real data where it is at hand, real weights always."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from edge_mnv2.zoo.model import Model, load_model

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).parent / "golden"

# Each of its releases words schemas in its own way; ours was written by this one (scripts/write_schema.py).
SCHEMA_BY = "2.14"
needs_schema_writer = pytest.mark.skipif(
    not pydantic.VERSION.startswith(f"{SCHEMA_BY}."),
    reason=f"configs/schema.json is pydantic {SCHEMA_BY}'s, this is {pydantic.VERSION}",
)

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's cache out of the tests, and the tests out of it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        yield home / ".cache" / "edge-mnv2"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, still empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-mnv2"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real pictures and clips, which are not part of the project."""
    folder = Path(os.environ.get("EDGE_MNV2_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs real pictures: {folder}/data is not here (set EDGE_MNV2_SHARED)")
    return folder


@pytest.fixture(scope="session")
def pictures(shared: Path) -> Path:
    """48 pictures of COCO val2017; `instances.json` lies beside the folder."""
    return shared / "data" / "coco_dev" / "images"


@pytest.fixture(scope="session")
def clip(shared: Path) -> Path:
    """People on a square, 460 frames of 800x450."""
    return shared / "data" / "videos" / "people_opencv4nodejs.mp4"


@pytest.fixture(scope="session")
def coco_model() -> Model:
    """The embedded detector."""
    return load_model("ssdlite-mnv2-coco")


@pytest.fixture(scope="session")
def golden_coco() -> dict[str, NDArray[np.generic]]:
    """TensorFlow's own outputs for the embedded detector's original."""
    return read_golden("ssdlite_coco.npz")


def read_golden(name: str) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a file of golden outputs."""
    with np.load(GOLDEN / name) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `edge-mnv2 ...` in a fresh process in `tmp_path`; text of both streams is captured."""

    def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: PLW1510 - in the options
            [sys.executable, "-m", "edge_mnv2", *map(str, arguments)],
            **{
                "cwd": tmp_path,
                "capture_output": True,
                "text": True,
                "timeout": 120,
                "check": False,
                **options,
            },
        )

    return run
