"""The application object, its exit codes, and how an error looks."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from edge_mnv2 import __version__
from edge_mnv2.cli import (
    batch_command,
    build_commands,
    camera_commands,
    check_commands,
    config_commands,
    daemon_commands,
    models_commands,
    plan_commands,
    power_command,
    run_commands,
)
from edge_mnv2.cli.console import print_error
from edge_mnv2.cli.log_handler import LogHandler, is_journal
from edge_mnv2.stop import StopRequest

app = typer.Typer(
    name="edge-mnv2",
    help="Camera to detections with MobileNetV2, on a Raspberry Pi, a Jetson, or a desk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run_commands.run)
app.command("demo")(run_commands.demo)
app.command("batch")(batch_command.batch)
models_commands.app.command("build")(build_commands.build)
models_commands.app.command("calibrate")(build_commands.calibrate)
models_commands.app.command("check")(build_commands.check)
models_commands.app.command("compare")(plan_commands.compare)
models_commands.app.command("prune")(plan_commands.prune)
app.add_typer(models_commands.app, name="models")
app.add_typer(camera_commands.app, name="cameras")
app.add_typer(config_commands.app, name="config")
app.command("eval")(check_commands.evaluate)
app.command("doctor")(check_commands.doctor)
app.command("power")(power_command.power)
app.command("daemon")(daemon_commands.daemon)
app.command("status")(daemon_commands.status)

# Typer keeps the click inside it to itself; this is its UsageError: wrong words on the command line.
_USAGE_ERROR: Any = typer.BadParameter.__base__

# Typer answers KeyboardInterrupt with the shell's code for it; ours are 0, 1 and 2.
_INTERRUPTED = 130

# Typer knows no options whose value can be left out.
_LEFT_OUT = {"--web": "127.0.0.1:8080", "--idle": "60"}

_log = logging.getLogger("edge_mnv2")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-mnv2 {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)
    # The daemon decides for itself.
    if context.invoked_subcommand != "daemon":
        context.obj.on_hangup()


def run_app(arguments: Sequence[str], stop: StopRequest) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name.
        stop: Requests to end; a command finishes the frame in hand.

    Returns:
        0 done; 1 it failed while running; 2 the request was wrong.
    """
    handler = LogHandler(for_journal=is_journal(sys.stderr, os.environ))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    try:
        code = app(args=_with_left_out(arguments), prog_name="edge-mnv2", standalone_mode=False, obj=stop)
    except _USAGE_ERROR as error:
        _report_usage(error)
        return 2
    except typer.Abort:
        code = _INTERRUPTED
    except Exception as error:
        code = _exit_code_for(error)
        if code is None:
            raise
        print_error(str(error))
        _log.debug("the error was raised here", exc_info=error)
    if code == _INTERRUPTED:
        print_error("interrupted.")
        return 1
    return code if isinstance(code, int) else 0


def _with_left_out(arguments: Sequence[str]) -> list[str]:
    """Return the arguments, with the value of `--web` or `--idle` where it was left out."""
    given = list(arguments)
    for number, word in enumerate(given):
        if word in _LEFT_OUT and (number + 1 == len(given) or given[number + 1].startswith("-")):
            given[number] = f"{word}={_LEFT_OUT[word]}"
    return given


def _report_usage(error: Any) -> None:  # noqa: ANN401 - click's UsageError, see _USAGE_ERROR
    """Print what is wrong with the words of the command line, or the help where none were given."""
    if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    from camera.credentials import without_credentials

    command = error.ctx.command_path if error.ctx else "edge-mnv2"
    # A URI in the wrong place is quoted, with the password in it.
    print_error(f"{without_credentials(error.format_message().rstrip('.'))}. See {command} --help")


def _exit_code_for(error: Exception) -> int | None:
    """Return the exit code of an error that has a message for the user, None for a bug.

    The exception trees are imported here, so that a command that succeeds, `--help` above all, need not.
    """
    from camera.errors import AccessDeniedError, CameraError, SourceNotFoundError, UnsupportedSourceError
    from edge_mnv2.errors import EdgeMnv2Error, RequestError
    from engines.errors import BackendUnavailableError, EngineError

    if isinstance(error, ImportError):
        error.msg = f"A part of edge-mnv2 does not load: {error.msg}. Run: edge-mnv2 doctor"
        return 1
    if isinstance(
        error,
        (
            RequestError,
            SourceNotFoundError,
            UnsupportedSourceError,
            AccessDeniedError,
            BackendUnavailableError,
        ),
    ):
        return 2
    # An OSError that no module foresaw is still the device's: a full disk, a vanished folder.
    return 1 if isinstance(error, (EdgeMnv2Error, CameraError, EngineError, OSError)) else None
