"""How each sink of the command line is described before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from camera.session_writer import SessionWriter
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.pictures import PicturesSink
from edge_mnv2.sinks.session import SessionTelemetry
from edge_mnv2.sinks.video import VideoSink
from edge_mnv2.sinks.window import WindowSink


def video_spec(path: Path, fps: float | None, *, is_live: bool) -> SinkSpec:
    """Describe an annotated video; see `sinks.video.VideoSink`."""
    return SinkSpec(
        name=f"video {path}",
        open=lambda attempt: VideoSink(path, fps, by_time=is_live, attempt=attempt),
        wants_canvas=True,
        path=path,
    )


def jsonl_spec(path: Path, *, masks: bool = False) -> SinkSpec:
    """Describe JSON lines; see `sinks.jsonl.JsonLinesSink`."""
    return SinkSpec(
        name=f"jsonl {path}",
        open=lambda attempt: JsonLinesSink(path, attempt, masks=masks),
        wants_canvas=False,
        path=None if str(path) == "-" else path,
    )


def pictures_spec(folder: Path, *, numbered: bool) -> SinkSpec:
    """Describe annotated pictures; see `sinks.pictures.PicturesSink`."""
    return SinkSpec(
        name=f"pictures {folder}",
        open=lambda _: PicturesSink(folder, numbered=numbered),
        wants_canvas=True,
        path=folder,
    )


def session_spec(writer: SessionWriter) -> SinkSpec:
    """Describe the readings of a session; see `sinks.session.SessionTelemetry`."""
    return SinkSpec(
        name=f"session {writer.path}", open=lambda _: SessionTelemetry(writer), wants_canvas=False
    )


def window_spec(source: str, on_quit: Callable[[], None], on_hud: Callable[[bool], None]) -> SinkSpec:
    """Describe a window; see `sinks.window.WindowSink`."""
    return SinkSpec(
        name=f"window {source}", open=lambda _: WindowSink(source, on_quit, on_hud), wants_canvas=True
    )
