"""Plans on disk: one that fits is used, anything else is deleted and built once, whoever else wants it."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engines.errors import BuildCancelledError, BuildError
from engines.tensorrt import build_lock, plan_cache
from engines.tensorrt.plan_cache import (
    discard,
    ensure_plan,
    find_plan,
    list_plans,
    record_check,
    record_use,
    why_build,
)
from engines.tensorrt.plan_key import PlanKey
from engines.tensorrt.plan_pruning import prune_plans
from engines.tensorrt.plan_sidecar import PlanCheck, PlanFile, read_sidecar
from tests.engines.plan_samples import KEY, NOTHING, ROOT, leftovers

FACTS = {"seconds": 1.5, "workspace_mib": 256.0, "built_at": "2026-01-01T00:00:00Z", "attempts": 1}
CHECK = PlanCheck({"error of y": 0.25}, ("y is off by a quarter",))
LOCK = "build.lock"
# Files take as long as they take; what is logged may be looked at after each example.
FILES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.just(10**400)
    | st.lists(st.integers() | st.text(max_size=4), max_size=2)
    | st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=2)
)


@dataclass
class Builder:
    """Builds a plan that tells how many were built before."""

    count: int = 0

    def __call__(self, path: Path) -> dict[str, Any]:
        path.write_bytes(b"plan" * 8 + bytes([self.count]))
        self.count += 1
        return dict(FACTS)


def build_never(path: Path) -> dict[str, Any]:
    raise AssertionError("nothing is to be built")


def ensure(folder: Path, build: Callable[[Path], dict[str, Any]], key: PlanKey = KEY) -> PlanFile:
    return ensure_plan(folder, key, build, threading.Event())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "plans"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[int], list[str]]]:
    """What is logged at a level or above."""
    with caplog.at_level(logging.INFO, "engines"):
        yield lambda level: [one.getMessage() for one in caplog.records if one.levelno >= level]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- found


def test_a_plan_is_built_once_and_then_found(folder: Path) -> None:
    assert find_plan(folder, KEY) is None
    built = ensure(folder, Builder())
    assert built.path == folder / f"{KEY.stem}.plan"
    assert built == find_plan(folder, KEY) == ensure(folder, build_never)
    assert (built.key, built.build, built.check) == (KEY, FACTS, None)
    content = built.path.read_bytes()
    assert (built.size_bytes, built.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert names(folder) == [LOCK, built.sidecar.name, built.path.name]


def test_the_sidecar_says_all_in_clear(folder: Path) -> None:
    built = ensure(folder, Builder())
    text = built.sidecar.read_text(encoding="utf-8")
    assert json.loads(text) == {
        "key": dataclasses.asdict(KEY),
        "sha256": built.sha256,
        "size_bytes": 33,
        "build": FACTS,
        "check": None,
        "weights": "",
        "use": 0,
    }
    for line in ('"tensorrt": "10.3.0",', '"l4t": "36.4.3",', '"sm_count": 8,', '"precision": "fp16",'):
        assert line in [each.strip() for each in text.splitlines()]


def test_a_plan_for_anything_else_is_another_file(folder: Path) -> None:
    builder = Builder()
    first = ensure(folder, builder)
    second = ensure(folder, builder, replace(KEY, tensorrt="10.7.0"))
    assert builder.count == 2
    assert first.path != second.path
    assert list_plans(folder) == sorted((first, second), key=lambda plan: plan.path)
    assert find_plan(folder, KEY) == first


def test_what_a_check_said_is_kept(folder: Path) -> None:
    built = ensure(folder, Builder())
    checked = record_check(built, CHECK)
    assert checked == replace(built, check=CHECK)
    assert ensure(folder, build_never) == checked
    assert list_plans(folder) == [checked]
    assert record_check(checked, PlanCheck({}, ())).check == PlanCheck({}, ())
    assert ensure(folder, build_never).check == PlanCheck({}, ())
    assert len(names(folder)) == 3


def test_a_check_that_cannot_be_kept_still_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[int], list[str]]
) -> None:
    built = ensure(folder, Builder())
    with monkeypatch.context() as patch:
        patch.setattr(plan_cache.os, "replace", full_disk(1))
        assert record_check(built, CHECK).check == CHECK
    (line,) = said(logging.WARNING)
    assert line.startswith(f"the check of {built.path.name} cannot be kept: [Errno 28] No space left")
    assert ensure(folder, build_never) == built
    assert len(names(folder)) == 3


def test_what_is_said_of_a_plan_that_was_replaced_meanwhile_is_not_said_of_the_new_one(
    folder: Path, said: Callable[[int], list[str]]
) -> None:
    old = ensure(folder, Builder())
    new = ensure_plan(folder, KEY, Builder(1), threading.Event(), rebuild=True)
    assert new.sha256 != old.sha256
    assert record_check(old, CHECK).check == CHECK  # for whoever has it open
    record_use(old, "a.npz")
    discard(old, "it does not load")
    assert find_plan(folder, KEY) == new
    assert said(logging.WARNING) == []
    # Nor does it come back where there is none by now.
    discard(new, "it does not load")
    record_check(new, CHECK)
    assert names(folder) == [LOCK]


def test_what_one_process_said_is_not_lost_by_what_another_says(folder: Path) -> None:
    built = ensure(folder, Builder())
    record_check(built, CHECK)
    record_use(built, "a.npz")  # knows nothing of the check
    found = find_plan(folder, KEY)
    assert found is not None
    assert (found.check, found.weights, found.use) == (CHECK, "a.npz", 1)


def test_the_use_of_a_plan_is_written_only_where_it_changes(folder: Path) -> None:
    old = record_use(ensure(folder, Builder()), "a.npz")
    new = record_use(ensure(folder, Builder(), replace(KEY, graph="1" * 64)), "a.npz")
    other = record_use(ensure(folder, Builder(), replace(KEY, graph="2" * 64)), "b.npz")
    assert [plan.use for plan in (old, new, other)] == [1, 2, 1]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert record_use(new, "a.npz") == new
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert record_use(old, "a.npz").use == 3
    assert record_use(new, "") == new  # nobody said which


# --- why


def test_the_reason_for_a_build_is_what_changed(folder: Path, said: Callable[[int], list[str]]) -> None:
    builder = Builder()
    ensure(folder, builder)
    ensure(folder, builder, replace(KEY, tensorrt="10.7.0"))
    ensure(folder, builder, replace(KEY, tensorrt="10.7.0", l4t="36.5", graph="1" * 64))
    whys = [line for line in said(logging.INFO) if "building" in line]
    assert whys == [
        "building a TensorRT plan for small in fp16: there is none yet",
        "rebuilding the TensorRT plan for small in fp16 because TensorRT 10.3.0 -> 10.7.0",
        # Of the two that are there, the one that differs least.
        "rebuilding the TensorRT plan for small in fp16 because the graph changed, L4T 36.4.3 -> 36.5",
    ]


def test_the_reason_for_a_build_that_is_asked_for_is_told_too(
    folder: Path, said: Callable[[int], list[str]]
) -> None:
    for key in (KEY, KEY, replace(KEY, tensorrt="10.7.0")):
        ensure_plan(folder, key, Builder(), threading.Event(), rebuild=True)
    assert [line for line in said(logging.INFO) if "building" in line] == [
        "building a TensorRT plan for small in fp16: there is none yet",
        "building the TensorRT plan for small in fp16 again",
        "rebuilding the TensorRT plan for small in fp16 because TensorRT 10.3.0 -> 10.7.0",
    ]


@pytest.mark.parametrize(
    "choice",
    [{"model": "large"}, {"precision": "int8"}, {"shapes": "16x1"}, {"flags": "dla 0 with gpu fallback"}],
)
def test_another_choice_of_the_user_is_no_reason(folder: Path, choice: dict[str, str]) -> None:
    ensure(folder, Builder())
    key = replace(KEY, tensorrt="10.7.0", **choice)  # type: ignore[arg-type]
    words = f"building a TensorRT plan for {key.model} in {key.precision}: there is none yet"
    assert why_build(folder, key) == words


def test_a_copy_of_the_plan_itself_is_no_reason(folder: Path) -> None:
    built = ensure(folder, Builder())
    for file in (built.path, built.sidecar):
        file.rename(folder / f"copy{file.suffix}")
    assert why_build(folder, KEY).endswith("there is none yet")


# --- damaged


def truncate(plan: PlanFile) -> None:
    os.truncate(plan.path, plan.size_bytes - 1)


def extend(plan: PlanFile) -> None:
    os.truncate(plan.path, plan.size_bytes + 1)


def make_empty(plan: PlanFile) -> None:
    os.truncate(plan.path, 0)


def replace_by_another(plan: PlanFile) -> None:
    other = ensure(plan.path.parent, Builder(7), replace(KEY, device="Xavier"))
    plan.path.write_bytes(other.path.read_bytes())


def copy_a_sidecar_over(plan: PlanFile) -> None:
    other = ensure(plan.path.parent, Builder(), replace(KEY, device="Xavier"))
    plan.sidecar.write_bytes(other.sidecar.read_bytes())


def delete_sidecar(plan: PlanFile) -> None:
    plan.sidecar.unlink()


def spoil_sidecar(plan: PlanFile) -> None:
    plan.sidecar.write_bytes(b"\xff{")


DAMAGES = {
    truncate: "it has 32 bytes instead of 33",
    extend: "it has 34 bytes instead of 33",
    make_empty: "it has 0 bytes instead of 33",
    replace_by_another: "its content is not what was built",
    copy_a_sidecar_over: "it was built for something else",
    delete_sidecar: "nothing readable tells what it was built for",
    spoil_sidecar: "nothing readable tells what it was built for",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_plan_is_deleted_and_built_again_once(
    folder: Path, damage: Callable[[PlanFile], None], said: Callable[[int], list[str]]
) -> None:
    built = ensure(folder, Builder())
    damage(built)
    assert find_plan(folder, KEY) is None
    assert built.path.exists()  # looking deletes nothing
    builder = Builder(1)
    again = ensure(folder, builder)
    assert builder.count == 2
    assert again.path.read_bytes()[-1] == 1
    assert said(logging.WARNING) == [f"the TensorRT plan {built.path.name} is deleted: {DAMAGES[damage]}"]
    assert ensure(folder, build_never) == again
    assert len(said(logging.WARNING)) == 1


def test_a_sidecar_without_its_plan_is_built_silently(folder: Path, said: Callable[[int], list[str]]) -> None:
    ensure(folder, Builder()).path.unlink()
    builder = Builder()
    assert ensure(folder, builder) == ensure(folder, build_never)
    assert builder.count == 1
    assert said(logging.WARNING) == []


@FILES
@given(st.integers(0, 33 * 8 - 1))
def test_one_bit_is_enough_to_tell(bit: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        built = ensure(Path(name), Builder())
        content = bytearray(built.path.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        built.path.write_bytes(content)
        assert find_plan(Path(name), KEY) is None


def spoiled(sidecar: Any, path: tuple[str, ...], value: object) -> str:  # noqa: ANN401 - JSON
    """Return a sidecar with something else in one place."""
    place = sidecar
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return json.dumps(sidecar)


PATHS = st.sampled_from(
    [
        ("key",),
        ("sha256",),
        ("size_bytes",),
        ("build",),
        ("check",),
        ("check", "figures"),
        ("check", "figures", "error of y"),
        ("check", "failures"),
        *(("key", field.name) for field in dataclasses.fields(PlanKey)),
    ]
)


@FILES
@given(path=PATHS, value=JSON_VALUES)
@example(("key",), None)
@example(("size_bytes",), float("inf"))
@example(("check", "figures"), None)
def test_no_sidecar_makes_trouble(
    said: Callable[[int], list[str]], path: tuple[str, ...], value: object
) -> None:
    with tempfile.TemporaryDirectory() as name:
        built = record_check(ensure(Path(name), Builder()), CHECK)
        text = spoiled(json.loads(built.sidecar.read_text(encoding="utf-8")), path, value)
        built.sidecar.write_text(text, encoding="utf-8")
        check_that_all_is_well(Path(name), said)


@FILES
@given(st.binary(max_size=40) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b"[" * 200_000)
@example(b"{}")
@example(b'{"key": {}, "sha256": 1, "size_bytes": 1e999, "build": 3, "check": 4}')
def test_no_garbage_beside_a_plan_makes_trouble(said: Callable[[int], list[str]], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        ensure(Path(name), Builder()).sidecar.write_bytes(content)
        check_that_all_is_well(Path(name), said)


def check_that_all_is_well(folder: Path, said: Callable[[int], list[str]]) -> None:
    """Use a folder whose one sidecar says anything."""
    before = len(said(logging.WARNING))
    for plan in list_plans(folder):
        json.dumps(dataclasses.asdict(plan.key))
        assert plan.check is None or all(isinstance(failure, str) for failure in plan.check.failures)
        assert plan.check is None or all(isinstance(value, float) for value in plan.check.figures.values())
    leftovers(folder)
    builder = Builder()
    plan = ensure(folder, builder)
    assert builder.count == len(said(logging.WARNING)) - before <= 1
    assert hashlib.sha256(plan.path.read_bytes()).hexdigest() == plan.sha256
    assert find_plan(folder, KEY) == plan


SUFFIXES = (".plan", ".json", ".loading", ".failed.json")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_in_the_place_of_a_file_is_no_plan_and_stops_nothing(
    folder: Path, said: Callable[[int], list[str]], suffix: str
) -> None:
    (folder / f"{KEY.stem}{suffix}" / "deeper").mkdir(parents=True)
    assert find_plan(folder, KEY) is None
    built = ensure(folder, Builder())
    assert built == ensure(folder, build_never)
    assert names(folder) == [LOCK, built.sidecar.name, built.path.name]
    words = f"the TensorRT plan {built.path.name} is deleted: nothing readable tells what it was built for"
    assert said(logging.WARNING) == [words] * (suffix in (".plan", ".json"))


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_a_folder_beside_a_plan_that_is_built_anew_stops_nothing(folder: Path, suffix: str) -> None:
    ensure(folder, Builder())
    place = folder / f"{KEY.stem}{suffix}"
    place.unlink(missing_ok=True)
    place.mkdir()
    built = ensure_plan(folder, KEY, Builder(1), threading.Event(), rebuild=True)
    assert names(folder) == [LOCK, built.sidecar.name, built.path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_in_the_place_of_a_file_is_pruned(folder: Path, suffix: str) -> None:
    built = ensure(folder, Builder(), replace(KEY, model="other"))
    stray = folder / f"{KEY.stem}{suffix}"
    stray.mkdir()
    (stray / "notes.txt").write_text("x", encoding="utf-8")
    assert leftovers(folder) == [stray]
    assert [file.path for file in prune_plans(folder, NOTHING, dry_run=False)] == [stray]
    assert names(folder) == [LOCK, built.sidecar.name, built.path.name]


# --- the disk


def full_disk(strikes_at: int) -> Callable[..., None]:
    """Return an `os.replace` that fails once, at the given call."""
    calls: list[object] = []
    move = os.replace

    def replace_file(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == strikes_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        move(source, target)

    return replace_file


@pytest.mark.parametrize("strikes_at", [1, 2])
def test_a_full_disk_is_said_and_nothing_is_left_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, strikes_at: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plan_cache.os, "replace", full_disk(strikes_at))
        with pytest.raises(BuildError) as raised:
            ensure(folder, Builder())
    words = f"The cache of TensorRT plans, {folder}, cannot be written: [Errno 28] No space left on device"
    assert str(raised.value).startswith(words)
    assert names(folder) == [LOCK]
    assert ensure(folder, Builder()).path.exists()


@pytest.mark.parametrize("error", [BuildError("no kernel"), KeyboardInterrupt(), OSError(28, "full")])
def test_a_build_that_fails_leaves_nothing_behind_and_the_lock_free(
    folder: Path, error: BaseException
) -> None:
    def build(path: Path) -> dict[str, Any]:
        path.write_bytes(b"half")
        raise error

    with pytest.raises((BuildError, KeyboardInterrupt)) as raised:
        ensure(folder, build)
    assert raised.value is error or raised.value.__cause__ is error
    assert names(folder) == [LOCK] + [f"{KEY.stem}.failed.json"] * isinstance(error, BuildError)
    built = ensure(folder, Builder())
    assert built.build == FACTS
    assert names(folder) == [LOCK, built.sidecar.name, built.path.name]


def test_a_file_in_the_place_of_the_cache_is_said(folder: Path) -> None:
    folder.write_text("no folder", encoding="utf-8")
    assert find_plan(folder, KEY) is None
    assert list_plans(folder) == leftovers(folder) == []
    with pytest.raises(BuildError, match=rf"TensorRT plans, {folder}, cannot be written: .*File exists"):
        ensure(folder, build_never)
    with pytest.raises(BuildError, match=r"cannot be written: .*Not a directory"):
        ensure(folder / "deeper", build_never)


def test_nothing_is_written_where_the_plan_is_there(folder: Path) -> None:
    built = ensure(folder, Builder())
    (folder / LOCK).unlink()
    before = {path: path.stat() for path in folder.iterdir()}
    assert ensure(folder, build_never) == built
    for path, was in before.items():
        assert path.stat().st_mtime_ns == was.st_mtime_ns
    assert set(folder.iterdir()) == set(before)


def test_what_cannot_be_deleted_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = ensure(folder, Builder())

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(plan_cache, "remove", refuse)
    with pytest.raises(BuildError, match=r"\.plan cannot be deleted: .*not permitted"):
        discard(built, "it is no plan")


# --- what is in the folder


def test_what_no_plan_needs(folder: Path) -> None:
    assert leftovers(folder) == []
    built = ensure(folder, Builder())
    lonely = ensure(folder, Builder(), replace(KEY, model="lonely"))
    lonely.sidecar.unlink()
    empty = ensure(folder, Builder(), replace(KEY, model="empty"))
    empty.path.unlink()
    spoiled = ensure(folder, Builder(), replace(KEY, model="spoiled"))
    spoiled.sidecar.write_text("{", encoding="utf-8")
    partials = [folder / ".0123.partial", folder / ".timing-10.3.0-Orin-8.7.cache.77.partial"]
    others = [folder / "timing-10.3.0-Orin-8.7.cache", folder / "notes.txt"]
    for path in (*partials, *others):
        path.write_bytes(b"x")
    assert leftovers(folder) == sorted([lonely.path, empty.sidecar, spoiled.path, spoiled.sidecar, *partials])
    assert list_plans(folder) == [built]
    with held(folder):
        assert leftovers(folder) == []  # somebody is about to finish one of them


def test_no_folder_has_no_plans(folder: Path) -> None:
    assert list_plans(folder) == []
    assert leftovers(folder) == []
    assert read_sidecar(folder / "x.json") is None


# --- several processes


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock as another process does."""
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_waiting_for_another_process_can_be_cancelled(folder: Path) -> None:
    cancel = threading.Event()
    lines: list[str] = []

    class CancelOnceItWaits(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            cancel.set()

    log, handler = logging.getLogger(build_lock.__name__), CancelOnceItWaits()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        with held(folder), pytest.raises(BuildCancelledError, match="while another process builds"):
            ensure_plan(folder, KEY, build_never, cancel)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert lines == ["another process builds a TensorRT plan: waiting for it"]
    assert ensure(folder, Builder()).path.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_plan_is_built_all_the_same_and_that_is_said_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[int], list[str]], code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(build_lock.fcntl, "flock", refuse)
    built = record_check(ensure(folder, Builder()), CHECK)
    assert ensure(folder, build_never) == built
    assert said(logging.WARNING) == [
        f"the file system of {folder} has no locks: start no second build at the same time"
    ]
    (folder / ".0123.partial").write_bytes(b"half")
    assert leftovers(folder) == []  # it may be a build's that runs


def test_looking_for_what_is_stale_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(folder, Builder())
    half = folder / ".0123.partial"
    half.write_bytes(b"half")
    opened: list[str] = []
    open_file = Path.open

    def spy(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - handed on
        opened.append(mode)
        return open_file(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", spy)
    assert leftovers(folder) == [half]
    (folder / LOCK).unlink()
    assert leftovers(folder) == [half]
    assert not set("".join(opened)) & set("wax+")
    assert not (folder / LOCK).exists()


def test_who_looks_while_a_plan_is_put_in_its_place_does_no_harm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: Callable[[int], list[str]]
) -> None:
    seen = []
    move = os.replace

    def replace_and_look(source: Path, target: Path) -> None:
        seen.append(find_plan(folder, KEY))
        move(source, target)
        seen.append(find_plan(folder, KEY))

    with monkeypatch.context() as patch:
        patch.setattr(plan_cache.os, "replace", replace_and_look)
        built = ensure(folder, Builder())
    # Complete or not there at all, from the first moment to the last.
    assert seen == [None, None, None, built]
    assert ensure(folder, build_never) == built
    assert said(logging.WARNING) == []


# argv: folder, file that counts builds, whether a build waits to be told, keys as JSON.
PROCESS = """
import json, logging, sys, threading
from pathlib import Path
from engines.tensorrt.plan_cache import ensure_plan
from engines.tensorrt.plan_key import key_from

folder, built, waits, keys = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "wait", json.loads(sys.argv[4])
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")

def build(path):
    with open(built, "a") as file:
        file.write("built\\n")
    path.write_bytes(b"half")
    if waits:
        print("builds", flush=True)
        sys.stdin.readline()
    path.write_bytes(b"whole")
    return {}

print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    plan = ensure_plan(folder, key_from(key), build, threading.Event())
    print("has", plan.path.read_bytes().decode(), flush=True)
"""


@dataclass
class Process:
    """One of several that want the same plans."""

    process: subprocess.Popen[str]
    lines: list[str]

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_for(self, words: str) -> None:
        """Read lines until one holds some words."""
        assert self.process.stdout is not None
        while not self.lines or words not in self.lines[-1]:
            line = self.process.stdout.readline()
            assert line, f"it ended without {words!r} after {self.lines}"
            self.lines.append(line.strip())

    def finish(self) -> None:
        text, _ = self.process.communicate(timeout=60)
        self.lines += text.splitlines()
        assert self.process.returncode == 0


@pytest.fixture
def processes(folder: Path) -> Iterator[Callable[..., Process]]:
    """Start processes that wait to be told before they want their plans."""
    started: list[subprocess.Popen[str]] = []

    def start(keys: list[PlanKey], *, waits: bool) -> Process:
        words = "wait" if waits else "go"
        arguments = [str(folder), str(folder.parent / "built"), words]
        arguments.append(json.dumps([dataclasses.asdict(key) for key in keys]))
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PROCESS, *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        found = Process(started[-1], [])
        found.wait_for("ready")
        return found

    yield start
    for process in started:
        process.kill()
        with process:
            pass


def builds(folder: Path) -> int:
    return len((folder.parent / "built").read_text(encoding="utf-8").splitlines())


def test_two_processes_build_a_plan_once(folder: Path, processes: Callable[..., Process]) -> None:
    one, other = (processes([KEY], waits=True) for _ in range(2))
    one.tell()
    one.wait_for("builds")
    other.tell()
    other.wait_for("another process builds a TensorRT plan: waiting for it")
    assert leftovers(folder) == []  # though half a plan lies there
    one.tell()
    one.finish()
    other.finish()
    assert one.lines[-1] == other.lines[-1] == "has whole"
    assert builds(folder) == 1
    assert len(names(folder)) == 3


def test_two_processes_at_the_same_moment_build_each_plan_once(
    folder: Path, processes: Callable[..., Process]
) -> None:
    keys = [replace(KEY, sm_count=number) for number in range(20)]
    both = [processes(keys, waits=False) for _ in range(2)]
    for each in both:
        each.tell()
    for each in both:
        each.finish()
        assert each.lines.count("has whole") == len(keys)
        assert not [line for line in each.lines if "WARNING" in line]
    assert builds(folder) == len(keys)
    assert len(list_plans(folder)) == len(keys)


def test_a_process_that_is_killed_while_it_builds_blocks_nobody(
    folder: Path, processes: Callable[..., Process]
) -> None:
    one, other = (processes([KEY], waits=True) for _ in range(2))
    one.tell()
    one.wait_for("builds")
    other.tell()
    other.wait_for("waiting for it")
    one.process.kill()
    other.wait_for("builds")
    other.tell()
    other.finish()
    assert other.lines[-1] == "has whole"
    assert builds(folder) == 2
    (half,) = leftovers(folder)
    assert half.read_bytes() == b"half"
    assert find_plan(folder, KEY) is not None
