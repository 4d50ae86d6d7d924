"""A run as its settings say: with real sources, real outputs, and a real server where one is wanted."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_mnv2.config import read_config
from edge_mnv2.errors import OutputPathError, RequestError
from edge_mnv2.live_run import run_settings
from edge_mnv2.readings import DeviceReading, Reading, Throttling
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.services import Services
from edge_mnv2.sinks.session import RecordedDevice
from edge_mnv2.telemetry.sampler import DeviceSampler
from tests.camera.servers import Server, rtsp_server
from tests.conftest import Command

__all__ = ["rtsp_server"]  # a fixture

WAIT_S = 30


def run(settings: dict[str, object], stop: threading.Event | None = None) -> dict[str, RunSummary]:
    return run_settings(
        read_config(None, {"engine": "onnxruntime", **settings}), [], stop or threading.Event()
    )


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def frames(path: Path) -> list[dict[str, Any]]:
    return [record for record in records(path) if "camera" not in record]


def states(path: Path) -> list[str]:
    return [record["camera"]["state"] for record in records(path) if "camera" in record]


class Runner:
    """A run in a thread of its own, which ends with the test."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.found: dict[str, RunSummary] = {}
        self.thread: threading.Thread | None = None

    def start(self, settings: dict[str, object]) -> None:
        def target() -> None:
            self.found = run(settings, self.stop)

        self.thread = threading.Thread(target=target)
        self.thread.start()

    def finish(self) -> dict[str, RunSummary]:
        self.stop.set()
        assert self.thread is not None
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()
        return self.found


@pytest.fixture
def runner() -> Any:  # noqa: ANN401
    runner = Runner()
    yield runner
    if runner.thread is not None:
        runner.finish()


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for what gives no event to wait for: lines in a file that another thread writes."""
    end_s = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end_s, f"{what} never came"
        time.sleep(0.01)


def test_cameras_share_an_engine_each_by_its_own_settings(tmp_path: Path) -> None:
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    found = run(
        {
            "threshold": 0.6,
            "cameras": {
                "one": {"source": "test://?fps=0&frames=12&size=640x480", "jsonl": one},
                "other": {
                    "source": "test://?fps=0&frames=8&size=480x640",
                    "classes": ["clock"],
                    "threshold": 0.5,
                    "rotate": 90,
                    "crop": "0,0,480x320",
                    "jsonl": other,
                },
            },
        }
    )
    assert {name: (summary.frames, summary.ok) for name, summary in found.items()} == {
        "one": (12, True),
        "other": (8, True),
    }
    assert {item["label"] for record in frames(one) for item in record["detections"]} == {
        "stop sign",
        "clock",
    }
    labels = {item["label"] for record in frames(other) for item in record["detections"]}
    assert labels <= {"clock"}
    assert frames(other)[0]["image"] == {"width": 320, "height": 480}
    assert "wait" in frames(one)[0]["stages_ms"]
    assert {record["camera_name"] for record in records(one)} == {"one"}


def test_what_is_wrong_with_several_cameras_is_told_at_once_and_by_name(tmp_path: Path) -> None:
    session = tmp_path / "s.session"
    cameras = {
        "door": {"source": str(tmp_path / "missing.mp4"), "record_session": session},
        "yard": {"source": "rtps://host/stream"},
        "good": {"source": "test://?frames=1"},
        "film": {"source": "test://?frames=1", "video": tmp_path / "film.xyz"},
    }
    with pytest.raises(RequestError) as refused:
        run({"cameras": cameras})
    lines = str(refused.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["door", "yard", "film"]
    assert "missing.mp4" in lines[0]
    assert "Did you mean rtsp:// or rtsps://?" in lines[1]
    assert not list(tmp_path.iterdir())
    with pytest.raises(RequestError) as refused:
        run(
            {"cameras": {name: {"source": "test://?frames=1", "classes": [name]} for name in ("kat", "hund")}}
        )
    told = [line.partition(".")[0] for line in str(refused.value).splitlines()]
    assert told == [f"{name}: ssdlite-mnv2-coco has no class '{name}'" for name in ("kat", "hund")]


def test_the_address_of_the_live_view_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("aiohttp", reason="pip install 'edge-mnv2[web]'")
    with caplog.at_level("INFO"):
        run({"source": "test://?fps=0&frames=1", "web": "127.0.0.1:0"})
    assert [m for m in caplog.messages if re.fullmatch(r"live view: http://127\.0\.0\.1:[1-9]\d*/", m)]


def test_each_camera_says_how_far_it_is_and_what_happens_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path, broken = tmp_path / "r.jsonl", tmp_path / "a.png"
    broken.write_bytes(b"no picture")
    done: dict[str, list[tuple[int, int | None]]] = {"live": [], "file": []}
    settings = {
        "engine": "onnxruntime",
        "cameras": {
            "live": {"source": "test://?fps=50&frames=4", "isolation": "thread", "jsonl": path},
            "file": {"source": "test://?fps=0&frames=3"},
            "bad": {"source": str(broken)},
        },
    }
    run_settings(
        read_config(None, settings),
        [],
        threading.Event(),
        {name: (lambda *so_far, of=name: done[of].append(so_far)) for name in done},
    )
    assert done["file"] == [(1, 3), (2, 3), (3, 3)]
    assert [number for number, _ in done["live"]] == list(range(1, len(done["live"]) + 1)) != []
    assert states(path)[:2] == ["opening", "live"]
    assert {record["camera_name"] for record in records(path)} == {"live"}
    assert "live: test:// is live" in [message.replace("?fps=50&frames=4", "") for message in caplog.messages]
    assert [message for message in caplog.messages if message.startswith("bad: ")]


def test_two_cameras_do_not_write_one_file(tmp_path: Path) -> None:
    camera = {"source": "test://?frames=1", "jsonl": tmp_path / "r.jsonl"}
    with pytest.raises(RequestError, match=r"b: .* is given for two outputs"):
        run({"cameras": {"a": camera, "b": dict(camera)}})
    with pytest.raises(OutputPathError):
        run({**camera, "record_session": tmp_path / "r.jsonl"})
    shown = {"source": "test://?frames=1", "jsonl": "-"}
    with pytest.raises(RequestError, match="b: - is given for two outputs"):
        run({"cameras": {"a": shown, "b": dict(shown)}})


def test_a_session_is_replayed_as_it_was(tmp_path: Path) -> None:
    session, first, again = tmp_path / "s.session", tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    run({"source": "test://?frames=10&fps=0", "record_session": session, "jsonl": first})
    run({"source": f"replay://{session}?speed=max", "jsonl": again})
    left, right = frames(first), frames(again)
    assert len(left) == 10
    for one, two in zip(left, right, strict=True):
        for key in ("source", "seq", "image", "detections"):
            assert one[key] == two[key]
    telemetry = re.findall(rb'"infer_ms"', session.read_bytes())
    assert telemetry


def test_a_replay_shows_the_device_of_the_recording_and_not_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = DeviceReading(
        temperature_c=Reading(81.5, "measured", "zone"),
        power_w=Reading(12.25, "estimated", "model"),
        throttling=Throttling(frozenset({"throttled", "under-voltage"}), sensor="firmware"),
    )
    desk = DeviceReading(temperature_c=Reading(20.0, "measured"), throttling=Throttling())
    session, first, again = tmp_path / "s.session", tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    monkeypatch.setattr(DeviceSampler, "latest", lambda _: field)
    run({"source": "test://?frames=10&fps=0", "record_session": session, "jsonl": first})
    monkeypatch.setattr(DeviceSampler, "latest", lambda _: desk)
    run({"source": f"replay://{session}?speed=max", "jsonl": again})
    told = {"power_w": 12.25, "power": "estimated", "temperature_c": 81.5}
    wanted = {**told, "throttled": ["throttled", "under-voltage"]}
    assert frames(first)[-1]["device"] == wanted
    assert frames(again)[-1]["device"] == wanted
    # The first frame comes before the first readings.
    assert [record["device"]["temperature_c"] for record in frames(again)] == [None, *[81.5] * 9]


def test_the_page_of_a_replay_shows_the_device_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = DeviceReading(temperature_c=Reading(81.5, "measured", "zone"))
    session, seen = tmp_path / "s.session", []
    monkeypatch.setattr(DeviceSampler, "latest", lambda _: field)
    run({"source": "test://?frames=3&fps=0", "record_session": session})
    monkeypatch.setattr(DeviceSampler, "latest", lambda _: DeviceReading(Reading(20.0, "measured")))
    made = Services.__init__

    def make(services: Services, *arguments: Any) -> None:  # noqa: ANN401
        seen.append(arguments[-1])
        made(services, *arguments)

    monkeypatch.setattr(Services, "__init__", make)
    run({"source": f"replay://{session}?speed=max"})
    (read,) = seen
    assert read().device.temperature_c == Reading(81.5, "measured", "recorded")
    assert read().device.throttling is None


def test_a_session_of_an_earlier_version_claims_no_kind(tmp_path: Path) -> None:
    device = RecordedDevice()
    assert device.latest() == DeviceReading()
    device.take({"seq": 1, "temperature_c": 50.0, "power_w": None})
    reading = device.latest()
    assert reading.temperature_c == Reading(50.0, "estimated", "recorded")
    assert (reading.power_w, reading.throttling) == (Reading(), None)


@pytest.mark.parametrize("what", [".", "/dev/null", "-"])
def test_a_session_goes_into_a_file_or_the_run_is_refused(
    command: Command, tmp_path: Path, what: str
) -> None:
    done = command("run", "--source", "test://?frames=1", "--record-session", what)
    assert done.returncode == 2, done.stderr
    assert "no file" in done.stderr or "cannot go to standard output" in done.stderr
    assert not list(tmp_path.glob("*session*"))


def test_a_session_is_not_overwritten_by_its_own_replay(tmp_path: Path) -> None:
    session = tmp_path / "s.session"
    run({"source": "test://?frames=2&fps=0", "record_session": session})
    with pytest.raises(OutputPathError):
        run({"source": f"replay://{session}", "jsonl": session})


def test_a_camera_that_is_killed_and_started_again_is_in_the_records(
    runner: Runner, rtsp_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.jsonl"
    runner.start({"source": rtsp_server.url(), "jsonl": path})
    wait_until(lambda: path.exists() and len(frames(path)) > 5, "frames")
    rtsp_server.kill()
    wait_until(lambda: "lost" in states(path), "the loss")
    before = len(frames(path))
    rtsp_server.restart()
    wait_until(lambda: len(frames(path)) > before + 5, "frames after the return")
    summary = runner.finish()[""]
    assert summary.ok
    assert summary.camera_losses == 1
    told = states(path)
    assert [m for m in caplog.messages if m.startswith(f"{rtsp_server.url()} is lost: it ")]
    assert told[:3] == ["opening", "live", "lost"]
    assert set(told[3:-1]) == {"reconnecting"}
    assert told[-1] == "live"
    assert [record["seq"] for record in frames(path)] == sorted({record["seq"] for record in frames(path)})


def test_no_output_takes_the_place_of_what_another_camera_reads(tmp_path: Path) -> None:
    clip, token = tmp_path / "clip.session", tmp_path / "token"
    run({"source": "test://?frames=2&fps=0", "record_session": clip})
    before = clip.read_bytes()
    two = {"a": {"source": f"replay://{clip}"}, "b": {"source": "test://?frames=2", "jsonl": clip}}
    with pytest.raises(RequestError, match=r"b: .* holds what this run reads"):
        run({"cameras": two})
    with pytest.raises(OutputPathError, match="holds what this run reads"):
        run({"source": "test://?frames=2", "web_token_file": token, "jsonl": token})
    assert clip.read_bytes() == before


def test_one_of_several_cameras_may_come_later(runner: Runner, rtsp_server: Server, tmp_path: Path) -> None:
    late, other = tmp_path / "late.jsonl", tmp_path / "other.jsonl"
    rtsp_server.kill()
    runner.start(
        {
            "cameras": {
                "late": {"source": rtsp_server.url(), "jsonl": late},
                "other": {"source": "test://", "jsonl": other},
            }
        }
    )
    wait_until(lambda: other.exists() and len(frames(other)) > 3, "frames of the other one")
    wait_until(lambda: late.exists() and "reconnecting" in states(late), "a second try")
    rtsp_server.restart()
    wait_until(lambda: len(frames(late)) > 3, "frames of the late one")
    found = runner.finish()
    assert all(summary.ok for summary in found.values())
    assert frames(late)[0]["image"] == {"width": 640, "height": 480}
