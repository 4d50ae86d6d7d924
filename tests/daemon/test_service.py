"""The daemon as a process of its own: what it says to systemd, follows, refuses, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_mnv2.daemon.status_socket import NAME
from edge_mnv2.errors import RunError
from tests.camera.servers import Server, rtsp_server
from tests.daemon.daemon_process import WAIT_S, Daemon

__all__ = ["rtsp_server"]  # a fixture

ONE: dict[str, Any] = {
    "source": "test://?size=320x240&fps=20",
    "engine": "onnxruntime",
    "precision": "fp32",
    "isolation": "thread",
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    yield daemon
    daemon.close()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results(path: Path) -> list[dict[str, Any]]:
    return [record for record in records(path) if "detections" in record]


def test_ready_comes_after_the_first_result_and_it_ends_well(daemon: Daemon, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    daemon.start({**ONE, "jsonl": str(out)})
    daemon.hear("READY=1")
    assert daemon.status()["cameras"]["camera"]["frames"] > 0
    daemon.hear("WATCHDOG=1", after=len(daemon.said))
    assert "camera live" in daemon.hear("STATUS=", after=len(daemon.said))
    started = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - started < 10
    assert daemon.said[-1] == "STOPPING=1"
    assert results(out)
    with pytest.raises(RunError, match="No daemon answers"):
        daemon.status()


def test_a_second_sigterm_does_not_cut_the_end_short(daemon: Daemon, tmp_path: Path) -> None:
    video = tmp_path / "out.avi"
    daemon.start({**ONE, "video": str(video)})
    daemon.hear("READY=1")
    daemon.send(signal.SIGTERM)
    daemon.hear("STOPPING=1")
    assert daemon.end() == 0
    assert "interrupted" not in daemon.log()
    assert video.stat().st_size


def test_a_lost_camera_keeps_the_watchdog_fed_but_is_not_ready(daemon: Daemon) -> None:
    """A camera that never was there: systemd hears that somebody tries, and waits for the first result."""
    daemon.start({**ONE, "source": "rtsp://127.0.0.1:9/none"}, "--stuck-after", "30")
    daemon.wait_until(lambda: (daemon.folder / NAME).exists() and bool(daemon.status()["cameras"]), "status")
    daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["attempts"] >= 3, "three attempts")
    assert "READY=1" not in daemon.said
    before = len(daemon.said)
    daemon.hear("WATCHDOG=1", after=before)
    daemon.hear("EXTEND_TIMEOUT_USEC=", after=before)
    assert daemon.end() == 0


def test_a_loop_that_hangs_silences_the_watchdog(daemon: Daemon, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    daemon.start({**ONE, "source": "test://?size=320x240&fps=0", "jsonl": str(pipe)}, "--stuck-after", "1")
    # Nobody reads: the pipe fills up, and the loop hangs in the kernel.
    daemon.wait_until(lambda: "nothing moves in: camera" in daemon.log(), "the end of patience")
    before = len(daemon.said)
    daemon.hear("STATUS=", after=before)
    daemon.hear("STATUS=", after=before + 1)
    assert "WATCHDOG=1" not in daemon.said[before:]
    os.close(reader)


def test_new_settings_change_only_what_they_say(daemon: Daemon, tmp_path: Path) -> None:
    first, second, other = tmp_path / "first.jsonl", tmp_path / "second.jsonl", tmp_path / "other.jsonl"
    both = {
        "engine": "onnxruntime",
        "precision": "fp32",
        "isolation": "thread",
        "cameras": {
            "a": {"source": "test://?size=320x240&fps=10", "jsonl": str(first)},
            "b": {"source": "test://?size=320x240&fps=9", "jsonl": str(second)},
        },
    }
    daemon.start(both)
    daemon.hear("READY=1")
    daemon.wait_until(lambda: len(results(second)) > 3, "records of b")
    both["cameras"]["a"] = {**both["cameras"]["a"], "jsonl": str(other), "threshold": 0.9}  # type: ignore[index]  # a literal
    both["cameras"]["c"] = {"source": "test://?size=160x120&fps=5"}  # type: ignore[index]  # a literal
    daemon.reload(both)
    daemon.wait_until(lambda: len(results(other)) > 3, "records of a in its new file")
    daemon.wait_until(lambda: daemon.status()["cameras"]["c"]["frames"] > 0, "camera c")
    assert daemon.end() == 0
    # Nobody's numbers began anew: neither camera was closed.
    seqs = [record["seq"] for record in [*results(first), *results(other)]]
    assert seqs == sorted(set(seqs))
    seqs = [record["seq"] for record in results(second)]
    assert seqs == sorted(set(seqs))
    assert "settings read again: camera a reports other things" in daemon.log()
    assert "settings read again: camera c is new" in daemon.log()


def test_another_source_or_model_starts_anew(daemon: Daemon) -> None:
    daemon.start(ONE)
    daemon.hear("READY=1")
    daemon.reload({**ONE, "source": "test://?size=160x120&fps=15"})
    daemon.wait_until(lambda: "160x120" in daemon.status()["cameras"]["camera"]["source"], "the new source")
    daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["frames"] > 0, "its results")
    daemon.reload({**ONE, "model": "mobilenet-v2-imagenet"})
    daemon.wait_until(
        lambda: daemon.status()["cameras"]["camera"]["model"] == "mobilenet-v2-imagenet", "the new model"
    )
    assert daemon.end() == 0


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"modl": "x"}, "Did you mean model?"),
        ({"threshold": 3}, "threshold:"),
        ({"source": "rstp://x/y"}, "rtsp"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"classes": ["no-such-class"]}, "no-such-class"),
        ({"source": "/no/such/file.mp4"}, "/no/such/file.mp4"),
        ({"web": "203.0.113.7:1"}, "203.0.113.7"),
    ],
)
def test_wrong_settings_are_refused_and_the_old_ones_stay(
    daemon: Daemon, tmp_path: Path, wrong: dict[str, Any], line: str
) -> None:
    out = tmp_path / "out.jsonl"
    daemon.start({**ONE, "jsonl": str(out)})
    daemon.hear("READY=1")
    daemon.reload({**ONE, "jsonl": str(tmp_path / "other.jsonl"), **wrong})
    assert line in daemon.log()
    assert "are refused: those of before stay" in daemon.log()
    count = len(results(out))
    daemon.wait_until(lambda: len(results(out)) > count, "further records")
    assert daemon.end() == 0
    seqs = [record["seq"] for record in results(out)]
    assert seqs == sorted(set(seqs))


def test_a_camera_that_is_killed_and_restarted(daemon: Daemon, rtsp_server: Server) -> None:
    server = rtsp_server
    daemon.start({**ONE, "source": server.url()})
    daemon.hear("READY=1")
    server.kill()
    daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["losses"] == 1, "the loss")
    daemon.hear("WATCHDOG=1", after=len(daemon.said))
    server.start()
    daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["state"] == "live", "the return")
    assert daemon.end() == 0


def test_a_source_that_ends_leaves_the_daemon_waiting_for_other_settings(daemon: Daemon) -> None:
    daemon.start({**ONE, "source": "test://?size=320x240&fps=0&frames=5"})
    daemon.hear("READY=1")
    daemon.hear("camera ended")
    daemon.hear("WATCHDOG=1", after=len(daemon.said))
    daemon.reload(ONE)
    daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["state"] == "live", "the new source")
    assert daemon.end() == 0


def test_a_camera_that_is_given_up_ends_the_daemon_with_a_failure(daemon: Daemon) -> None:
    """Systemd starts it again: by then, the device may be there."""
    daemon.start({**ONE, "source": "rtsp://127.0.0.1:9/none", "max_attempts": 2})
    assert daemon.process is not None
    assert daemon.process.wait(WAIT_S) == 1
    assert "127.0.0.1:9" in daemon.log()


def test_sighup_before_anybody_listens_waits(daemon: Daemon) -> None:
    daemon.start(ONE)
    # As soon as the program has its handlers; Python itself takes a moment before.
    time.sleep(0.15)
    daemon.send(signal.SIGHUP)
    daemon.hear("READY=1")
    assert daemon.end() == 0


def test_a_stop_while_it_starts_ends_well(daemon: Daemon) -> None:
    daemon.start(ONE)
    daemon.hear("starting: opening the model")
    assert daemon.end() == 0


def test_a_stop_takes_five_seconds_whatever_hangs(daemon: Daemon, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    # A sink that blocks for ever, in a lossless loop: nothing but the end of the process ends its thread.
    daemon.start({**ONE, "source": "test://?size=320x240&fps=0", "jsonl": str(pipe)})
    daemon.hear("READY=1")
    counted = [0]

    def stands_still() -> bool:
        before, counted[0] = counted[0], daemon.status()["cameras"]["camera"]["frames"]
        time.sleep(0.5)
        return before == counted[0]

    daemon.wait_until(stands_still, "a full pipe")
    started_s = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - started_s < 8  # 5 s, and what a busy machine adds
    os.close(reader)


def test_what_an_earlier_daemon_wrote_stays(daemon: Daemon, tmp_path: Path) -> None:
    out, video, pictures = tmp_path / "out.jsonl", tmp_path / "out.mp4", tmp_path / "pictures"
    settings = {**ONE, "jsonl": str(out), "video": str(video), "pictures": str(pictures)}
    for _ in range(2):
        daemon.start(settings)
        daemon.hear("READY=1", after=len(daemon.said))
        daemon.wait_until(lambda: daemon.status()["cameras"]["camera"]["frames"] > 5, "some results")
        assert daemon.end() == 0
    numbers = [record["seq"] for record in results(out)]
    assert sum(later <= before for before, later in itertools.pairwise(numbers)) == 1  # they began anew once
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"out.mp4", "out-2.mp4"}
    assert len(list(pictures.iterdir())) == len(numbers)


def test_a_second_daemon_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start(ONE)
    daemon.hear("READY=1")
    command = [sys.executable, "-m", "edge_mnv2", "daemon", "--config", str(daemon.config)]
    second = subprocess.run(
        [*command, "--runtime-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert second.returncode == 2
    assert "Another daemon answers" in second.stderr
    assert daemon.status()["cameras"]


@pytest.mark.parametrize(
    ("content", "line"),
    [("modl: x\n", "Did you mean model?"), ("source: rstp://x\n", "rtsp"), ("source: [\n", "YAML")],
)
def test_a_wrong_file_at_the_start(tmp_path: Path, content: str, line: str) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text(content)
    command = [sys.executable, "-m", "edge_mnv2", "daemon", "--config", str(config)]
    done = subprocess.run(
        [*command, "--runtime-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_status_without_a_daemon(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_mnv2", "status", "--runtime-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == 1
    assert "No daemon answers" in done.stderr


def test_a_camera_that_starts_anew_stays_in_the_live_view(daemon: Daemon) -> None:
    daemon.start({**ONE, "web": "127.0.0.1:0"})
    daemon.hear("READY=1")
    url = re.search(r"live view: (http://\S+)", daemon.log())
    assert url is not None
    daemon.reload({**ONE, "web": "127.0.0.1:0", "source": "test://?size=160x120&fps=15"})

    def size() -> int:
        with urllib.request.urlopen(f"{url[1]}api/state") as answer:  # noqa: S310 - http
            image = json.load(answer)["cameras"][0]["image"]
        return 0 if image is None else int(image["width"])

    daemon.wait_until(lambda: size() == 160, "the new camera in the old live view")
    assert daemon.end() == 0


def test_a_live_view_comes_and_goes_while_cameras_go_on(daemon: Daemon, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    daemon.start({**ONE, "jsonl": str(out)})
    daemon.hear("READY=1")
    daemon.reload({**ONE, "jsonl": str(out), "web": "127.0.0.1:0"})
    url = re.search(r"live view: (http://\S+)", daemon.log())
    assert url is not None

    def is_served() -> bool:
        with urllib.request.urlopen(f"{url[1]}healthz") as answer:  # noqa: S310 - http
            return bool(answer.status == 200)

    daemon.wait_until(lambda: _answers(is_served), "a healthy live view")
    daemon.reload({**ONE, "jsonl": str(out)})
    assert not _answers(is_served)
    assert daemon.end() == 0
    seqs = [record["seq"] for record in results(out)]
    assert seqs == sorted(set(seqs))


def _answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # refused, or 503
        return False
