"""The application object, its exit codes, and how an error looks."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from typing import Annotated

import click
import typer

from edge_mnv2 import __version__
from edge_mnv2.cli import batch_command, check_commands, models_commands, run_commands
from edge_mnv2.cli.console import ConsoleHandler, print_error

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
app.add_typer(models_commands.app, name="models")
app.command("eval")(check_commands.evaluate)
app.command("doctor")(check_commands.doctor)

_log = logging.getLogger("edge_mnv2")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edge-mnv2 {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log line.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name.

    Returns:
        0 done; 1 it failed while running; 2 the request was wrong.
    """
    from camera.errors import CameraError, SourceNotFoundError, UnsupportedSourceError
    from edge_mnv2.errors import EdgeMnv2Error, RequestError
    from engines.errors import BackendUnavailableError, EngineError

    logging.basicConfig(level=logging.INFO, handlers=[ConsoleHandler()], force=True)
    # Until a command watches for it itself, a stop request ends the program like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(args=list(arguments), prog_name="edge-mnv2", standalone_mode=False)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "edge-mnv2"
        print_error(f"{error.format_message()} See {command} --help")
        return 2
    except click.Abort:
        print_error("interrupted.")
        return 1
    except (
        RequestError,
        SourceNotFoundError,
        UnsupportedSourceError,
        BackendUnavailableError,
    ) as error:
        _report(error)
        return 2
    except (EdgeMnv2Error, CameraError, EngineError) as error:
        _report(error)
        return 1
    except OSError as error:
        # What no module foresaw: a full disk, a vanished folder. A traceback would help nobody.
        _report(error)
        return 1
    return code if isinstance(code, int) else 0


def _report(error: BaseException) -> None:
    print_error(str(error))
    if logging.getLogger().isEnabledFor(logging.DEBUG):
        _log.debug("the error was raised here", exc_info=error)
