"""`edge-mnv2 eval` and `edge-mnv2 doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, print_error, progress
from edge_mnv2.cli.run_commands import open_and_wait


def evaluate(
    context: typer.Context,
    images: Annotated[Path, typer.Option("--images", help="Folder of the pictures.")],
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="COCO instances file, to measure a detection.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            help="Folder of PNG files named after the pictures, to measure a segmentation. Their pixels are "
            "class numbers, with a palette or in grey; 255 is left out.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="File of lines `picture number`, to measure a classification by the model's class numbers.",
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
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Measure accuracy on pictures with known content, through the same code that a live run uses.

    A detection is measured by COCO's mAP, a segmentation by its mean IoU over the classes that appear, a
    classification by top 1 and top 5.
    """
    import dataclasses
    import json

    from edge_mnv2.errors import OutputPathError
    from edge_mnv2.evaluation.tasks import Truth, choose_truth, decoder_options
    from edge_mnv2.evaluation.tasks import evaluate as measure
    from edge_mnv2.files import write_atomically
    from edge_mnv2.zoo.catalogue import DEFAULT_MODEL
    from edge_mnv2.zoo.model import load_model

    name = DEFAULT_MODEL if model is None else model
    variant = options.variant(input_size, output_stride)
    measured = load_model(name, variant)
    truth = choose_truth(measured, Truth(annotations, masks, labels))
    if json_file is not None:
        files = {"annotations": annotations, "labels": labels, "model": measured.path}
        _check_output(json_file, files, {"picture": images, "mask": masks})
    predictor = open_and_wait(
        name,
        options.predictor(engine, precision, force, threads, dla, variant, decoder_options(measured.task)),
        context.obj.event,
    )
    try:
        with context.obj.at_once(), progress("pictures") as on_picture:
            accuracy = measure(predictor, measured, images, truth, on_picture)
    finally:
        predictor.close()
    figures = dataclasses.asdict(accuracy)
    _print_figures(f"{predictor.name} on {images}", figures)
    if json_file is not None:
        try:
            write_atomically(json_file, (json.dumps(figures, indent=2) + "\n").encode())
        except OSError as error:
            raise OutputPathError(f"{json_file} cannot be written: {error.strerror}.") from error


def _check_output(path: Path, files: dict[str, Path | None], folders: dict[str, Path | None]) -> None:
    """Refuse an output that would overwrite what the evaluation reads.

    Args:
        path: Of the output.
        files: Inputs by what messages call them; None for what was not given.
        folders: The same for folders of pictures.

    Raises:
        OutputPathError: Naming the path.
    """
    from camera.pictures import is_picture
    from edge_mnv2.errors import OutputPathError

    target = path.resolve()
    for what, file in files.items():
        if file is not None and target == file.resolve():
            raise OutputPathError(f"{path} holds the {what}: choose another path.")
    for what, folder in folders.items():
        # COCO's file names may lead into folders below.
        inputs = [] if folder is None or not target.exists() else filter(is_picture, folder.rglob("*"))
        if any(target == file.resolve() for file in inputs):
            raise OutputPathError(f"{path} is a {what} that is read: choose another path.")


def _print_figures(title: str, figures: dict[str, Any]) -> None:
    """Print figures as a table; what has a figure for each class has a row for each that appears."""
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in figures.items():
        rows = (
            {f"{key} {name}": part for name, part in value.items()}
            if isinstance(value, dict)
            else {key: value}
        )
        for row, figure in rows.items():
            if figure is not None:
                table.add_row(row, f"{figure:.4f}" if isinstance(figure, float) else str(figure))
    console = make_console()
    console.print(title, soft_wrap=True)  # over the table it would be as narrow as that
    console.print(table)


def doctor(
    context: typer.Context,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Build, compare, time and stress the embedded models on every backend of this device; print "
            "a report to paste into an issue. On a Jetson it takes a quarter of an hour or more.",
        ),
    ] = False,
) -> int:
    """Show versions, processor and models; name what is missing and the command that mends it."""
    if self_test:
        return _self_test(context)
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


def _self_test(context: typer.Context) -> int:
    import faulthandler
    from contextlib import suppress

    from edge_mnv2.doctor import device_facts
    from edge_mnv2.self_test import report_checks, report_head, report_row, run_self_test
    from engines.tensorrt.probe import probe

    with suppress(OSError):  # where standard error is no file
        faulthandler.enable()  # a vendor's library may crash: where, belongs into the report
    # Piece by piece, so that what is known by then is there even so.
    typer.echo(report_head(device_facts()))
    with context.obj.at_once():
        result = run_self_test(probe(), context.obj.event, lambda build: typer.echo(report_row(build)))
    typer.echo(report_checks(result))
    for check in result.checks:
        if not check.passed:
            print_error(f"{check.name}: {check.detail}")
    return 0 if result.passed else 1
