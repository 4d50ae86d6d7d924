"""Settings without a run: `config check` judges a file, `config schema` prints what editors need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Check a file of settings, or print the JSON Schema of such files.", no_args_is_help=True
)


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="YAML file, as for `run` and `daemon`.")],
) -> None:
    """Say all that is wrong in a file of settings; neither cameras nor outputs are opened."""
    from edge_mnv2.config_check import check_file

    settings = check_file(file)
    cameras = len(settings.each_camera())
    typer.echo(
        f"{file} is right: {'one camera' if cameras == 1 else f'{cameras} cameras'}, {settings.model}."
    )


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of files of settings, for editors that check while one types."""
    from edge_mnv2.settings import RunConfig

    typer.echo(json.dumps(RunConfig.model_json_schema(), indent=2))
