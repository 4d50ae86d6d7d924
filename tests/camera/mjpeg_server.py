"""An MJPEG server on loopback for tests, in a process of its own, so that it can be frozen and killed.

It prints `ready PORT`. Paths: `/cam` streams for ever, `/ends` ends after ten pictures, `/still.jpg` is one
picture, `/page.html` a page, `/clip.mp4` the file given, `/loop` its frames over and over; everything else is
answered with 404. `/logins` says to everybody how often somebody gave a password.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import itertools
import re
import signal
import ssl
import time
from collections.abc import Iterable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket

import cv2
import numpy as np
from numpy.typing import NDArray

_PR_SET_PDEATHSIG = 1  # prctl(2)
_BITS = 16
_ENDS_AFTER = 10


def draw(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a grey picture of (width, height) with its number in 16 black or white blocks along its top."""
    width, height = size
    image = np.full((height, width, 3), 90 + number % 60, np.uint8)
    block = width // _BITS
    for bit in range(_BITS):
        image[: height // 4, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """Return the number that `draw` put into a picture, compressed or not."""
    height, width = image.shape[:2]
    block = width // _BITS
    row = image[height // 8, block // 2 :: block, 1][:_BITS]
    return sum(int(value > 127) << bit for bit, value in enumerate(row))


class Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    def __init__(
        self,
        options: argparse.Namespace,
        request: socket,
        client: tuple[str, int],
        server: ThreadingHTTPServer,
    ) -> None:
        self.options = options
        super().__init__(request, client, server)

    def do_GET(self) -> None:
        options = self.options
        path = self.path.partition("?")[0]
        if path == "/logins":
            self.send_whole("text/plain", str(len(options.logins)).encode())
            return
        if "Authorization" in self.headers:
            options.logins.append(self.path)
        if options.user and not self.is_welcome():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif path == "/cam":
            self.stream(itertools.count())
        elif path == "/ends":
            self.stream(range(_ENDS_AFTER))
        elif path == "/loop" and options.file:
            self.send_parts(looped(options.file))
        elif path == "/still.jpg":
            self.send_whole("image/jpeg", encode(7, options.size))
        elif path == "/page.html":
            self.send_whole("text/html", b"<!doctype html><title>A camera</title><p>Log in.")
        elif path == "/clip.mp4" and options.file:
            self.send_whole("video/mp4", Path(options.file).read_bytes())
        else:
            self.send_error(404)

    def is_welcome(self) -> bool:
        known = base64.b64encode(f"{self.options.user}:{self.options.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {known}"

    def send_whole(self, kind: str, body: bytes) -> None:
        # FFmpeg reads the index at the end of a video first.
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self.send_response(200)
        else:
            first, last = int(wanted[1]), int(wanted[2] or len(body) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            body = body[first : last + 1]
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, numbers: Iterable[int]) -> None:
        self.send_parts(map(self.picture, numbers))

    def picture(self, number: int) -> bytes:
        options = self.options
        if options.damage and number % options.damage == options.damage - 1:
            return b"\xff\xd8 this is no picture \xff\xd9"
        is_other = options.then_size and number >= options.after
        shown = time.monotonic_ns() // 10_000_000 % 65536 if options.clock else number
        return encode(shown, options.then_size if is_other else options.size)

    def send_parts(self, pictures: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        start = time.monotonic()
        for number, jpeg in enumerate(pictures):
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(max(0.0, start + (number + 1) / self.options.fps - time.monotonic()))

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""


def encode(number: int, size: tuple[int, int]) -> bytes:
    """Return one picture as a JPEG."""
    return cv2.imencode(".jpg", draw(number, size))[1].tobytes()


def looped(file: str) -> Iterator[bytes]:
    """Yield the frames of a video as JPEG, over and over."""
    while True:
        video = cv2.VideoCapture(file)
        while (found := video.read())[0]:
            yield cv2.imencode(".jpg", found[1])[1].tobytes()
        video.release()


def parse_size(text: str) -> tuple[int, int]:
    """Return `WIDTHxHEIGHT` as two numbers."""
    width, height = text.split("x")
    return int(width), int(height)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--size", type=parse_size, default=(640, 480))
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--then-size", type=parse_size, help="the size from picture --after on")
    parser.add_argument("--after", type=int, default=0)
    parser.add_argument("--clock", action="store_true", help="show the time in centiseconds instead")
    parser.add_argument("--damage", type=int, help="every so many pictures one cannot be decoded")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--file", help="what /clip.mp4 is, and /loop shows")
    parser.add_argument("--certificate", help="with its key, for https")
    arguments = parser.parse_args()
    arguments.logins = []
    # No test leaves a server behind, however it ends.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), partial(Handler, arguments))
    server.daemon_threads = True
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", server.server_port, flush=True)  # noqa: T201 - for the test that waits
    server.serve_forever()


if __name__ == "__main__":
    main()
