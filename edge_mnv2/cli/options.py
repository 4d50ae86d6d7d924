"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_mnv2.predictor import PredictorOptions
    from edge_mnv2.zoo.model import DecoderOptions, Variant

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name from `models list`, or the path of a weights file (.npz)."),
]
Engine = Annotated[str | None, typer.Option("--engine", "-e", help="auto, onnxruntime or tensorrt.")]
Precision = Annotated[
    str | None,
    typer.Option("--precision", "-p", help="auto (the best of the engine), fp32, fp16 or int8."),
]
Force = Annotated[
    bool | None,
    typer.Option("--force", help="Run a build although its accuracy check failed."),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, help="CPU threads. Left out: as many as make sense."),
]
Dla = Annotated[
    int | None,
    typer.Option("--dla", min=0, max=7, help="DLA core of a Jetson that takes the layers it can (TensorRT)."),
]
InputSize = Annotated[
    str | None,
    typer.Option("--input-size", metavar="WxH", help="Run the network at another size than its own."),
]
OutputStride = Annotated[
    int | None,
    typer.Option("--output-stride", help="Of a segmentation: 8 (finer), 16 or 32 (faster)."),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        "-t",
        help="Smallest score reported, between 0 and 1. Left out: 0.5 in detection, else none.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", "-c", help="Labels or numbers of the classes to report: person,bicycle"),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", min=1, max=1000, help="Most classes that a classification reports.")
]
Masks = Annotated[
    bool | None,
    typer.Option("--masks", help="Segment at the frame's own resolution; records carry COCO RLE masks."),
]
Mirror = Annotated[
    Path | None,
    typer.Option("--mirror", help="Folder that holds the package, for devices without network."),
]


def variant(input_size: str | None, output_stride: int | None) -> Variant:
    """Return the variant that was asked for."""
    from edge_mnv2.zoo.model import Variant, parse_size

    return Variant(None if input_size is None else parse_size(input_size), output_stride)


def decoder(
    threshold: float | None, classes: str | None, top_k: int | None, masks: bool | None
) -> DecoderOptions:
    """Return what is to be reported: what was given, and the defaults of the rest."""
    from edge_mnv2.zoo.model import DecoderOptions

    return DecoderOptions(
        threshold=threshold,
        classes=None if classes is None else classes.split(","),
        top_k=top_k,
        masks=bool(masks),
    )


def predictor(
    engine: str | None,
    precision: str | None,
    force: bool | None,
    threads: int | None,
    dla: int | None,
    variant: Variant,
    decoder: DecoderOptions,
) -> PredictorOptions:
    """Return how to run the model: what was given, and the defaults of the rest."""
    from edge_mnv2.predictor import PredictorOptions

    default = PredictorOptions()
    return PredictorOptions(
        engine=default.engine if engine is None else engine,
        precision=default.precision if precision is None else precision,
        force=bool(force),
        threads=threads,
        dla_core=dla,
        variant=variant,
        decoder=decoder,
    )
