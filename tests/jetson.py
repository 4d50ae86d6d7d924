"""A fake Jetson for tests: in this process and its children, or in commands of their own."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engines.fake_jetson.jetson import FakeCuda, FakeJetson, fake_jetson

SITE = Path(__file__).parent / "fake_jetson_site"


def jetson_environment(**fields: Any) -> dict[str, str]:  # noqa: ANN401 - the fields of FakeJetson
    """Return the variables that make a Python process believe in a Jetson; `faults` may be any iterable."""
    faults = frozenset(fields.pop("faults", ()))
    spec = FakeJetson(**fields, faults=faults)
    return {"PYTHONPATH": str(SITE), "EDGE_MNV2_FAKE_JETSON": spec.to_json()}


@contextmanager
def on_jetson(**fields: Any) -> Iterator[FakeCuda]:  # noqa: ANN401 - the fields of FakeJetson
    """Play a Jetson here and in the builders that are started from here; in the end nothing may be held."""
    environment = jetson_environment(**fields)
    spec = FakeJetson.from_json(environment["EDGE_MNV2_FAKE_JETSON"])
    with pytest.MonkeyPatch.context() as patch, fake_jetson(spec) as cuda:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield cuda
        assert cuda.violations == []
        assert cuda.leaks() == []


def child_processes(pid: int) -> set[int]:
    """Return the processes that a process has started and not yet waited for, by any of its threads."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


@contextmanager
def builds_held_back(plans: Path) -> Iterator[Callable[[], None]]:
    """Let every build wait as if another process were building; yields what lets them go."""
    plans.mkdir(parents=True, exist_ok=True)
    with (plans / "build.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield lambda: fcntl.flock(file, fcntl.LOCK_UN)
