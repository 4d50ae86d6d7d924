"""Judges settings beyond their form: sources, model, classes, outputs; without opening any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from camera import CameraError
from camera.uri import raw_source
from edge_mnv2.camera_checks import check_cameras
from edge_mnv2.config import STAND_IN, Problem, judge_config, problem_lines
from edge_mnv2.config_words import path_words
from edge_mnv2.errors import EdgeMnv2Error, RequestError
from edge_mnv2.metrics.exposition import check_prometheus_client
from edge_mnv2.mqtt.access import make_tls_context, read_password
from edge_mnv2.mqtt.link import check_paho
from edge_mnv2.settings import CameraSettings, RunConfig
from edge_mnv2.settings_mqtt import MqttSettings
from edge_mnv2.web.access import check_token, read_token
from edge_mnv2.web.address import parse_web_address
from edge_mnv2.web.metrics_server import DEFAULT_METRICS_ADDRESS
from edge_mnv2.web.server import check_aiohttp
from edge_mnv2.yaml_file import Place
from edge_mnv2.zoo.model import DecoderOptions, Model, load_model, make_network


def check_file(path: Path) -> RunConfig:
    """Read a file of settings and judge all that can be judged without opening cameras or outputs.

    Args:
        path: As for `read_config`.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    verdict = judge_config(path, {})
    problems = list(verdict.problems)
    if verdict.settings is not None:
        for place, words in _wrong(verdict.settings):
            problems.append(Problem(_line(place, words), verdict.file.line_of(place)))
    if problems or verdict.settings is None:
        raise RequestError(problem_lines(path, problems))
    return verdict.settings


def check_settings(settings: RunConfig) -> None:
    """Refuse settings with which a run could not begin on this device.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    wrong = [_line(place, words) for place, words in _wrong(settings)]
    if wrong:
        raise RequestError("\n".join(wrong))


def _wrong(settings: RunConfig) -> Iterator[tuple[Place, str]]:
    """Yield the place of each wrong setting, and what is wrong; an empty place is between settings."""
    each = settings.each_camera()
    places: dict[str, Place] = {name: ("cameras", name) if name else () for name in each}
    openable = dict(each)
    for name, camera in each.items():
        wrong = _complaint(lambda source=camera.source: raw_source(source))  # type: ignore[misc]  # bound at once
        if wrong is not None:
            yield (*places[name], "source"), wrong
            # Its outputs are judged all the same.
            openable[name] = camera.model_copy(update={"source": STAND_IN})
    for line in (_complaint(lambda: check_cameras(openable, settings.web_token_file)) or "").splitlines():
        name = next((name for name in each if name and line.startswith(f"{name}: ")), "")
        yield places.get(name, ()), line.removeprefix(f"{name}: ")
    yield from _wrong_of_services(settings)
    model = []
    variant = settings.predictor_options().variant
    if (wrong := _complaint(lambda: model.append(load_model(settings.model, variant)))) is not None:
        yield ("model",), wrong
    for loaded in model:
        said: set[str] = set()
        for name, camera in each.items():
            for setting, wrong in _wrong_of_decoder(loaded, camera):
                inherited = name and getattr(camera, setting) == getattr(settings, setting)
                place: Place = (setting,) if inherited else (*places[name], setting)
                if not (inherited and wrong in said):
                    yield place, wrong
                said.add(wrong)


def _wrong_of_decoder(model: Model, camera: CameraSettings) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting that this model cannot follow, and why."""
    options = camera.decoder_options()
    for setting in ("threshold", "classes", "top_k", "masks"):
        alone = DecoderOptions(**{setting: getattr(options, setting)})
        if (wrong := _complaint(lambda alone=alone: make_network(model, alone))) is not None:  # type: ignore[misc]  # bound at once
            yield setting, wrong


def _wrong_of_services(settings: RunConfig) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with live view, metrics and MQTT; of each, the first."""
    judges: dict[str, Callable[[], None]] = {"mqtt": lambda: _check_mqtt(settings.mqtt)}
    tokens: list[str | None] = []
    path = settings.web_token_file
    if (wrong := _complaint(lambda: tokens.append(None if path is None else read_token(path)))) is not None:
        yield ("web_token_file",), wrong
    for token in tokens:
        judges["web"] = partial(_check_web, settings.web, token)
        judges["metrics"] = partial(_check_metrics, settings.metrics, token)
    for name, judge in judges.items():
        if (wrong := _complaint(judge)) is not None:
            setting, _, words = wrong.partition(": ")
            # Some say themselves which setting of theirs it is.
            yield ((*setting.split("."),), words) if setting.startswith(f"{name}.") else ((name,), wrong)


def _check_web(address: str | None, token: str | None) -> None:
    if address is not None:
        check_aiohttp()
        check_token(parse_web_address(address), token)


def _check_metrics(address: str | None, token: str | None) -> None:
    if address is not None:
        check_prometheus_client()
        check_token(parse_web_address(address, DEFAULT_METRICS_ADDRESS), token)


def _check_mqtt(mqtt: MqttSettings | None) -> None:
    if mqtt is not None:
        check_paho()
        read_password(mqtt)
        if mqtt.tls is not None:
            make_tls_context(mqtt.tls)


def _complaint(judge: Callable[[], object]) -> str | None:
    try:
        judge()
    except (CameraError, EdgeMnv2Error) as error:
        return str(error)
    return None


def _line(place: Place, words: str) -> str:
    return f"{path_words(place)}: {words}" if place else words
