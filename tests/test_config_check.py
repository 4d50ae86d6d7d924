"""`edge-mnv2 config check` and `config schema`: what goes beyond the form, without a camera."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edge_mnv2.config import read_config
from edge_mnv2.config_check import check_file, check_settings
from edge_mnv2.errors import RequestError
from tests.conftest import ROOT, Command, needs_schema_writer


def said(path: Path, text: str) -> list[str]:
    """Return the lines of the refusal, without the file."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        check_file(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)).lstrip(",: ") for line in lines]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source: nowhere.mp4", "line 1: source: There is no file, folder or device nowhere.mp4"),
        ("source: telnet://x", "line 1: source: "),
        ("threads: 2\nsource: test://?sise=3", "line 2: source: "),
        ("source: csi://0", "line 1: source: csi://0 is the camera connector of"),
        ("source: test://\nmodel: ssdlite", "line 2: model: There is no model called 'ssdlite'"),
        ("source: test://\nmodel: mine.npz", "line 2: model: There is no weights file mine.npz"),
        ("source: test://\ninput_size: 5x5", "model: The input size 5x5 cannot be"),
        ("source: test://\noutput_stride: 8", "model: Only a segmentation"),
        ("source: test://\nclasses: [person, persn]", "line 2: classes: ssdlite-mnv2-coco has no class"),
        ("source: test://\nmasks: true", "line 2: masks: ssdlite-mnv2-coco does not segment"),
        ("source: test://\ntop_k: 3", "line 2: top_k: ssdlite-mnv2-coco does not classify"),
        ("source: test://\nvideo: x.mpeg", "x.mpeg"),
        ("source: test://\nvideo: x.mp4\njsonl: ./x.mp4", "x.mp4 is given for two outputs"),
        ("source: test://\nweb: 0.0.0.0:8080", "line 2: web: Whoever reaches 0.0.0.0:8080 would see"),
        ("source: test://\nweb: nonsense:port", "line 2: web: "),
        ("web: 0.0.0.0:1\nweb_token_file: none\nsource: test://", "line 2: web_token_file: The token cannot"),
        ("source: test://\nmetrics: 0.0.0.0", "line 2: metrics: Whoever reaches 0.0.0.0:9464 would see"),
        ("source: test://\nmetrics: a b", "line 2: metrics: "),
        ("mqtt: {host: b, username: u, password_file: a}\nsource: test://", "mqtt.password_file: a cannot"),
        ("source: test://\nmqtt:\n  host: b\n  tls:\n    ca: none", "line 4: mqtt.tls: none or its key"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (line,) = said(tmp_path / "bad.yaml", text)
    assert words in line


@pytest.mark.parametrize(
    ("package", "setting"),
    [("aiohttp", "web: 127.0.0.1:1"), ("prometheus_client", "metrics: 127.0.0.1:1"), ("paho", "mqtt: b")],
)
def test_a_package_that_is_missing_is_named(
    package: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    (line,) = said(tmp_path / "bad.yaml", f"source: test://\n{setting}\n")
    assert line.startswith(f"line 2: {setting.partition(':')[0]}: ")
    assert "pip install 'edge-mnv2[" in line


def test_form_and_meaning_are_judged_at_once(tmp_path: Path) -> None:
    found = said(
        tmp_path / "bad.yaml",
        "model: ssdlite-mnv2-coco\nthreshold: 2\nweb: 0.0.0.0:80\nmasks: true\ncameras:\n"
        "  door: {source: csi://0, classes: [persn], jsonl: a.jsonl}\n"
        "  yard: {source: nowhere.mp4, jsonl: a.jsonl, top_k: 3}\n"
        "  back yard: {source: test://, rotate: x}\n"
        "  gate: nonsense\n",
    )
    for begin, line in zip(
        [
            "line 2: threshold: input should be",
            "line 3: web: Whoever",
            "line 4: masks: ssdlite-mnv2-coco does not",
            "line 6: cameras.door.source: csi://0",
            "line 6: cameras.door.classes: ssdlite-mnv2-coco has no",
            "line 7: cameras.yard.source: There is no file",
            "line 7: cameras.yard: a.jsonl is given for two outputs",
            "line 7: cameras.yard.top_k: ssdlite",
            "line 8: cameras.'back yard'.rotate: input",
            "line 9: cameras.gate: it must hold",
        ],
        found,
        strict=True,
    ):
        assert line.startswith(begin), found


def test_a_class_that_all_cameras_inherit_is_named_once(tmp_path: Path) -> None:
    cameras = "".join(f"  c{number}: {{source: test://}}\n" for number in range(5))
    (line,) = said(tmp_path / "bad.yaml", f"classes: [persn]\ncameras:\n{cameras}")
    assert line.startswith("line 1: classes: ")


def test_settings_of_flags_are_judged_without_lines() -> None:
    check_settings(read_config(None, {"source": "test://"}))
    with pytest.raises(RequestError, match=r"\Asource: There is no .*\nmodel: There is no "):
        check_settings(read_config(None, {"source": "nowhere.mp4", "model": "none"}))


def test_nothing_is_opened_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "source: /dev/video99\njsonl: out/x.jsonl\nvideo: out/x.mp4\nrecord_session: s.session\n"
        "web: 127.0.0.1:1\n"
    )
    check_file(tmp_path / "run.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_the_commands(tmp_path: Path, command: Command) -> None:
    (tmp_path / "one.yaml").write_text("source: test://\n")
    (tmp_path / "two.yaml").write_text("cameras: {a: {source: test://}, b: {source: rtsp://u:geheim@h/x}}\n")
    (tmp_path / "bad.yaml").write_text("source: nowhere.mp4\nthreads: x\n")
    done = command("config", "check", "one.yaml")
    assert (done.returncode, done.stdout) == (0, "one.yaml is right: one camera, ssdlite-mnv2-coco.\n")
    assert command("config", "check", "two.yaml").stdout.startswith("two.yaml is right: 2 cameras, ")
    done = command("config", "check", "bad.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("edge-mnv2: error: bad.yaml, line 1: source: There is no file")
    assert (
        second
        == "edge-mnv2: error: bad.yaml, line 2: threads: input should be a valid integer, received 'x'."
    )
    # Found by its name, although there is none here.
    assert command("config", "check", "desk.yaml").returncode == 0
    for wrong in ([], ["check"], ["check", "missing.yaml"], ["chek"], ["check", "."]):
        done = command("config", *wrong)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@needs_schema_writer
def test_the_schema_is_printed_as_it_is_published(command: Command) -> None:
    done = command("config", "schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads((ROOT / "configs" / "schema.json").read_text())
