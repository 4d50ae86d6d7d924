from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_still_finds_what_it_imports(script: Path) -> None:
    """They run by hand alone, so nothing else would notice a name that has moved."""
    try:
        found = runpy.run_path(str(script), run_name="imported")
    except SystemExit as error:  # what only this script needs is not installed; ours was imported before
        pytest.skip(str(error))
    assert "main" in found
