"""Reads the settings of a run: from YAML, from the command line, or both; validated in one place.

Everything that `edge-mnv2 run` can do can be said here; flags override the file. Paths are relative to the
working directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from camera.credentials import without_credentials
from edge_mnv2.errors import RequestError
from edge_mnv2.settings import NO_SOURCE, SHARED_SETTINGS, RunConfig

__all__ = ["RunConfig", "read_config"]

_MAX_BYTES = 1024 * 1024


def read_config(path: Path | None, flags: Mapping[str, object]) -> RunConfig:
    """Read a YAML file, put the flags over it, and validate the whole.

    Args:
        path: The file, the bare name of a ready-made one (`desk.yaml`), or None for flags alone.
        flags: Value by setting; None means that the flag was not given.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    settings = {} if path is None else _read_yaml(_ready_made(path))
    given = {key: value for key, value in flags.items() if value is not None}
    settings.update(given)
    if isinstance(settings.get("cameras"), dict):
        each = {key: value for key, value in given.items() if key in SHARED_SETTINGS}
        settings["cameras"] = {
            name: {**camera, **each} if isinstance(camera, dict) else camera
            for name, camera in settings["cameras"].items()
        }
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        where = "" if path is None else f"{path}: "
        lines = [where + _explain(detail) for detail in error.errors()]
        missing = where + NO_SOURCE
        if missing not in lines and not {"source", "cameras"} & settings.keys():
            lines.append(missing)  # pydantic looks at the whole only where each part is right
        # Not `from error`: it quotes the input, in which there may be a password.
        raise RequestError("\n".join(lines)) from None


def _ready_made(path: Path) -> Path:
    """Return the ready-made file of this name where the user has none: in the package, or in the checkout."""
    package = Path(__file__).parent
    if path.exists() or path.name != str(path):
        return path
    found = (folder / path for folder in (package / "configs", package.parent / "configs"))
    return next((candidate for candidate in found if candidate.is_file()), path)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class UniqueKeyLoader(yaml.SafeLoader):
        """Refuses a key that is given twice: YAML forbids it, PyYAML takes the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"The configuration {path} cannot be read: it is not a file.")
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(f"{path} is larger than 1 MiB: it is not a configuration.")
        settings = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except RequestError:
        raise
    except OSError as error:
        raise RequestError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2020-13-45
        reason = without_credentials(" ".join(str(error).split()) or type(error).__name__)
        raise RequestError(f"{path} is not valid YAML: {reason}.") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise RequestError(f"{path} must hold `setting: value` lines, such as `source: test://`.")
    return settings


def _explain(detail: Mapping[str, Any]) -> str:
    """Return one line: the setting, what was expected, what was received."""
    setting = without_credentials(".".join(str(part) for part in detail["loc"]))
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(setting.rpartition(".")[2], RunConfig.model_fields, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        if near and setting.startswith("cameras.") and setting.endswith(f".{near[0]}"):
            hint = " It holds for all cameras: say it outside."
        return f"{setting}: there is no such setting.{hint}"
    if detail["type"] == "missing":
        return f"{setting}: it must be given."
    if detail["type"] == "value_error":  # one of ours, which says it all
        return f"{setting}: {detail['ctx']['error']}" if setting else str(detail["ctx"]["error"])
    expected = str(detail["msg"])
    received = without_credentials(repr(detail["input"]))[:80]
    return f"{setting}: {expected[0].lower()}{expected[1:]}, received {received}."
