"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
