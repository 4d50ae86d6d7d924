"""`edge-mnv2 eval` and `edge-mnv2 doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, print_error, progress


def evaluate(
    context: typer.Context,
    images: Annotated[Path, typer.Option("--images", help="Folder of the pictures.")],
    annotations: Annotated[Path, typer.Option("--annotations", help="COCO instances file.")],
    model: options.Model = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Measure COCO mAP on pictures with known objects, through the same code that a live run uses."""
    import dataclasses
    import json

    from rich.table import Table

    from edge_mnv2.detector import open_detector
    from edge_mnv2.errors import OutputPathError
    from edge_mnv2.evaluate import SCORE_THRESHOLD, evaluate_detector
    from edge_mnv2.files import write_atomically
    from edge_mnv2.zoo.catalogue import DEFAULT_MODEL

    if json_file is not None and json_file.resolve() == annotations.resolve():
        raise OutputPathError(f"{json_file} holds the annotations: choose another path.")
    detector = open_detector(
        DEFAULT_MODEL if model is None else model,
        options.detector_options(engine, precision, threads, SCORE_THRESHOLD),
    )
    try:
        with context.obj.at_once(), progress("pictures") as on_picture:
            accuracy = evaluate_detector(detector, images, annotations, on_picture)
    finally:
        detector.close()
    figures = dataclasses.asdict(accuracy)
    table = Table(title=f"{detector.name} on {images}", title_justify="left", show_header=False)
    for key, value in figures.items():
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
    make_console().print(table)
    if json_file is not None:
        try:
            write_atomically(json_file, (json.dumps(figures, indent=2) + "\n").encode())
        except OSError as error:
            raise OutputPathError(f"{json_file} cannot be written: {error.strerror}.") from error


def doctor() -> int:
    """Show versions, processor and models; name what is missing and the command that mends it."""
    from rich.table import Table
    from rich.text import Text

    from edge_mnv2.doctor import examine

    findings = examine()
    table = Table("what", "state", "found")
    colours = {"ok": "green", "missing": "red", "optional": "yellow"}
    for finding in findings:
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(finding.subject, state, finding.detail)
    make_console().print(table)
    for finding in findings:
        if finding.remedy:  # outside the table: a command is copied, not wrapped
            typer.echo(f"{finding.subject}: {finding.remedy}")
    missing = [finding.subject for finding in findings if finding.state == "missing"]
    if missing:
        print_error(f"missing: {', '.join(missing)}. Run the commands above.")
    return 1 if missing else 0
