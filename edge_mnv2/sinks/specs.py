"""How each sink of the command line is described before it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from camera.session_writer import SessionWriter
from edge_mnv2.settings import PipelineSettings
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.pictures import PicturesSink
from edge_mnv2.sinks.rotating_file import Rotation
from edge_mnv2.sinks.session import SessionTelemetry
from edge_mnv2.sinks.video import VideoSink, first_free
from edge_mnv2.sinks.window import WindowSink

# Records are small: a disk may take seconds over them before the first is lost. Masks are not.
_RECORDS_QUEUE, _MASKS_QUEUE = 128, 16


def video_spec(path: Path, fps: float | None, *, is_live: bool, keeps: bool = False) -> SinkSpec:
    """Describe an annotated video; see `sinks.video.VideoSink`.

    Args:
        path: The file.
        fps: Frame rate, None if unknown.
        is_live: Whether it runs at the pace of a camera.
        keeps: Whether an earlier run's video stays, and this one goes beside it.
    """
    return SinkSpec(
        name=f"video {path}",
        open=lambda attempt: VideoSink(
            path, fps, by_time=is_live, attempt=max(attempt, first_free(path)) if keeps else attempt
        ),
        wants_canvas=True,
        path=path,
    )


def jsonl_spec(
    path: Path, *, masks: bool = False, rotation: Rotation | None = None, is_live: bool = False
) -> SinkSpec:
    """Describe JSON lines; see `sinks.jsonl.JsonLinesSink`.

    Args:
        path: The file, or `-` for standard output.
        masks: Whether segments carry their masks.
        rotation: How the file outlives this run; None: it is this run's own.
        is_live: Whether the source goes on where a named pipe has no reader.
    """
    return SinkSpec(
        name=f"jsonl {path}",
        open=lambda attempt: JsonLinesSink(path, attempt, masks=masks, rotation=rotation, waits=not is_live),
        wants_canvas=False,
        path=None if str(path) == "-" else path,
        settings=(masks, rotation),
        queue_length=_MASKS_QUEUE if masks else _RECORDS_QUEUE,
    )


def jsonl_rotation(settings: PipelineSettings) -> Rotation | None:
    """Return how the settings let the JSON lines outlive a run, None where each run has its own."""
    size_mb, hours, keep_mb = settings.jsonl_rotate_mb, settings.jsonl_rotate_hours, settings.jsonl_keep_mb
    rotation = Rotation(
        None if size_mb is None else size_mb * 1_000_000,
        None if hours is None else hours * 3600,
        None if keep_mb is None else keep_mb * 1_000_000,
    )
    appends = settings.jsonl_append and str(settings.jsonl) != "-"
    return rotation if appends or rotation.is_on else None


def pictures_spec(folder: Path, *, numbered: bool, dated: bool = False) -> SinkSpec:
    """Describe annotated pictures; see `sinks.pictures.PicturesSink`."""
    return SinkSpec(
        name=f"pictures {folder}",
        open=lambda _: PicturesSink(folder, numbered=numbered, dated=dated),
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
