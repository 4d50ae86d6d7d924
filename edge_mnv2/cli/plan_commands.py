"""`edge-mnv2 models compare|prune`, and what `models build` and `list` do for TensorRT plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_mnv2.cli import options
from edge_mnv2.cli.console import make_console, plan_progress, print_error, progress
from edge_mnv2.cli.figures import figures_table
from edge_mnv2.cli.models_commands import Name

if TYPE_CHECKING:
    import threading

    from rich.table import Table

    from edge_mnv2.backends import Opened
    from edge_mnv2.parity import Parity
    from edge_mnv2.zoo.model import Model


def compare(
    context: typer.Context,
    name: Name,
    backends: Annotated[
        str,
        typer.Option(
            "--backends",
            help="Two of onnxruntime and tensorrt; the first is the reference. A precision may follow each: "
            "onnxruntime:fp32,tensorrt:int8.",
        ),
    ],
    images: Annotated[Path, typer.Option("--images", help="Folder with pictures.")],
    dla: options.Dla = None,
    input_size: options.InputSize = None,
    output_stride: options.OutputStride = None,
) -> int:
    """Compare two backends on the same pictures: each output, what is reported, and the times.

    Example: edge-mnv2 models compare ssdlite-mnv2-coco --backends onnxruntime,tensorrt --images photos
    """
    from camera.pictures import list_pictures, read_picture
    from edge_mnv2.errors import RequestError
    from edge_mnv2.parity import MAX_OUTPUT_ERROR, compare_engines
    from edge_mnv2.zoo.model import load_model

    if not images.is_dir():
        raise RequestError(f"There is no folder {images}: check the path given with --images.")
    pictures = list_pictures(images)
    pair = [parse_backend(word) for word in backends.split(",")]
    if len(pair) != 2:
        raise RequestError(f"--backends takes two, such as onnxruntime,tensorrt, not {backends!r}.")
    if dla is not None and all(backend == "onnxruntime" for backend, _ in pair):
        raise RequestError("--dla is TensorRT's: leave it out, or compare with tensorrt.")
    model = load_model(name, options.variant(input_size, output_stride))
    with context.obj.at_once():
        opened = []
        try:
            for number, (backend, precision) in enumerate(pair):
                opened.append(
                    _open(model, backend, precision, context.obj.event, dla, is_reference=number == 0)
                )
            with progress("pictures") as on_picture:
                found = compare_engines(
                    model,
                    opened[0].engine,
                    opened[1].engine,
                    max((each.precision for each in opened), key=lambda one: MAX_OUTPUT_ERROR[one]),
                    map(read_picture, pictures),
                    lambda done: on_picture(done, len(pictures)),
                )
        finally:
            for each in opened:
                each.engine.close()
    titles = [f"{each.engine.backend} {each.precision}" for each in opened]
    _print_parity(model, titles, found)
    failures = (*found.failures, *found.disagreements)
    for failure in failures:
        print_error(f"{model.name}, {titles[1]} beside {titles[0]}: {failure}")
    return 1 if failures else 0


def parse_backend(word: str) -> tuple[str, str | None]:
    """Return backend and precision of `tensorrt:fp16`; None where no precision is said.

    Raises:
        RequestError: One of them does not exist.
    """
    from edge_mnv2.errors import RequestError
    from edge_mnv2.zoo.accuracy_record import check_precision

    backend, colon, precision = word.strip().partition(":")
    if backend not in ("onnxruntime", "tensorrt"):
        raise RequestError(f"There is no backend {backend!r} to compare: choose onnxruntime or tensorrt.")
    if colon:
        check_precision(precision)
    return backend, precision if colon else None


def build_plan(model: Model, precision: str | None, dla: int | None, cancel: threading.Event) -> None:
    """Build a model's TensorRT plan anew, check it, and say where it is.

    Raises:
        BackendUnavailableError: TensorRT cannot run here.
        EngineError, RunError: It cannot be built, or disagrees with ONNX Runtime.
    """
    from edge_mnv2.backends import PlanOptions, open_tensorrt
    from engines.tensorrt.probe import probe, require

    found = probe()
    require(found)
    with plan_progress() as on_progress:
        opened = open_tensorrt(
            model,
            found,
            PlanOptions(
                precision or "auto", False, dla, rebuild=True, on_progress=on_progress, cancel=cancel
            ),
        )
    opened.engine.close()
    if opened.plan is not None:
        typer.echo(opened.plan.path)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted.")] = False,
) -> None:
    """Delete what nothing uses any more: plans of another TensorRT, device or system, and old graphs."""
    from edge_mnv2.zoo.cache import plans_dir
    from edge_mnv2.zoo.graph_store import prune_graphs
    from engines.tensorrt.plan_pruning import prune_plans
    from engines.tensorrt.probe import probe

    stale = [(file.path, file.size_bytes) for file in prune_plans(plans_dir(), probe(), dry_run=dry_run)]
    stale += prune_graphs(dry_run=dry_run)
    for path, _ in stale:
        typer.echo(path)
    size_mb = sum(size_bytes for _, size_bytes in stale) / 1e6
    what = "would be deleted" if dry_run else "deleted"
    typer.echo(f"{len(stale)} files, {size_mb:.1f} MB {what}.", err=True)


def plans_table() -> Table | None:
    """Return the TensorRT plans in the cache, None where there are none."""
    from rich.table import Table

    from edge_mnv2.zoo.cache import plans_dir
    from engines.tensorrt.plan_cache import list_plans
    from engines.tensorrt.plan_key import belongs_here
    from engines.tensorrt.probe import probe

    plans = list_plans(plans_dir())
    if not plans:
        return None
    found = probe()
    headings = ("model", "precision", "input", "built for", "built", "size", "check")
    table = Table(*headings, title="TensorRT plans", title_justify="left")
    for plan in plans:
        key = plan.key
        # Where TensorRT cannot be asked, nobody knows.
        is_stale = found.missing is None and not belongs_here(key, found)
        state = " (stale)" if is_stale else ""
        checked = "not yet" if plan.check is None else "failed" if plan.check.failures else "good"
        table.add_row(
            key.model,
            key.precision if key.flags == "gpu" else f"{key.precision}, {key.flags}",
            key.shapes,
            f"TensorRT {key.tensorrt}, {key.device}{state}",
            f"{plan.build.get('built_at', '-')}, {plan.build.get('seconds', '-')} s",
            f"{plan.size_bytes / 1e6:.1f} MB",
            checked,
        )
    return table


def _open(
    model: Model,
    backend: str,
    precision: str | None,
    cancel: threading.Event,
    dla: int | None,
    *,
    is_reference: bool,
) -> Opened:
    from edge_mnv2.backends import Opened, PlanOptions, open_onnx, open_tensorrt
    from edge_mnv2.zoo.accuracy_record import choose_precision
    from engines.tensorrt.probe import probe, require

    if backend == "onnxruntime":
        chosen = choose_precision(model, precision or "fp32", force=True)
        return Opened(open_onnx(model, chosen), chosen)
    found = probe()
    require(found)
    # What disagrees is what this command is to show: no plan is refused.
    # A DLA has no float32.
    wanted = precision or ("fp32" if is_reference and dla is None else "auto")
    with plan_progress() as on_progress:
        return open_tensorrt(
            model, found, PlanOptions(wanted, True, dla, on_progress=on_progress, cancel=cancel)
        )


def _print_parity(model: Model, titles: list[str], found: Parity) -> None:
    import math

    import numpy as np
    from rich.table import Table

    reference, candidate = titles
    outputs = Table("output", "relative RMS error", "largest difference")
    for name, error in found.outputs.items():
        if math.isfinite(error.relative):
            outputs.add_row(name, f"{error.relative:.3%}", f"{error.largest:.4g}")
        else:
            outputs.add_row(name, "not finite", "-")
    figures = figures_table(model.task, found.figures)
    times = Table("ms per picture", "p50", "p95")
    for each, durations_ms in ((reference, found.reference_ms), (candidate, found.candidate_ms)):
        times.add_row(each, *(f"{value:.2f}" for value in np.percentile(durations_ms, (50, 95))))
    console = make_console()
    title = f"{model.name}, {candidate} beside {reference}, {found.images} pictures"
    console.print(title, soft_wrap=True)  # over a table it would be as narrow as that
    for table in (outputs, figures, times) if found.figures else (outputs, times):
        console.print(table)
