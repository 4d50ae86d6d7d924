from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were opened by `os.open` so far."""
    paths: list[str] = []
    real = os.open

    def record(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        paths.append(str(path))
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", record)
    return paths
