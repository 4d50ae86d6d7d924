"""Judges settings beyond their form: sources, model, classes, outputs; without opening any of them."""

from __future__ import annotations

from collections.abc import Callable

from camera import CameraError
from camera.uri import raw_source
from edge_mnv2.camera_run import check_between
from edge_mnv2.errors import EdgeMnv2Error, RequestError
from edge_mnv2.settings import RunConfig
from edge_mnv2.web.access import check_token, read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.zoo.model import load_model, make_network


def check_settings(settings: RunConfig) -> None:
    """Refuse settings with which a run could not begin on any device.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    each = settings.each_camera()
    wrong: list[str] = []

    def attempt(judge: Callable[[], object], name: str = "") -> None:
        try:
            judge()
        except (CameraError, EdgeMnv2Error) as error:
            line = f"cameras.{name}: {error}" if name else str(error)
            if line not in wrong:
                wrong.append(line)

    for name, camera in each.items():
        attempt(lambda source=camera.source: raw_source(source), name)  # type: ignore[misc]  # bound at once
    attempt(lambda: check_between(each, settings.web_token_file))
    attempt(lambda: _check_web(settings))
    model = []
    attempt(lambda: model.append(load_model(settings.model, settings.predictor_options().variant)))
    for name, camera in each.items():
        for loaded in model:
            attempt(lambda of=camera, m=loaded: make_network(m, of.decoder_options()), name)  # type: ignore[misc]  # bound at once
    if wrong:
        raise RequestError("\n".join(wrong))


def _check_web(settings: RunConfig) -> None:
    if settings.web is None:
        return
    token = None if settings.web_token_file is None else read_token(settings.web_token_file)
    check_token(parse_web_address(settings.web), token)
