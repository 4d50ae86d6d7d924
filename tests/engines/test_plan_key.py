"""The key of a plan: whatever a plan depends on, another value is another plan, and is said in words."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.errors import BackendUnavailableError, ModelFileError
from engines.tensorrt.plan_key import (
    SCHEMA,
    PlanKey,
    belongs_here,
    differences,
    key_from,
    l4t_release,
    make_key,
    timing_cache_name,
)
from engines.tensorrt.probe import Probe
from tests.engines.plan_samples import FOUND, KEY, NOTHING, ORIN, request_for, write_graph

ORIN_NANO = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8"
XAVIER = "# R35 (release), REVISION: 6.1, GCID: 39721438, BOARD: t186ref, EABI: aarch64, DATE: Tue Mar  4\n"
# What else each field may be, and how the difference is said.
OTHERS: dict[str, tuple[object, str]] = {
    "model": ("large", "model small -> large"),
    "precision": ("int8", "precision fp16 -> int8"),
    "shapes": ("16x1", "shapes 8x1 -> 16x1"),
    "graph": ("1" * 64, "the graph changed"),
    "tensorrt": ("10.7.0", "TensorRT 10.3.0 -> 10.7.0"),
    "device": ("Orin NX", "device Orin -> Orin NX"),
    "compute_capability": ("7.2", "compute capability 8.7 -> 7.2"),
    "sm_count": (6, "SM count 8 -> 6"),
    "l4t": (None, "L4T 36.4.3 -> None"),
    "workspace_mib": (64, "workspace (MiB) 256 -> 64"),
    "flags": ("dla 0 with gpu fallback", "flags gpu -> dla 0 with gpu fallback"),
    "schema": (SCHEMA + 1, "the way plans are built changed"),
}
WORDS = st.text(max_size=4)
NUMBERS = st.integers(0, 4)
KEYS = st.builds(
    PlanKey,
    *[WORDS] * 7,
    sm_count=NUMBERS,
    l4t=st.none() | WORDS,
    workspace_mib=NUMBERS,
    flags=WORDS,
    schema=NUMBERS,
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture
def l4t_file(tmp_path: Path) -> Path:
    path = tmp_path / "nv_tegra_release"
    path.write_text(ORIN_NANO, encoding="utf-8")
    return path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "graph.onnx")


def test_every_field_can_differ() -> None:
    assert list(OTHERS) == [field.name for field in dataclasses.fields(PlanKey)]


@pytest.mark.parametrize("field", OTHERS)
def test_any_other_value_is_another_plan_and_is_said(field: str) -> None:
    value, words = OTHERS[field]
    other = replace(KEY, **{field: value})
    assert other.digest != KEY.digest
    assert other.stem != KEY.stem
    assert differences(KEY, other) == (words,)
    assert differences(KEY, KEY) == ()


def test_all_differences_are_said_in_order() -> None:
    other = replace(KEY, **{field: value for field, (value, _) in OTHERS.items()})
    assert differences(KEY, other) == tuple(words for _, words in OTHERS.values())


@given(KEYS, KEYS)
@example(replace(KEY, model="a", precision="b-c"), replace(KEY, model="a-b", precision="c"))
@example(replace(KEY, l4t=None), replace(KEY, l4t="None"))
def test_equal_keys_and_no_others_share_a_digest(one: PlanKey, other: PlanKey) -> None:
    assert (one.digest == other.digest) is (one == other)
    assert (one.stem == other.stem) is (one == other)
    assert bool(differences(one, other)) is (one != other)


def test_the_stem_is_readable_and_the_same_in_every_process() -> None:
    assert KEY.stem == f"small-fp16-{KEY.digest}"
    assert len(KEY.digest) == 16
    # Of another process: it must not depend on how strings are hashed.
    assert replace(KEY, schema=1).digest == "c929069a168fa646"


def test_a_key_says_what_it_is_made_of(graph: Path, l4t_file: Path) -> None:
    assert make_key(request_for(graph), FOUND, l4t_file) == replace(
        KEY, graph=hashlib.sha256(graph.read_bytes()).hexdigest()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "large"}, "model small -> large"),
        ({"precision": "int8"}, "precision fp16 -> int8"),
        ({"shapes": "16x1"}, "shapes 8x1 -> 16x1"),
        ({"workspace_mib": 64}, "workspace (MiB) 256 -> 64"),
        ({"dla_core": 0}, "flags gpu -> dla 0 with gpu fallback"),
        ({"dla_core": 1}, "flags gpu -> dla 1 with gpu fallback"),
    ],
)
def test_all_that_is_asked_for_is_in_the_key(
    graph: Path, l4t_file: Path, change: dict[str, Any], words: str
) -> None:
    before = make_key(request_for(graph), FOUND, l4t_file)
    assert differences(before, make_key(request_for(graph, **change), FOUND, l4t_file)) == (words,)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (replace(FOUND, version="10.3.1"), "TensorRT 10.3.0 -> 10.3.1"),
        (replace(FOUND, device=replace(ORIN, name="Xavier")), "device Orin -> Xavier"),
        (replace(FOUND, device=replace(ORIN, sm_count=4)), "SM count 8 -> 4"),
        (replace(FOUND, device=replace(ORIN, compute_capability=(8, 6))), "compute capability 8.7 -> 8.6"),
    ],
)
def test_all_that_the_device_is_is_in_the_key(graph: Path, l4t_file: Path, found: Probe, words: str) -> None:
    before = make_key(request_for(graph), FOUND, l4t_file)
    assert differences(before, make_key(request_for(graph), found, l4t_file)) == (words,)


def test_the_graph_s_content_and_the_system_s_release_are_in_the_key(graph: Path, l4t_file: Path) -> None:
    before = make_key(request_for(graph), FOUND, l4t_file)
    l4t_file.write_text(XAVIER, encoding="utf-8")
    upgraded = make_key(request_for(graph), FOUND, l4t_file)
    assert differences(before, upgraded) == ("L4T 36.4.3 -> 35.6.1",)
    copy = graph.with_name("copy.onnx")
    copy.write_bytes(graph.read_bytes())
    assert make_key(request_for(copy), FOUND, l4t_file) == upgraded
    write_graph(copy, layers=2)
    assert differences(upgraded, make_key(request_for(copy), FOUND, l4t_file)) == ("the graph changed",)


def test_there_is_no_key_without_tensorrt_or_graph(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="TensorRT cannot run here: there is none"):
        make_key(request_for(graph), NOTHING)
    with pytest.raises(BackendUnavailableError, match="found no device"):
        make_key(request_for(graph), Probe((), None, "10.3.0"))
    with pytest.raises(ModelFileError, match=r"cannot be read: .*missing\.onnx"):
        make_key(request_for(tmp_path / "missing.onnx"), FOUND)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (ORIN_NANO, "36.4.3"),
        (XAVIER, "35.6.1"),
        ("# R32 (release), REVISION: 7.4, GCID: 33514132, BOARD: t210ref, EABI: aarch64", "32.7.4"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64", "38.2.0"),
        (f"{ORIN_NANO}\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia", "36.4.3"),
        ("", None),
        ("# R36 (release)", None),
        ("Debian 12", None),
    ],
)
def test_the_release_of_the_system(l4t_file: Path, text: str, release: str | None) -> None:
    l4t_file.write_text(text, encoding="utf-8")
    assert l4t_release(l4t_file) == release


def test_a_system_without_a_release(tmp_path: Path) -> None:
    assert l4t_release(tmp_path / "missing") is None
    assert l4t_release(tmp_path) is None
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\xfe\x00R36")
    assert l4t_release(garbage) is None


@pytest.mark.parametrize(("field", "is_ours"), [
    ("model", True),
    ("precision", True),
    ("shapes", True),
    ("graph", True),
    ("workspace_mib", True),
    ("flags", True),
    ("tensorrt", False),
    ("device", False),
    ("compute_capability", False),
    ("sm_count", False),
    ("l4t", False),
    ("schema", False),
])  # fmt: skip
def test_what_ties_a_plan_to_this_device(l4t_file: Path, field: str, is_ours: bool) -> None:
    assert belongs_here(KEY, FOUND, l4t_file)
    assert belongs_here(replace(KEY, **{field: OTHERS[field][0]}), FOUND, l4t_file) is is_ours


def test_no_plan_belongs_where_there_is_no_device(l4t_file: Path) -> None:
    assert not belongs_here(KEY, NOTHING, l4t_file)


@given(KEYS)
def test_a_key_survives_json(key: PlanKey) -> None:
    text = json.dumps(dataclasses.asdict(key))
    assert key_from(json.loads(text)) == key


@given(st.dictionaries(st.text(max_size=4), ANY_JSON, max_size=3))
def test_what_is_no_key_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fields are not those"):
        key_from(content)


@pytest.mark.parametrize("field", OTHERS)
def test_a_field_of_another_type_is_refused(field: str) -> None:
    own = int if field in ("sm_count", "workspace_mib", "schema") else str
    for value in (None, True, 1.5, [], {}, 7, "7"):
        content = {**dataclasses.asdict(KEY), field: value}
        if type(value) is own or (field == "l4t" and value is None):
            assert getattr(key_from(content), field) == value
        else:
            with pytest.raises(ValueError, match=f"{field} is not of its type"):
                key_from(content)


def test_measurements_are_kept_by_version_and_kind_of_device() -> None:
    name = timing_cache_name("10.3.0", "Orin (nvgpu)/x", "8.7")
    assert name == "timing-10.3.0-Orin__nvgpu__x-8.7.cache"
    others = {
        timing_cache_name("10.7.0", "Orin (nvgpu)/x", "8.7"),
        timing_cache_name("10.3.0", "Xavier", "8.7"),
        timing_cache_name("10.3.0", "Orin (nvgpu)/x", "8.6"),
    }
    assert len(others | {name}) == 4
