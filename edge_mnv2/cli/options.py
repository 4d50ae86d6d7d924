"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_mnv2.detector import DetectorOptions

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Name from `models list`, or the path of a weights file (.npz)."),
]
Engine = Annotated[str | None, typer.Option("--engine", "-e", help="auto or onnxruntime.")]
Precision = Annotated[str | None, typer.Option("--precision", "-p", help="auto or fp32.")]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=256, help="CPU threads. Left out: as many as make sense."),
]
Threshold = Annotated[
    float | None,
    typer.Option("--threshold", "-t", help="Smallest score reported, between 0 and 1."),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", "-c", help="Labels or numbers of the classes to report: person,bicycle"),
]
Mirror = Annotated[
    Path | None,
    typer.Option("--mirror", help="Folder that holds the package, for devices without network."),
]


def detector_options(
    engine: str | None,
    precision: str | None,
    threads: int | None,
    threshold: float | None,
    classes: str | None = None,
) -> DetectorOptions:
    """Return the options that were given, and the defaults of those that were not."""
    from edge_mnv2.detector import DetectorOptions

    default = DetectorOptions()
    return DetectorOptions(
        engine=default.engine if engine is None else engine,
        precision=default.precision if precision is None else precision,
        threads=threads,
        threshold=default.threshold if threshold is None else threshold,
        classes=None if classes is None else classes.split(","),
    )
