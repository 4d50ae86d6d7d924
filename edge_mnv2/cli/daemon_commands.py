"""The service: `daemon` runs it, `status` asks it."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_mnv2.cli.console import make_console
from edge_mnv2.cli.log_handler import LogHandler


def daemon(
    context: typer.Context,
    config: Annotated[Path, typer.Option("--config", help="YAML file with the settings, as of `run`.")],
    runtime_dir: Annotated[
        Path | None,
        typer.Option("--runtime-dir", help="Where the socket for `status` is made. Left out: systemd's."),
    ] = None,
    stuck_after: Annotated[
        float,
        typer.Option(
            "--stuck-after",
            min=1,
            help="Seconds without a result, a change of state or a new attempt after which a camera "
            "is stuck, and systemd's watchdog is told nothing any more.",
        ),
    ] = 60.0,
) -> int:
    """Run until SIGTERM, over lost cameras and full disks; SIGHUP has the settings read again.

    Example: edge-mnv2 daemon --config /etc/edge-mnv2/edge-mnv2.yaml
    """
    from edge_mnv2.daemon.notify import Notifier
    from edge_mnv2.daemon.service import Signals, run_daemon
    from edge_mnv2.daemon.status_socket import NAME, runtime_directory

    # Aborted by the watchdog, it says where each thread was.
    faulthandler.enable()
    signals = Signals(context.obj.event, threading.Event())
    context.obj.on_hangup(signals.reload.set)
    # A second one, as process groups get them, must not cut the end short; Ctrl-C twice still does.
    signal.signal(signal.SIGTERM, lambda *_: signals.stop.set())
    directory = runtime_dir or runtime_directory(os.environ)
    notifier = Notifier.from_environment(os.environ)
    end = run_daemon(config, signals, notifier, directory / NAME, stuck_after, _flush_log)
    if not end.is_clean:
        # Threads that hang in foreign code could hang or crash the interpreter's end.
        logging.shutdown()
        os._exit(end.code)
    return end.code


def _flush_log() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler):
            handler.flush_due()


def status(
    runtime_dir: Annotated[
        Path | None,
        typer.Option("--runtime-dir", help="As of the daemon. Left out: where daemons are."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Ask the running daemon what it is doing."""
    from edge_mnv2.daemon.status_socket import NAME, ask, find_socket

    found = ask(find_socket(os.environ) if runtime_dir is None else runtime_dir / NAME)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = make_console()
    console.print(f"edge-mnv2 {found['version']}, process {found['pid']}, since {found['started_at']}")
    console.print(f"settings: {found['config']}")
    console.print(found["status"])
    table = Table("camera", "state", "source", "engine", "frames", "FPS", "age p95", "lost", "reason")
    for name, camera in found["cameras"].items():
        age, fps = camera["age"], camera["fps"]
        table.add_row(
            *(name, camera["state"], camera["source"], f"{camera['engine']} {camera['precision']}".strip()),
            *(str(camera["frames"]), "-" if fps is None else f"{fps:.1f}"),
            *("-" if age is None else f"{age['p95_ms']:.0f} ms", str(camera["losses"]), camera["reason"]),
        )
    console.print(table)
    for name, camera in found["cameras"].items():
        lost = ", ".join(f"{count} {cause}" for cause, count in camera["drops"].items() if count)
        if lost:
            console.print(f"{name} dropped: {lost}")
