"""Network cameras against real servers: killed, frozen, restarted, locked."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from camera import (
    BadFrameError,
    CameraError,
    EndOfStream,
    Frame,
    SourceNotFoundError,
    network,
    network_errors,
)
from camera.network_errors import why_not_open
from camera.uri import raw_source
from tests.camera.mjpeg_server import number_of
from tests.camera.servers import Server, mjpeg, rtsp
from tests.conftest import ROOT

USER, PASSWORD, WRONG = "viewer", "S3cr3t@/%x#", "Wr0ng@/%x#"
MAKERS = pytest.mark.parametrize("make", [rtsp, mjpeg])


def read(url: str, count: int) -> list[Frame]:
    """Open a stream, read so many frames, close it."""
    with closing(raw_source(url)) as source:
        source.open()
        return [source.read() for _ in range(count)]


def read_to_the_end(source: network.NetworkCamera) -> CameraError:
    """Read until an error comes, and return it."""
    while True:
        try:
            source.read().release()
        except CameraError as error:
            return error


def camera(url: str) -> network.NetworkCamera:
    source = raw_source(url)
    assert isinstance(source, network.NetworkCamera)
    return source


def udp_sockets() -> int:
    """Return how many UDP sockets this process holds."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            inodes.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
        except FileNotFoundError:
            continue
    tables = [Path("/proc/self/net/udp"), Path("/proc/self/net/udp6")]
    lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return len(inodes & {columns[9] for columns in lines})


@MAKERS
def test_frames_come_with_their_times(make: Callable[..., Server]) -> None:
    with make(user=USER, password=PASSWORD) as server, closing(camera(server.url())) as source:
        opened_ns = time.monotonic_ns()
        info = source.open()
        frames = [source.read() for _ in range(40)]
        read_ns = time.monotonic_ns()
    assert (info.live, info.size, info.frames) == (True, (640, 480), None)
    seqs = [frame.seq for frame in frames]
    assert seqs == sorted(set(seqs))
    for frame in frames:
        assert frame.image.shape == (480, 640, 3)
        assert frame.image.flags.c_contiguous
        assert frame.origin == info.name == f"{server.scheme}://***@127.0.0.1:{server.port}/cam"
    times = [opened_ns, *(frame.captured_ns for frame in frames), read_ns]
    assert times == sorted(times)
    if make is mjpeg:
        assert [number_of(frame.image) for frame in frames] == seqs
    else:
        # The ball moves.
        assert (frames[0].image != frames[39].image).any()


def test_the_scheme_may_be_in_capitals(mjpeg_server: Server) -> None:
    assert number_of(read(mjpeg_server.url().replace("http", "HTTP"), 1)[0].image) == 0


def test_rates_are_known_where_there_is_one() -> None:
    with rtsp(fps=15) as server, closing(camera(server.url())) as source:
        assert source.open().fps == 15
    with mjpeg(fps=15) as server, closing(camera(server.url())) as source:
        assert source.open().fps is None


@MAKERS
def test_a_killed_server_is_a_lost_camera_and_may_come_back_with_another_size(
    make: Callable[..., Server],
) -> None:
    with make() as server:
        source = camera(server.url())
        source.open()
        source.read().release()
        server.kill()
        error = read_to_the_end(source)
        assert type(error) is CameraError
        assert "ended the stream" in str(error)
        source.close()
        with pytest.raises(CameraError, match=f"nothing listens on port {server.port}"):
            source.open()
        server.restart((320, 240))
        assert source.open().size == (320, 240)
        frame = source.read()
        assert frame.image.shape == (240, 320, 3)
        source.close()


@MAKERS
def test_a_frozen_server_is_a_lost_camera_after_the_time_out(make: Callable[..., Server]) -> None:
    with make() as server, closing(camera(server.url() + "#timeout=1")) as source:
        source.open()
        for _ in range(40):  # what the decoder holds back at first is gone
            source.read().release()
        server.freeze()
        frozen_ns = time.monotonic_ns()
        error = read_to_the_end(source)
        assert type(error) is CameraError
        assert "sent nothing for 1 s" in str(error)
        assert time.monotonic_ns() - frozen_ns < 30e9
        source.close()
        server.thaw()
        source.open()
        source.read().release()


@MAKERS
def test_a_server_that_is_frozen_from_the_start_does_not_answer(
    make: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr(network_errors, "_TIMEOUT_S", 0.5)
    with make() as server, closing(camera(server.url())) as source:
        server.freeze()
        with pytest.raises(CameraError, match="does not answer"):
            source.open()


def test_mjpeg_may_change_its_size_within_a_connection() -> None:
    with mjpeg(more=("--then-size", "320x240", "--after", "10")) as server:
        frames = read(server.url(), 20)
    assert {frame.image.shape[:2] for frame in frames} == {(480, 640), (240, 320)}
    for frame in frames:
        assert frame.image.shape[:2] == ((480, 640) if frame.seq < 10 else (240, 320))
        assert number_of(frame.image) == frame.seq


def test_a_damaged_picture_is_reported_and_the_next_one_follows() -> None:
    with mjpeg(more=("--damage", "5")) as server, closing(camera(server.url())) as source:
        source.open()
        numbers, bad = [], 0
        for _ in range(22):
            try:
                frame = source.read()
            except BadFrameError:
                bad += 1
                continue
            assert number_of(frame.image) == frame.seq
            numbers.append(frame.seq)
    assert bad > 0
    assert all(number % 5 != 4 for number in numbers)
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    "options", [(rtsp, ()), (rtsp, ("--basic",)), (mjpeg, ())], ids=["rtsp-digest", "rtsp-basic", "http"]
)
def test_a_locked_camera_says_what_is_missing_and_prints_no_password(
    options: tuple[Callable[..., Server], tuple[str, ...]],
) -> None:
    make, more = options
    with make(user=USER, password=PASSWORD, more=more) as server:
        wrong = server.url(password=WRONG)
        assert "refuses this user or password (401" in str(failure(wrong))
        no_password = f"{server.scheme}://127.0.0.1:{server.port}/cam"
        assert "write user, colon, password and @ before the host" in str(failure(no_password))
        assert "answers, but sent no picture" in str(why_not_open(server.url(), "it", None))
        missing = failure(server.url("/nothing"))
        assert isinstance(missing, SourceNotFoundError)
        assert "no such stream (404" in str(missing)
        # Libraries write to the file descriptor, past sys.stderr.
        code = (
            "import sys\nfrom camera import CameraError\nfrom camera.uri import raw_source\n"
            "for uri in sys.stdin.read().split():\n"
            "    source = raw_source(uri)\n"
            "    try:\n        print(source.open(), source.read().origin)\n"
            "    except CameraError as error:\n        print(repr(error))\n"
            "    source.close()\n"
        )
        uris = (server.url(), wrong, server.url("/nothing"), wrong.replace(f":{server.port}", ":1"))
        done = subprocess.run(
            [sys.executable, "-c", code],
            input="\n".join(uris),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=True,
            cwd=ROOT,
        )
    lines = done.stdout.splitlines()
    assert [line.split("(")[0] for line in lines] == [
        *("SourceInfo", "AccessDeniedError", "SourceNotFoundError", "CameraError")
    ], done.stdout
    for secret in ("S3cr3t", "Wr0ng", USER):
        assert secret not in done.stdout


def failure(url: str) -> CameraError:
    """Return what opening a stream fails with."""
    source = camera(url)
    with pytest.raises(CameraError) as caught:
        source.open()
    source.close()
    return caught.value


def test_the_transport_is_tcp_unless_udp_is_asked_for(rtsp_server: Server) -> None:
    for fragment, expected in (("", 0), ("#transport=tcp", 0), ("#transport=udp", 2)):
        with closing(camera(rtsp_server.url() + fragment)) as source:
            source.open()
            # One for pictures, one for reports.
            assert udp_sockets() == expected
            seqs = [source.read().seq for _ in range(35)]
            assert seqs == sorted(set(seqs))


def test_opening_leaves_the_environment_alone(rtsp_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.delenv(name, raising=False)
    read(rtsp_server.url() + "#transport=udp", 1)
    assert name not in os.environ
    monkeypatch.setenv(name, "rtsp_transport;udp")
    with closing(camera(rtsp_server.url())) as source:
        source.open()
        assert udp_sockets() == 2  # a user's own
    read(rtsp_server.url() + "#transport=tcp", 1)
    assert os.environ[name] == "rtsp_transport;udp"


def test_files_behind_http_end_and_streams_break_off(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    for number in range(30):
        writer.write(cv2.UMat(48, 64, cv2.CV_8UC3, (number, 0, 0)).get())
    writer.release()
    with mjpeg(more=("--file", str(clip))) as server:
        for path, count in (("/clip.mp4", 30), ("/still.jpg", 1)):
            with closing(camera(server.url(path))) as source:
                info = source.open()
                assert (info.live, info.frames) == (False, count)
                for _ in range(count):
                    source.read().release()
                with pytest.raises(EndOfStream):
                    source.read()
        with closing(camera(server.url("/ends"))) as source:
            source.open()
            assert type(read_to_the_end(source)) is CameraError
        with pytest.raises(CameraError, match="is a page, not a stream"):
            camera(server.url("/page.html")).open()


@MAKERS
def test_encrypted_streams_need_no_known_certificate(make: Callable[..., Server], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs a certificate: sudo apt-get install openssl")
    pem = tmp_path / "camera.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=camera",
                "-days",
                "2",
            ),
            *("-keyout", str(pem), "-out", str(tmp_path / "certificate.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with pem.open("a", encoding="ascii") as file:
        file.write((tmp_path / "certificate.pem").read_text(encoding="ascii"))
    with make(user=USER, password=PASSWORD, more=("--certificate", str(pem))) as server:
        plain, server.scheme = server.scheme, f"{server.scheme}s"
        frames = read(server.url(), 3)
        assert frames[2].image.shape == (480, 640, 3)
        assert "refuses this user or password (401" in str(failure(server.url(password=WRONG)))
        assert failure(server.url().replace(server.scheme, plain))


def test_an_unknown_host_is_named_as_such() -> None:
    with pytest.raises(SourceNotFoundError, match="host is not known"):
        camera(f"rtsp://{USER}:secret@camera.invalid/x").open()


def answering(answer: bytes, questions: list[bytes] | None = None) -> Iterator[int]:
    """Listen on a port, and give the same answer to every question."""
    asked = [] if questions is None else questions
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(10)
                    asked.append(connection.recv(4096))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("scheme", "answer", "words"),
    [
        ("rtsp", b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nm=audio 0", "has no video"),
        (
            "rtsp",
            b"RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nm=video 0",
            "no picture .* within 7 s: try #tr",
        ),
        ("rtsp", b"RTSP/1.0 453 Not Enough Bandwidth\r\n\r\n", "refuses with 453 Not Enough Bandwidth"),
        ("rtsp", b"RTSP/1.0 403 no, rtsp://u:secret@h\r\n\r\n", r"403 no, rtsp://\*\*\*@h"),
        ("rtsp", b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak RTSP"),
        ("rtsp", b"RTSP/1.0\r\n\r\n", "does not speak RTSP"),
        ("rtsp", b"RTSP/1.0 200 OK\r\nContent-Le", "connection broke"),
        ("rtsp", b"", "connection broke"),
        ("http", b"HTTP/1.0 500\r\n\r\n", "refuses with 500"),
        ("http", b"HTTP/1.0 200 OK\r\nContent-Type: video/x\r\n\r\n", "check that it is a video"),
        ("http", b"RTSP/1.0 200 OK\r\n\r\n", "does not speak HTTP"),
        (
            "http",
            b"HTTP/1.1 401\r\nWWW-Authenticate: Digest nonce=1, algorithm=MD9\r\n\r\n",
            "user or password",
        ),
        ("http", b"HTTP/1.1 401\r\nWWW-Authenticate: Digest \xff,=,\r\n\r\n", "user or password"),
    ],
)
def test_whatever_a_camera_answers_is_explained(scheme: str, answer: bytes, words: str) -> None:
    for port in answering(answer):
        url = f"{scheme}://{USER}:secret@127.0.0.1:{port}/x"
        error = why_not_open(url, f"{scheme}://***@127.0.0.1:{port}/x", 7.0)
    assert re.search(words, str(error)), error
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_is_answered_as_there(
    algorithm: str, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    monkeypatch.setattr("secrets.token_hex", lambda count: once)
    questions: list[bytes] = []
    challenge = (
        'Digest realm="http-auth@example.org", qop="auth, auth-int", '
        f'algorithm={algorithm}, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
        'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    for port in answering(f"HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\n\r\n".encode(), questions):
        why_not_open(f"http://Mufasa:Circle%20of%20Life@127.0.0.1:{port}/dir/index.html", "it", None)
    assert b"Authorization" not in questions[0]
    header = re.search(r"Authorization: Digest (.*)\r\n", questions[1].decode())
    assert header is not None
    for part in (f'response="{response}"', 'username="Mufasa"', "qop=auth", "nc=00000001", 'opaque="FQhe/'):
        assert part in header[1]


def test_it_says_so_when_it_is_not_open(mjpeg_server: Server) -> None:
    source = camera(mjpeg_server.url())
    source.close()
    with pytest.raises(CameraError, match="is not open"):
        source.read()
    source.open()
    source.close()
    source.close()
    with pytest.raises(CameraError, match="is not open"):
        source.read()


def test_closing_waits_for_a_read_that_is_under_way(mjpeg_server: Server) -> None:
    source = camera(mjpeg_server.url())
    source.open()
    seen = threading.Event()
    errors: list[CameraError] = []

    def read_on() -> None:
        try:
            while True:
                source.read().release()
                seen.set()
        except CameraError as error:
            errors.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    assert seen.wait(30)
    source.close()
    thread.join(30)
    assert "is not open" in str(errors[0])


@MAKERS
def test_nothing_is_left_open(make: Callable[..., Server]) -> None:
    with make() as server:
        source = camera(server.url())
        counts = []
        for _ in range(4):
            source.open()
            source.read().release()
            source.close()
            failure(server.url("/nothing"))
            counts.append((len(os.listdir("/proc/self/fd")), threading.active_count()))  # noqa: PTH208
    assert counts[1] == counts[3]
