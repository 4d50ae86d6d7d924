from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_mnv2.config import read_config
from edge_mnv2.daemon.changes import Changes, changes_between
from edge_mnv2.settings import CameraSettings, RunConfig

TWO = {
    "cameras": {"a": {"source": "test://", "jsonl": "a.jsonl"}, "b": {"source": "test://?fps=5"}},
    "engine": "onnxruntime",
}


# What is read while settings are compared has to be right.
OTHERS = {"input_size": "320x320"}


def settings(tmp_path: Path, content: dict[str, Any]) -> RunConfig:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_config(path, {})


def changes(tmp_path: Path, old: dict[str, Any], new: dict[str, Any]) -> Changes:
    return changes_between(settings(tmp_path, old), settings(tmp_path, new))


def with_a(**values: object) -> dict[str, Any]:
    return {**TWO, "cameras": {**TWO["cameras"], "a": {**TWO["cameras"]["a"], **values}}}  # type: ignore[dict-item]  # a literal


def test_the_same_changes_nothing(tmp_path: Path) -> None:
    found = changes(tmp_path, TWO, TWO)
    assert found == Changes(False, (), (), (), (), ())
    assert found.lines() == []


@pytest.mark.parametrize(
    ("values", "decoders", "outputs", "anew"),
    [
        ({"threshold": 0.3}, ("a",), (), ()),
        ({"classes": ["person"]}, ("a",), (), ()),
        ({"jsonl": "other.jsonl"}, (), ("a",), ()),
        ({"video": "v.mp4"}, (), ("a",), ()),
        ({"masks": True}, ("a",), ("a",), ()),
        ({"source": "test://?fps=7"}, (), (), ("a",)),
        ({"rotate": 90}, (), (), ("a",)),
        ({"stall_s": 9}, (), (), ("a",)),
        ({"record_session": "a.session"}, (), (), ("a",)),
        ({"source": "test://?fps=7", "threshold": 0.3}, (), (), ("a",)),
    ],
)
def test_only_what_changed_of_a_camera_starts_anew(
    tmp_path: Path,
    values: dict[str, object],
    decoders: tuple[str, ...],
    outputs: tuple[str, ...],
    anew: tuple[str, ...],
) -> None:
    assert changes(tmp_path, TWO, with_a(**values)) == Changes(False, (), anew, anew, decoders, outputs)


def test_cameras_that_come_and_go(tmp_path: Path) -> None:
    only_b = {**TWO, "cameras": {"b": TWO["cameras"]["b"], "c": {"source": "test://"}}}  # type: ignore[index]  # a literal
    found = changes(tmp_path, TWO, only_b)
    assert (found.added, found.removed) == (("c",), ("a",))
    assert found.lines() == ["camera c is new", "camera a is gone"]


@pytest.mark.parametrize("new", [{"precision": "fp32"}, {"threads": 1}, {"model": "ssdlite-mnv2-person"}])
def test_another_engine_starts_all_anew(tmp_path: Path, new: dict[str, Any]) -> None:
    found = changes(tmp_path, TWO, {**TWO, **new})
    assert found.engine
    assert found.added == found.removed == ("a", "b")


def test_the_live_view_is_the_services(tmp_path: Path) -> None:
    found = changes(tmp_path, TWO, {**TWO, "web": "127.0.0.1:0"})
    assert found == Changes(False, ("web",), (), (), (), ())


@pytest.mark.parametrize(
    ("new", "parts"),
    [
        ({"mqtt": "broker"}, ("mqtt",)),
        ({"metrics": "127.0.0.1:0"}, ("metrics",)),
        ({"display": True}, ("display",)),
        ({"web_names": ["cam.local"]}, ("web", "metrics")),
    ],
)
def test_what_cameras_share_starts_anew_part_by_part(
    tmp_path: Path, new: dict[str, Any], parts: tuple[str, ...]
) -> None:
    assert changes(tmp_path, TWO, {**TWO, **new}) == Changes(False, parts, (), (), (), ())


def test_a_shared_threshold_is_a_change_of_each_camera(tmp_path: Path) -> None:
    assert changes(tmp_path, TWO, {**TWO, "threshold": 0.2}).decoders == ("a", "b")


def test_one_camera_that_becomes_several(tmp_path: Path) -> None:
    found = changes(tmp_path, {"source": "test://", "engine": "onnxruntime"}, TWO)
    assert (found.added, found.removed) == (("a", "b"), ("",))
    assert not found.engine


def test_no_setting_is_forgotten() -> None:
    """A new setting must not be one that a reload overlooks: whatever it is, something starts anew."""
    base = RunConfig.model_construct(**RunConfig(source="test://").model_dump())
    for name in RunConfig.model_fields:
        if name in ("source", "cameras"):
            continue
        other = base.model_copy(update={name: OTHERS.get(name, _another(getattr(base, name)))})
        found = changes_between(base, other)
        assert found != Changes(False, (), (), (), (), ()), name
    assert set(CameraSettings.model_fields) <= set(RunConfig.model_fields)


def _another(value: object) -> object:
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case None:
            return 8
        case _:
            return f"{value}x"
