"""The ready-made configurations: right as they are, and with every proposal in them taken up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_mnv2.config import RunConfig, read_config
from edge_mnv2.config_check import check_file
from tests.conftest import ROOT

FILES = sorted((ROOT / "configs").glob("*.yaml"))
# A setting that is proposed, and what may stand below it; prose has a blank after the #.
PROPOSAL = re.compile(r"^([ ]*)#((?:[a-z_0-9]+:|  [a-z_0-9]+:).*)$", re.MULTILINE)


def board_of(path: Path) -> str | None:
    return {"pi": "raspberry pi", "je": "jetson"}.get(path.name[:2])


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_one_for_each_device_and_use() -> None:
    assert [path.stem for path in FILES] == [
        *("cameras", "desk", "jetson-detect", "jetson-segment", "pi-segment", "pi4-detect", "pi5-detect")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_right_on_its_board(path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera.csi.board", lambda _root: board_of(path))
    settings = check_file(path)
    assert settings == read_config(Path(path.name), {})  # found by its name alone
    for name, camera in settings.each_camera().items():
        assert camera.jsonl is not None, name
        assert not camera.jsonl.is_absolute(), "a service could not write elsewhere"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_it_proposes_is_right_too(path: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("camera.csi.board", lambda _root: board_of(path))
    text = path.read_text(encoding="utf-8")
    taken, proposals = PROPOSAL.subn(r"\1\2", text)
    assert proposals >= 3 or path.name == "cameras.yaml"
    (at_home / "password").write_text("one of the test's")
    taken = taken.replace("/etc/edge-mnv2/mqtt-password", "password")
    (at_home / "mine.yaml").write_text(taken, encoding="utf-8")
    settings = check_file(at_home / "mine.yaml")
    said = [name for name in RunConfig.model_fields if f"#{name}:" in text]
    assert all(name in settings.model_fields_set for name in said)
    # Nothing that looks like a proposal is overlooked.
    assert not re.search(r"^\s*#\w", taken, re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_says_how_it_is_used_and_what_checks_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert f"edge-mnv2 run --config {path.name}\n" in text
    assert "\t" not in text
    assert max(map(len, text.splitlines())) <= 118
    assert all((ROOT / named).is_file() for named in re.findall(r"docs/\w+\.md", text))
    # Whoever uses it as a service finds how, and its records are bounded.
    if path.name != "cameras.yaml":
        settings = read_config(path, {})
        assert "systemctl reload edge-mnv2" in text
        assert settings.jsonl_keep_mb is not None


def test_those_that_the_service_installs_are_there() -> None:
    script = (ROOT / "scripts" / "service.sh").read_text(encoding="utf-8")
    named = set(re.findall(r"name=([a-z0-9-]+)", script))
    assert named
    assert named <= {path.stem for path in FILES}
