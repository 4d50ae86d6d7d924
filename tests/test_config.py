from __future__ import annotations

import json
import traceback
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from camera import Supervision, Transform
from edge_mnv2.config import RunConfig, read_config
from edge_mnv2.errors import RequestError
from edge_mnv2.predictor import PredictorOptions
from edge_mnv2.zoo.model import DecoderOptions, Variant
from tests.conftest import ROOT, needs_schema_writer


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "source: a.mp4\nthreshold: 0.3\nclasses: [person, 2]\n")
    found = read_config(path, {"threshold": 0.7, "video": None, "jsonl": "-"})
    assert (found.source, found.threshold, found.classes) == ("a.mp4", 0.7, ["person", "2"])
    assert (found.video, found.jsonl) == (None, Path("-"))


def test_the_home_directory_is_meant_by_its_sign() -> None:
    found = read_config(None, {"source": "x", "jsonl": "~/r.jsonl"})
    assert found.jsonl == Path.home() / "r.jsonl"


def test_a_number_is_a_source_and_a_list_may_be_one_string() -> None:
    found = read_config(None, {"source": 0, "classes": "person, bicycle"})
    assert (found.source, found.classes) == ("0", ["person", "bicycle"])


def test_all_errors_come_at_once_each_with_its_setting(tmp_path: Path) -> None:
    path = write(tmp_path, "treshold: 0.5\nthreshold: 2\nthreads: none\nengine: tpu\nmax_frames: 0\n")
    with pytest.raises(RequestError) as caught:
        read_config(path, {})
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    # In the order of the file; what is missing stands nowhere in it.
    assert [line.partition(": ")[0] for line in lines] == [
        *(f"{path}, line {number}" for number in range(1, 6)),
        str(path),
    ]
    text = str(caught.value)
    assert "treshold: there is no such setting. Did you mean threshold?" in text
    assert "threshold: input should be less than 1, received 2." in text
    assert "source: it must be given." in text
    assert "engine: input should be 'auto', 'onnxruntime' or 'tensorrt', received 'tpu'." in text


def test_left_out_settings_are_those_of_the_library() -> None:
    assert read_config(None, {"source": "x"}).predictor_options() == PredictorOptions(
        serve_while_building=True
    )


def test_every_setting_of_the_network_reaches_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "source: x\nengine: onnxruntime\nprecision: int8\nforce: true\nthreads: 2\ndla: 1\n"
        "input_size: 640x480\noutput_stride: 8\nthreshold: 0.25\n"
        "classes: [person, 7]\ntop_k: 3\nmasks: true\n",
    )
    assert read_config(path, {}).predictor_options() == PredictorOptions(
        engine="onnxruntime",
        precision="int8",
        force=True,
        threads=2,
        dla_core=1,
        serve_while_building=True,
        variant=Variant(size=(480, 640), output_stride=8),
        decoder=DecoderOptions(threshold=0.25, classes=["person", "7"], top_k=3, masks=True),
    )


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        ("precision", "auto", "auto"),
        ("precision", "fp32", "fp32"),
        ("precision", "int8", "int8"),
        ("force", "false", False),
        ("input_size", "513", "513"),
        ("input_size", "64 X 32", "64 X 32"),
        ("output_stride", "16", 16),
        ("output_stride", "32", 32),
        ("top_k", "1", 1),
        ("top_k", "1000", 1000),
        ("masks", "yes", True),
        ("threshold", "0.999", 0.999),
    ],
)
def test_values_that_are_good(tmp_path: Path, setting: str, value: str, found: object) -> None:
    config = read_config(write(tmp_path, f"source: x\n{setting}: {value}\n"), {})
    assert getattr(config, setting) == found


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        (
            "precision",
            "int4",
            "precision: input should be 'auto', 'fp32', 'fp16' or 'int8', received 'int4'.",
        ),
        ("precision", "8", "precision: input should be 'auto', 'fp32', 'fp16' or 'int8', received 8."),
        ("force", "perhaps", "force: input should be true or false"),
        ("force", "3", "force: input should be true or false"),
        ("masks", "[]", "masks: input should be true or false, received []."),
        ("input_size", "big", "A size is WIDTHxHEIGHT, such as 513x289, or one number, not 'big'"),
        ("input_size", "640x", "A size is WIDTHxHEIGHT, such as 513x289, or one number, not '640x'"),
        ("input_size", "-4", "A size is WIDTHxHEIGHT, such as 513x289, or one number, not '-4'"),
        ("input_size", "[640, 480]", "input_size: input should be a text, received a list."),
        ("output_stride", "4", "output_stride: input should be 8, 16 or 32, received 4."),
        ("output_stride", "x", "output_stride: input should be 8, 16 or 32, received 'x'."),
        ("top_k", "0", "top_k: input should be greater than or equal to 1, received 0."),
        ("top_k", "1001", "top_k: input should be less than or equal to 1000, received 1001."),
        ("top_k", "1.5", "top_k: input should be a valid integer, received 1.5."),
        ("dla", "true", "dla: input should be a valid integer, received true."),
        ("threads", "true", "threads: input should be a valid integer, received true."),
        ("top_k", "none", "top_k: input should be a valid integer"),
        ("threshold", "0", "threshold: input should be greater than 0, received 0."),
        ("threads", "257", "threads: input should be less than or equal to 256, received 257."),
        ("classes", "[]", "classes: it must hold at least one, received []."),
    ],
)
def test_values_that_are_not_are_named_with_what_is_expected(
    tmp_path: Path, setting: str, value: str, words: str
) -> None:
    path = write(tmp_path, f"source: x\n{setting}: {value}\n")
    with pytest.raises(RequestError) as caught:
        read_config(path, {})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}, line 2: {setting}: ")
    assert words in line


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from([*RunConfig.model_fields, "more"]), st.integers() | st.text() | st.none())
)
def test_any_settings_are_accepted_or_refused_with_a_line(
    tmp_path_factory: pytest.TempPathFactory, settings_: dict[str, object]
) -> None:
    path = write(tmp_path_factory.mktemp("yaml"), yaml.safe_dump(settings_))
    try:
        read_config(path, {})
    except RequestError as error:
        assert str(error).count(": ") >= 2  # noqa: PT017 - either way is right


def test_a_ready_made_file_is_found_by_name_unless_there_is_one_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("desk.yaml"), {}).source == "0"
    (tmp_path / "desk.yaml").write_text("source: mine.mp4")
    assert read_config(Path("desk.yaml"), {}).source == "mine.mp4"
    with pytest.raises(RequestError, match="cannot be read"):
        read_config(Path("elsewhere/desk.yaml"), {})
    with pytest.raises(RequestError, match=r"neither here nor ready-made. .*desk\.yaml"):
        read_config(Path("dask.yaml"), {})
    (tmp_path / "pi5-detect.yaml").symlink_to("nowhere")
    with pytest.raises(RequestError, match="No such file"):  # not the ready-made one in its place
        read_config(Path("pi5-detect.yaml"), {})


@needs_schema_writer
def test_the_published_schema_is_the_models() -> None:
    published = json.loads((ROOT / "configs" / "schema.json").read_text())
    assert published == RunConfig.model_json_schema()


# Several cameras.


def test_what_is_said_outside_holds_for_each_camera_that_says_nothing_else(tmp_path: Path) -> None:
    said = {
        "threshold": 0.7,
        "rotate": 180,
        "cameras": {
            "door": {"source": "rtsp://door/1", "threshold": 0.4, "jsonl": "door.jsonl"},
            "back yard": {"source": 0, "crop": "0,0,320x240"},
        },
    }
    found = read_config(write(tmp_path, yaml.safe_dump(said, sort_keys=False)), {})
    door, yard = found.each_camera().values()
    assert [*found.each_camera()] == ["door", "back yard"]
    assert (door.source, door.threshold, door.rotate, door.jsonl) == (
        "rtsp://door/1",
        0.4,
        180,
        Path("door.jsonl"),
    )
    assert (yard.source, yard.threshold, yard.rotate, yard.jsonl) == ("0", 0.7, 180, None)
    assert yard.camera_options().transform == Transform((0, 0, 320, 240), 180, None)
    assert yard.decoder_options() == DecoderOptions(threshold=0.7)


def test_one_camera_is_all_of_it() -> None:
    found = read_config(None, {"source": "test://", "stall_s": 5, "isolation": "thread", "flip": "both"})
    ((name, camera),) = found.each_camera().items()
    assert (name, camera.source) == ("", "test://")
    options = camera.camera_options()
    assert (options.isolation, options.transform.flip, options.supervision.stall_s) == ("thread", "both", 5)


def test_how_a_camera_comes_back_can_be_said() -> None:
    camera = read_config(None, {"source": "0"}).each_camera()[""]
    assert camera.camera_options().supervision == Supervision()
    assert camera.camera_options(waits=True).supervision == Supervision(retry_first=True)
    said = {"retry_first": False, "max_attempts": 3, "max_pause_s": 1.5, "long_pause_s": 600}
    door = read_config(None, {**said, "cameras": {"door": {"source": "0"}}}).each_camera()["door"]
    assert door.camera_options(waits=True).supervision == Supervision(
        max_attempts=3, max_pause_s=1.5, long_pause_s=600
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: {}", "cameras: it must hold at least one"),
        ("cameras: {a: {}}", "cameras.a.source: it must be given."),
        (
            "cameras: {a: {source: x, model: y}}",
            "cameras.a.model: there is no such setting. It holds for all cameras",
        ),
        ("cameras: {a: {source: x, treshold: 1}}", "Did you mean threshold?"),
        ("{source: x, max_attempts: 0}", "max_attempts: input should be greater than or equal to 1"),
        ("{source: x, max_pause_s: 0}", "max_pause_s: input should be greater than or equal to 0.1"),
        ("cameras: {a: {source: x, rotate: 45}}", "cameras.a.rotate: input should be 0, 90, 180 or 270"),
        ("cameras: {a: {source: x, crop: '1,2'}}", "cameras.a.crop: "),
        ("cameras: {'../a': {source: x}}", "cameras"),
        (
            "{source: x, cameras: {a: {source: x}}}",
            "source: there are cameras, each with a source of its own.",
        ),
        ("{jsonl: x, cameras: {a: {source: x}}}", "jsonl: give each of the cameras its own."),
        ("{source: x, stall_s: 0}", "stall_s: input should be greater than 0"),
        ("{source: x, flip: up}", "flip: input should be 'horizontal', 'vertical' or 'both'"),
    ],
)
def test_wrong_cameras_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_config(write(tmp_path, text), {})
    assert words in str(caught.value)


def test_flags_hold_for_every_camera() -> None:
    cameras = {"a": {"source": "x", "threshold": 0.3}, "b": {"source": "y"}}
    found = read_config(None, {"cameras": cameras, "threshold": 0.9, "max_frames": 3}).each_camera()
    assert {(camera.threshold, camera.max_frames) for camera in found.values()} == {(0.9, 3)}


@pytest.mark.parametrize(
    "text",
    [
        "source: rtsp://user:geheim17@host/x: y",
        'source: "rtsp://user:geheim17@host/x',
        "source: [rtsp://user:geheim17@host/x]",
        "cameras: {a: rtsp://user:geheim17@host/x}",
        "{source: x, rotate: rtsp://user:geheim17@host/x}",
        "cameras: {rtsp://user:geheim17@host/x: {source: x}}",
        "sources: rtsp://user:geheim17@host/x",
    ],
)
def test_a_password_in_a_wrong_file_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_config(write(tmp_path, text), {})
    assert "geheim17" not in "".join(traceback.format_exception(caught.value))
