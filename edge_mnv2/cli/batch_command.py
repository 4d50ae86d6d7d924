"""`edge-mnv2 batch`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import progress
from edge_mnv2.cli.run_commands import finish, open_and_wait


class Format(str, Enum):
    """How results are written."""

    jsonl = "jsonl"
    coco = "coco"
    csv = "csv"


def batch(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Pictures, folders, globs, videos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
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
    annotate: Annotated[
        bool,
        typer.Option("--annotate", help="Write annotated pictures too, into OUTPUT/annotated."),
    ] = False,
    file_format: Annotated[
        Format,
        typer.Option("--format", "-f", help="detections.jsonl, COCO results (.json), or .csv"),
    ] = Format.jsonl,
) -> int:
    """Detect, segment or classify many files. Nothing is lost: a bad picture is reported, the rest goes on.

    Example: edge-mnv2 batch photos/ --output out --annotate
    """
    from edge_mnv2.batch import run_batch
    from edge_mnv2.errors import RunError
    from edge_mnv2.pipeline import RunControl
    from edge_mnv2.zoo.catalogue import DEFAULT_MODEL

    predictor = open_and_wait(
        DEFAULT_MODEL if model is None else model,
        options.predictor(
            engine,
            precision,
            force,
            threads,
            dla,
            options.variant(input_size, output_stride),
            options.decoder(threshold, classes, top_k, masks),
        ),
        context.obj.event,
    )
    try:
        with progress("frames") as on_frame:
            summary = run_batch(
                inputs,
                output,
                predictor,
                RunControl(context.obj.event, on_frame=on_frame),
                file_format=file_format.value,
                annotate=annotate,
                masks=bool(masks),
            )
    finally:
        predictor.close()
    code = finish(summary)
    if summary.interrupted:
        raise RunError(f"Interrupted after {summary.frames} frames; what is written is complete up to there.")
    return code
