"""A real RTSP server on loopback for tests. Run it with the system's Python, which has GStreamer's bindings.

It prints `ready PORT`. The stream is `/cam`; everything else is answered with 404.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

_ENCODERS = {
    "x264enc": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=2000",
    "openh264enc": "openh264enc gop-size=15 bitrate=2000000 ! h264parse",
    "avenc_mpeg4": "avenc_mpeg4 gop-size=15 bitrate=2000000",
}
_ROLE = "viewer"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="0", help="0: a free one")
    parser.add_argument("--size", default="640x480")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--basic", action="store_true", help="ask for basic instead of digest authentication")
    parser.add_argument("--pattern", default="ball")
    parser.add_argument("--clock", action="store_true", help="show the time in centiseconds, as 16 blocks")
    parser.add_argument("--certificate", help="with its key, for rtsps")
    arguments = parser.parse_args()
    # No test leaves a server behind, however it ends.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_shared(True)
    factory.set_launch(_pipeline(arguments.size, arguments.fps, arguments.pattern, clock=arguments.clock))
    if arguments.clock:
        factory.connect("media-configure", _show_the_time, arguments.size, arguments.fps)
    auth = GstRtspServer.RTSPAuth() if arguments.user or arguments.certificate else None
    server.set_auth(auth)
    if arguments.certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(arguments.certificate))
    if arguments.user:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", _ROLE)
        if arguments.basic:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(arguments.user, arguments.password, token)
        role = f"{_ROLE}, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        factory.add_role_from_structure(Gst.Structure.from_string(role)[0])
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        raise SystemExit(f"port {arguments.port} is in use")
    print("ready", server.get_bound_port(), flush=True)  # noqa: T201 - for the test that waits
    GLib.MainLoop().run()


def _show_the_time(_factory: object, media: object, size: str, fps: int) -> None:
    """Feed pictures as `mjpeg_server.draw` makes them, each when it is due."""
    width, height = map(int, size.split("x"))
    source = media.get_element().get_child_by_name("pictures")  # type: ignore[attr-defined]

    def push() -> bool:
        number = time.monotonic_ns() // 10_000_000 % 65536
        row = b"".join((b"\xeb" if number >> bit & 1 else b"\x10") * (width // 16) for bit in range(16))
        luma = row * (height // 4) + b"\x60" * (width * (height - height // 4))
        picture = luma + b"\x80" * (width * height // 2)
        return source.emit("push-buffer", Gst.Buffer.new_wrapped(picture)) == Gst.FlowReturn.OK

    GLib.timeout_add(1000 // fps, push)


def _pipeline(size: str, fps: int, pattern: str, *, clock: bool) -> str:
    width, height = size.split("x")
    encoder = next((name for name in _ENCODERS if Gst.ElementFactory.find(name)), None)
    if encoder is None:
        raise SystemExit("no encoder: sudo apt-get install gstreamer1.0-plugins-ugly (x264enc)")
    pay = "rtpmp4vpay" if encoder == "avenc_mpeg4" else "rtph264pay"
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    source = f"videotestsrc is-live=true pattern={pattern} ! {caps}"
    if clock:
        source = f"appsrc name=pictures is-live=true do-timestamp=true format=time caps={caps}"
    return f"( {source} ! {_ENCODERS[encoder]} ! {pay} name=pay0 pt=96 config-interval=1 )"


if __name__ == "__main__":
    main()
