"""`edge-mnv2 models build|calibrate|check`: from weights to a graph whose accuracy is known."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, print_error, progress
from edge_mnv2.cli.figures import figures_table
from edge_mnv2.cli.models_commands import Name
from edge_mnv2.cli.plan_commands import build_plan

if TYPE_CHECKING:
    from edge_mnv2.networks import quantise
    from edge_mnv2.zoo.architectures import Spec
    from edge_mnv2.zoo.graph_store import Precision

Images = Annotated[Path, typer.Option("--images", help="Folder with pictures like those of the model's use.")]


class Engine(str, Enum):
    """What a build is for."""

    onnxruntime = "onnxruntime"
    tensorrt = "tensorrt"


class Flavour(str, Enum):
    """How int8 is laid out."""

    asymmetric = "asymmetric"
    symmetric = "symmetric"


def build(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Model name, path of a .npz, or ssdlite, deeplabv3, classifier: untrained, of any width.",
        ),
    ],
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            "-p",
            help="fp32, fp16 (for TensorRT) or int8. Left out: fp32; of a plan, what suits the device.",
        ),
    ] = None,
    engine: Annotated[
        Engine,
        typer.Option("--engine", "-e", help="onnxruntime: an ONNX graph; tensorrt: a plan for this device."),
    ] = Engine.onnxruntime,
    flavour: Annotated[
        Flavour | None,
        typer.Option(
            "--flavour",
            help="Of int8: asymmetric (as left out) for ONNX Runtime, symmetric for TensorRT.",
        ),
    ] = None,
    dla: options.Dla = None,
    width: Annotated[
        float | None, typer.Option("--width", help="Width multiplier of an untrained network: 0.1 to 4.")
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", help="Classes of an untrained network, without the background.")
    ] = None,
    input_size: options.InputSize = None,
    output_stride: options.OutputStride = None,
    split: Annotated[
        int,
        typer.Option(
            "--split",
            min=1,
            max=64,
            help="Compute each block as a sum over so many groups of channels: less memory (section 5.1).",
        ),
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the ONNX file here, not into the cache."),
    ] = None,
) -> None:
    """Build a model's ONNX graph, or its TensorRT plan. `run` does it by itself on first use.

    Example: edge-mnv2 models build classifier --width 0.5 --input-size 160 --output small.onnx
    """
    from edge_mnv2.errors import OutputPathError, RequestError
    from edge_mnv2.zoo.architectures import architecture_named
    from edge_mnv2.zoo.graph_store import build_graph, build_untrained, ensure_graph, to_precision
    from edge_mnv2.zoo.model import load_model, untrained_spec, vary

    if engine is Engine.tensorrt:
        if split > 1 or any(option is not None for option in (output, width, classes, flavour)):
            raise RequestError(
                "A TensorRT plan belongs to this device and a trained model: of the options, only "
                "--precision, --dla, --input-size and --output-stride apply."
            )
        variant = options.variant(input_size, output_stride)
        build_plan(load_model(name, variant), precision, dla, context.obj.event)
        return
    if dla is not None:
        raise RequestError("--dla is for a TensorRT plan: add --engine tensorrt.")
    wanted = to_precision(precision or "fp32")
    layout = _layout(flavour, wanted)
    if wanted == "int8" and split > 1:
        raise RequestError("--split is for fp32: the activation ranges for int8 are those of whole blocks.")
    variant = options.variant(input_size, output_stride)
    architecture = architecture_named(name)
    if architecture is not None:
        if wanted == "int8":
            raise RequestError("An untrained network has no activation ranges for int8: build it in fp32.")
        spec = vary(untrained_spec(architecture, width, classes), variant)
        serialised = build_untrained(spec, split, wanted)
    else:
        if width is not None or classes is not None:
            raise RequestError(
                f"The weights of {name} have a width and classes of their own. Without weights: edge-mnv2 "
                "models build ssdlite, deeplabv3 or classifier."
            )
        model = load_model(name, variant)
        spec = model.spec
        if output is None and split == 1:
            typer.echo(ensure_graph(model, wanted, layout, rebuild=True))
            return
        if output is not None and output.resolve() == model.path.resolve():
            raise OutputPathError(f"{output} is {model.path}, the weights themselves: choose another path.")
        serialised = build_graph(model, wanted, layout, split)
    if output is None:
        raise RequestError("Such a graph is not kept in the cache: say where to write it with --output.")
    _write(output, serialised)
    typer.echo(output)
    if split > 1:
        _print_memory(spec, split, output)


def calibrate(
    context: typer.Context,
    name: Name,
    images: Images,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the ranges to this file (.ranges.npz), not into the cache."
        ),
    ] = None,
) -> None:
    """Find a model's activation ranges for int8 on pictures, once; the best of four methods is kept."""
    from rich.table import Table

    from edge_mnv2.calibrate import calibrate as find_ranges
    from edge_mnv2.errors import RequestError
    from edge_mnv2.zoo.cache import calibrated_ranges
    from edge_mnv2.zoo.model import load_model
    from edge_mnv2.zoo.ranges_file import SUFFIX, beside, save_ranges

    if output is not None and not output.name.endswith(SUFFIX):
        raise RequestError(f"{output}: a file of ranges must end in {SUFFIX}.")
    model = load_model(name)
    pictures = _pictures(images)
    with context.obj.at_once(), progress("steps") as on_step:
        ranges = find_ranges(model, pictures, on_step)
    table = Table("method", "agreement with float32", title=f"{model.name} in int8", title_justify="left")
    for row in ranges.compared:
        table.add_row(row.method, f"{row.agreement:.4f}")
    make_console().print(table)
    path = output or calibrated_ranges(model.name, model.weights.digest)
    save_ranges(path, ranges)
    if output is None:
        then = f"Now: edge-mnv2 models check {name} --images DIR. Without this file, the ranges are as before"
    else:
        then = f"It is used where it lies beside the weights, as {beside(model.path).name}"
    typer.echo(f"{ranges.method} is kept: {path}. {then}.")


def check(
    context: typer.Context,
    name: Name,
    images: Images,
    precision: Annotated[str, typer.Option("--precision", "-p", help="int8.")] = "int8",
    input_size: options.InputSize = None,
    output_stride: options.OutputStride = None,
) -> int:
    """Compare a model's int8 build with float32 on pictures without labels, and keep the verdict.

    `run` refuses a build that fails, and takes one that is good where the precision is left to it.
    """
    from edge_mnv2.agreement import MIN_EVIDENCE, check_int8, evidence
    from edge_mnv2.errors import RequestError
    from edge_mnv2.zoo.accuracy_record import save_record
    from edge_mnv2.zoo.model import load_model

    if precision != "int8":
        raise RequestError(
            f"float32 is what int8 is compared with: choose --precision int8, not {precision!r}."
        )
    model = load_model(name, options.variant(input_size, output_stride))
    pictures = _pictures(images)
    with context.obj.at_once(), progress("pictures") as on_picture:
        record = check_int8(model, pictures, on_picture)
    table = figures_table(model.task, record.figures, title=f"{model.name}, int8 beside float32")
    make_console().print(table)
    for failure in record.failures:
        print_error(f"{model.name}, int8: {failure}")
    compared = evidence(model.task, record)
    if record.failures or compared >= MIN_EVIDENCE:
        typer.echo(f"The verdict on {record.images} pictures is kept in {save_record(model, record)}")
    else:
        what = "boxes" if model.task == "detect" else "pictures that show something"
        few = f"No verdict is kept: it takes {MIN_EVIDENCE} {what} to call a build good, not {compared}."
        typer.echo(few, err=True)
    return 1 if record.failures else 0


def _layout(flavour: Flavour | None, precision: Precision) -> quantise.Flavour:
    from edge_mnv2.errors import RequestError

    if flavour is not None and precision != "int8":
        raise RequestError(f"--flavour is of int8: {precision} has only one.")
    return "symmetric" if flavour is Flavour.symmetric else "asymmetric"


def _pictures(folder: Path) -> list[Path]:
    from camera.pictures import list_pictures
    from edge_mnv2.errors import RequestError

    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder}: check the path given with --images.")
    return list_pictures(folder)


def _write(path: Path, content: bytes) -> None:
    from edge_mnv2.errors import OutputPathError
    from edge_mnv2.files import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        raise OutputPathError(f"{path} cannot be written: {error.strerror}.") from error


def _print_memory(spec: Spec, split: int, built: Path) -> None:
    """Print the peak activation memory of the whole network and of the split one, counted and measured."""
    from tempfile import TemporaryDirectory

    from rich.table import Table

    from edge_mnv2.zoo.graph_store import build_untrained
    from edge_mnv2.zoo.paper import row_of
    from engines.onnx_memory import measure_inference_bytes

    table = Table("", "counted", "measured", title="Peak activation memory", title_justify="left")
    with TemporaryDirectory(prefix="edge-mnv2-") as folder:
        whole = Path(folder) / "whole.onnx"
        _write(whole, build_untrained(spec))
        for title, path, groups in (("whole", whole, 1), (f"split by {split}", built, split)):
            measured = measure_inference_bytes(path)
            table.add_row(
                title,
                f"{row_of(spec, groups).peak_bytes / 2**20:.2f} MiB",
                "-" if measured is None else f"{measured / 2**20:.2f} MiB",
            )
    make_console().print(table)
