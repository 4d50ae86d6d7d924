"""The terminal: messages, tables and progress."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_mnv2.cli.log_handler import is_journal, journal_prefix

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from edge_mnv2.run_summary import RunSummary
    from engines.tensorrt.build_process import BuildProgress

# Tables that are piped into a file or an issue keep their columns.
_PIPED_WIDTH = 160
_LOG_INTERVAL_S = 10.0
# A classification of a long video finds hundreds.
_MOST_LABELS = 30

OnDone = Callable[[int, int | None], None]

_log = logging.getLogger(__name__)


def print_error(message: str) -> None:
    """Print what went wrong, one line for each line of the message."""
    start = journal_prefix(logging.ERROR) if is_journal(sys.stderr, os.environ) else "edge-mnv2: "
    for line in message.splitlines():
        sys.stderr.write(f"{start}error: {line}\n")


def make_console(*, stderr: bool = False) -> Console:
    """Return a rich console on standard output or standard error."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, highlight=False, markup=False, width=None if stream.isatty() else _PIPED_WIDTH
    )


@contextmanager
def progress(unit: str) -> Iterator[OnDone]:
    """Yield a function that takes how many are done, and of how many (None if unknown).

    On a terminal it moves a bar, elsewhere it logs a line every 10 s.

    Args:
        unit: What is counted, such as `frames`.
    """
    with progress_of_each([""], unit) as each:
        yield each[""]


@contextmanager
def progress_of_each(names: Iterable[str], unit: str) -> Iterator[dict[str, OnDone]]:
    """Yield such a function for each of several that go on side by side, in threads of their own.

    Args:
        names: Of what goes on; one may be empty.
        unit: What is counted.
    """
    if not sys.stderr.isatty():
        yield {name: _log_now_and_then(f"{name}: " if name else "", unit) for name in names}
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
    with Progress(*columns, TimeRemainingColumn(), console=make_console(stderr=True), transient=True) as bar:

        def show_on(task: TaskID) -> OnDone:
            return lambda done, total: bar.update(
                task, completed=done, total=total, done=_in_words(done, total, unit)
            )

        yield {name: show_on(bar.add_task(name, total=None, done=unit)) for name in names}


def _log_now_and_then(prefix: str, unit: str) -> OnDone:
    last_s = time.monotonic()

    def log(done: int, total: int | None) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= _LOG_INTERVAL_S:
            last_s = time.monotonic()
            _log.info("%s%s", prefix, _in_words(done, total, unit))

    return log


def _in_words(done: int, total: int | None, unit: str) -> str:
    return f"{done}{'' if total is None else f' of {total}'} {unit}"


@contextmanager
def plan_progress() -> Iterator[Callable[[BuildProgress], None]]:
    """Yield a function that shows how far the build of a TensorRT plan is: by a bar, or in the log."""
    from edge_mnv2.backends import log_progress

    if not sys.stderr.isatty():
        yield log_progress()
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=make_console(stderr=True), transient=True)
    task = bar.add_task("TensorRT", total=None)

    def show(progress: BuildProgress) -> None:
        bar.start()  # not before there is a build; again it does nothing
        total = progress.steps or None  # None: nobody knows, the bar only moves
        bar.update(task, description=f"TensorRT: {progress.phase}", completed=progress.step, total=total)

    try:
        yield show
    finally:
        bar.stop()


def print_summary(summary: RunSummary, console: Console, name: str = "") -> None:
    """Print what a run did and cost, as tables; with the camera's name where there are several."""
    from rich.table import Table

    totals = Table(title=f"Summary of {name}" if name else "Summary", title_justify="left", show_header=False)
    fps = "-" if summary.fps is None else f"{summary.fps:.1f}"
    drops = ", ".join(f"{count} {cause}" for cause, count in summary.drops.items() if count)
    totals.add_row("frames", str(summary.frames))
    since = (
        f", from frame {summary.engine_since + 1} on; the times are of these" if summary.engine_since else ""
    )
    totals.add_row("engine", (summary.engine or "-") + since)
    totals.add_row("FPS", fps)
    totals.add_row("dropped", drops or "0")
    if summary.camera_losses:
        totals.add_row("camera lost", str(summary.camera_losses))
    totals.add_row("bad pictures or frames", str(summary.bad_frames))
    totals.add_row("peak memory", f"{summary.peak_memory_mib:.0f} MiB")
    found = ", ".join(f"{label} {count}" for label, count in summary.found.most_common(_MOST_LABELS))
    more = len(summary.found) - _MOST_LABELS
    totals.add_row("found", (found or "none") + (f", and {more} more" if more > 0 else ""))
    for failure in summary.failures:
        totals.add_row("failed", failure)
    console.print(totals)
    stages = Table("stage", title="Milliseconds per frame", title_justify="left")
    for heading in ("p50", "p95", "p99"):
        stages.add_column(heading, justify="right")
    for stage, times in summary.stages.items():
        stages.add_row(stage, *(f"{value:.2f}" for value in (times.p50_ms, times.p95_ms, times.p99_ms)))
    if summary.stages:
        console.print(stages)
