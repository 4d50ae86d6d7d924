"""Files of settings that are no YAML, or no settings: a clear line for each fault, soon, in little memory."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_mnv2.config import RunConfig, read_config
from edge_mnv2.config_words import explained
from edge_mnv2.errors import RequestError
from tests.bad_yaml import BAD
from tests.conftest import Command


def refusal(path: Path) -> str:
    """Return the message of a file, having seen that each line names the file and is fit to be shown."""
    with pytest.raises(RequestError) as caught:
        read_config(path, {})
    lines = str(caught.value).splitlines()
    assert lines
    for line in lines:
        assert str(path) in line
        assert len(line) < len(str(path)) + 350
        assert line.isprintable()
        assert line.endswith((".", "?"))
    assert len(set(lines)) == len(lines)
    return str(caught.value)


@pytest.mark.parametrize(("content", "words"), [pytest.param(*case[1:], id=case[0]) for case in BAD])
def test_a_bad_file_gives_a_clear_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    begin = time.monotonic()
    assert words in refusal(path)
    assert time.monotonic() - begin < 30


def test_what_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(50_000_000_000)  # sparse
    for name, words in (
        ("loop", "Too many levels of symbolic links"),
        ("zero", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("dangling", "No such file or directory"),
        ("missing", "No such file or directory"),
        ("missing/x", "No such file or directory"),
        ("huge", "larger than 256 KiB"),
        ("huge/x", "Not a directory"),
        (".", "it is a folder"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(RequestError, match=words):
            read_config(tmp_path / name, {})
    with pytest.raises(RequestError, match="File name too long"):
        read_config(Path("x" * 300), {})
    with pytest.raises(RequestError, match=r"a\\x00b cannot be read"):
        read_config(Path("a\0b"), {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything: run as an ordinary user")
def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("source: x")
    (tmp_path / "run.yaml").chmod(0)
    with pytest.raises(RequestError, match="Permission denied"):
        read_config(tmp_path / "run.yaml", {})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("source: x\nmasks: yes", {"source": "x", "masks": True}),
        ("source: x\nmasks: Off\ndisplay: TRUE", {"source": "x", "display": True}),
        ("source: 0", {"source": "0"}),
        ("source: 2020-01-01", {"source": "2020-01-01"}),
        ("source: 007", {"source": "007"}),
        ("source: x\nstall_s: 1e1\nthreshold: .25", {"source": "x", "stall_s": 10.0, "threshold": 0.25}),
        ("source: x\nmax_frames: 1_000\nthreshold: ~", {"source": "x", "max_frames": 1000}),
        ('source: !!str 5\nclasses: ["1", 2]', {"source": "5", "classes": ["1", "2"]}),
        ("\ufeffsource: x", {"source": "x"}),
        ("%YAML 1.2\n---\nsource: x\n...\n", {"source": "x"}),
        ("source: x\r\nrotate: 90\r\n", {"source": "x", "rotate": 90}),
        ("source: 'Tür 🚪'", {"source": "Tür 🚪"}),
        ("source: &s x\nmodel: *s", {"source": "x", "model": "x"}),
        ("source: >-\n  a\n  b", {"source": "a b"}),
    ],
)
def test_what_is_meant_by_yaml(tmp_path: Path, content: str, found: dict[str, object]) -> None:
    path = tmp_path / "good.yaml"
    path.write_bytes(content.encode())
    assert read_config(path, {}).model_dump(exclude_defaults=True) == found


def test_names_of_cameras_are_texts_and_settings_may_be_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(
        "cameras:\n  1: &one {source: 0, rotate: 90, classes: [person]}\n"
        "  on:\n    rotate: 180\n    <<: *one\n"
        "  2020-01-01: {<<: [{flip: both}, *one], source: 1}\n"
    )
    found = read_config(path, {}).each_camera()
    assert [*found] == ["1", "on", "2020-01-01"]
    assert [camera.rotate for camera in found.values()] == [90, 180, 90]
    assert [camera.source for camera in found.values()] == ["0", "0", "1"]
    assert found["2020-01-01"].flip == "both"


def test_everything_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "source: !env S\nrotate: 45\nrotate: 90\ncameras:\n  a: {sorce: x, stall_s: 0}\n  b: nonsense\n"
        "  c: {source: x, jsonl: '-', jsonl_rotate_mb: 3}\nvideo: x.mp4\npictures: y\njsonl_keep_mb: none\n"
    )
    said = [line.removeprefix(f"{path}, ") for line in refusal(path).splitlines()]
    assert said == [
        "line 1: the tag !env is not understood: give plain values.",
        "line 1: source: there are cameras, each with a source of its own.",
        "line 2: rotate: input should be 0, 90, 180 or 270, received 45.",
        "line 3: rotate is given twice, first in line 2.",
        "line 5: cameras.a.stall_s: input should be greater than 0, received 0.",
        "line 5: cameras.a.source: it must be given.",
        "line 5: cameras.a.sorce: there is no such setting. Did you mean source?",
        "line 6: cameras.b: it must hold `setting: value` lines, indented, received 'nonsense'.",
        "line 7: cameras.c.jsonl: standard output cannot be rotated; give a file.",
        "line 8: video: give each of the cameras its own.",
        "line 9: pictures: give each of the cameras its own.",
        "line 10: jsonl_keep_mb: input should be a valid integer, received 'none'.",
    ]


def test_what_all_cameras_inherit_is_said_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("threshold: 3\ncameras:\n" + "".join(f"  c{n}: {{source: x}}\n" for n in range(30)))
    assert refusal(path) == f"{path}, line 1: threshold: input should be less than 1, received 3."
    with pytest.raises(RequestError) as caught:
        read_config(path, {"threshold": 4})
    assert str(caught.value) == f"{path}: threshold: input should be less than 1, received 4."


def test_a_rule_that_one_camera_breaks_with_what_it_inherits_is_said_there(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "jsonl_keep_mb: 50\ncameras:\n  a: {source: x, jsonl_rotate_mb: 5}\n  b: {source: y, jsonl: b}\n"
    )
    assert refusal(path).startswith(f"{path}, line 4: cameras.b.jsonl_keep_mb: give jsonl_rotate_mb, too")


def test_of_ten_thousand_faults_the_first_are_said(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for text in (
        "\n".join(f"key{number}: 1" for number in range(10_000)),
        "source: x\n" * 10_000,
        "cameras:\n" + "".join(f"  c{number}: {{source: x, flip: 1}}\n" for number in range(4_000)),
    ):
        path.write_text(text)
        begin = time.monotonic()
        lines = refusal(path).splitlines()
        assert time.monotonic() - begin < 30
        assert len(lines) == 51
        assert lines[-1] == f"{path}: there is more: put this right first."


SECRET = "7171717171"  # noqa: S105 - of the tests alone


@pytest.mark.parametrize(
    "content",
    [
        f"password: {SECRET}",
        f"password: '{SECRET}",
        f"web_token_file: [{SECRET}]",
        f"web_token_file: {SECRET}",  # instead of the name of a file
        f"web_token_file: {{{SECRET}: 1}}",
        f"source: {{password: {SECRET}}}",
        f"source: x\nmqtt: user:{SECRET}@broker",
        f"source: x\nmqtt: {{host: b, password: [{SECRET}]}}",
        f"source: x\nmqtt: {{host: b, password: {SECRET}}}",
        f"source: x\nmqtt: {{host: b, pasword: {SECRET}}}",
        f"source: x\nmqtt: {{host: b, password_file: {SECRET}, username: u}}",
        f"source: rtsp://user:{SECRET}@host\nthreads: rtsp://user:{SECRET}@host: x",
        f"source: !rtsp://user:{SECRET}@host x",
        f"source: *rtsp://user:{SECRET}@host",
        f"rotate: rtsp://user:{SECRET}{'x' * 100}@host",
        f"cameras: [rtsp://user:{SECRET}@host]",
        f"cameras: {{a: rtsp://user:{SECRET}@host}}",
        f"rtsp://user:{SECRET}@host: 1\nrtsp://user:{SECRET}@host: 1",
        f"rtsp://user:{SECRET}@host",
        f"source: rtsp://user:{SECRET}\x07@host",
    ],
)
def test_secrets_are_not_quoted(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert SECRET not in refusal(path)


# Files that are right, made wrong in one place.

RIGHT = {
    "source": "test://", "threads": 2, "threshold": 0.5, "rotate": 90, "flip": "both", "masks": False,
    "classes": ["person", "car"], "stall_s": 2.5, "max_frames": 10, "engine": "onnxruntime", "top_k": 3,
    "crop": "0,0,64x64", "precision": "int8", "jsonl": "out.jsonl", "jsonl_rotate_mb": 5,
    "jsonl_keep_mb": 50, "web": "127.0.0.1:0", "dla": 1, "session_quality": 90, "output_stride": 16,
    "input_size": "320x320", "force": True,
}  # fmt: skip
WRONG_TYPES: list[object] = [{"a": 1}, [{}], [[1]], {}]
OUT_OF_RANGE = {
    "threads": [0, -1, 257, 10**30, 1.5], "threshold": [0, 1, -0.1, 1.1, float("nan"), float("inf"), 10**20],
    "rotate": [1, 45, 360, -90], "flip": ["up", "BOTH", ""], "stall_s": [0, -1, 3601, float("nan")],
    "max_frames": [0, -5, 0.5], "engine": ["tpu", "", "ONNX"], "crop": ["1,2", "0,0,0x0", "-1,0,5x5", "x"],
    "precision": ["int4", "fp", ""], "jsonl_rotate_mb": [0, 10**9], "jsonl_keep_mb": [0, 4, 10**10],
    "dla": [-1, 8], "session_quality": [0, 101], "output_stride": [4, 64, 0], "top_k": [0, 1001],
    "input_size": ["x", "1x", "1x2x3", "-4", ""], "source": [""], "masks": ["perhaps", 3], "force": ["x"],
}  # fmt: skip
PLACED = [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
PLACED += [(name, value) for name in RIGHT for value in WRONG_TYPES]


def written(value: object) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000)).partition("\n")[0]


@pytest.mark.parametrize("indented", [False, True], ids=["one camera", "of a camera"])
def test_any_setting_made_wrong_is_named_with_its_line(tmp_path: Path, indented: bool) -> None:
    path, seen = tmp_path / "bad.yaml", 0
    common = {"threads", "engine", "precision", "web", "dla", "output_stride", "input_size", "force"}
    for name, value in PLACED:
        if indented and name in common:
            continue
        camera = {**RIGHT, name: value}
        lines = [f"{key}: {written(camera[key])}" for key in camera if not indented or key not in common]
        line = [text.startswith(f"{name}:") for text in lines].index(True) + 1
        where, text = name, "\n".join(lines)
        if indented:
            line, where = line + 2, f"cameras.door.{name}"
            text = "cameras:\n  door:\n" + "".join(f"    {setting}\n" for setting in lines)
        path.write_text(text)
        said = refusal(path)
        assert f"{path}, line {line}: {where}" in said, (said, text)
        assert len(said.splitlines()) == 1, said
        seen += 1
    assert seen > 70


def test_a_name_misspelt_by_one_letter_is_recognised(tmp_path: Path) -> None:
    path, wrong = tmp_path / "bad.yaml", 0
    for name in RunConfig.model_fields:
        for misspelt in (
            name[:-1],
            f"{name}x",
            f"{name[1]}{name[0]}{name[2:]}",
            name.upper(),
            name.replace("_", "-"),
        ):
            if misspelt in RunConfig.model_fields:
                continue
            path.write_text(f"source: x\n{misspelt}: 1\n")
            said = refusal(path)
            assert f", line 2: {misspelt}: there is no such setting." in said
            wrong += f"Did you mean {name}?" not in said
    # `mask` may be `masks`; capitals of short names and `jsonl_keep-mb` may be nearer to others.
    assert wrong < len(RunConfig.model_fields)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_right_file_with_some_characters_changed_is_read_or_refused_with_lines(
    tmp_path: Path, data: st.DataObject
) -> None:
    text = [
        *yaml.safe_dump({"cameras": {"door": {"source": "test://", "rotate": 90}}, **RIGHT}, sort_keys=False)
    ]
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.text(st.sampled_from("[]{}:-&*!|>'\"%@`#,? \n\t<~=\\0a\ud7ff\x85\u2028"), max_size=3)
        )
    path = tmp_path / "bad.yaml"
    path.write_text("".join(text), encoding="utf-8", newline="")
    try:
        read_config(path, {})
    except RequestError as error:
        assert all(str(path) in line for line in str(error).split("\n"))  # noqa: PT017 - either way is right


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=re.escape(str(path))):
        read_config(path, {})


def test_every_kind_of_refusal_has_its_place_first() -> None:
    with pytest.raises(ValueError, match="less_than") as caught:
        RunConfig.model_validate({"source": "x", "threshold": 3})
    (detail,) = caught.value.errors()  # type: ignore[attr-defined]
    assert explained(detail) == (("threshold",), "threshold: input should be less than 1, received 3.")


# As processes, within limits.

MEMORY_BYTES = 1_500_000_000


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))


@pytest.mark.parametrize("words", [("run", "--config"), ("daemon", "--config"), ("config", "check")])
@pytest.mark.parametrize("name", ["laughs", "laughs of merges", "deep lists", "a bell", "twice"])
def test_every_command_refuses_bad_files_within_limits(
    words: tuple[str, ...], name: str, tmp_path: Path, command: Command
) -> None:
    content, said = next((case[1], case[2]) for case in BAD if case[0] == name)
    path = tmp_path / "bad.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    done = command(*words, "bad.yaml", preexec_fn=limited)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("run", "--config"), ("daemon", "--config"), ("config", "check")])
def test_no_command_waits_for_a_pipe_or_reads_without_end(
    words: tuple[str, ...], tmp_path: Path, command: Command
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", "/dev/zero"):
        done = command(*words, path, preexec_fn=limited)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"The configuration {path} cannot be read: it is no regular file." in done.stderr


def test_the_largest_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("source: test://\nclasses:\n" + "- some class or other\n" * 11_000)
    script = (
        "import resource, sys; from pathlib import Path; from edge_mnv2.config import read_config\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(read_config(Path(sys.argv[1]), {}).classes) == 11_000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # KiB
