"""Fixtures of all tests of cameras."""

from tests.camera.servers import mjpeg_server, rtsp_server

__all__ = ["mjpeg_server", "rtsp_server"]
