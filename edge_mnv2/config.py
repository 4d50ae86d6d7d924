"""Reads the settings of a run: from YAML, from the command line, or both; validated in one place.

Everything that `edge-mnv2 run` can do can be said here; flags override the file. Paths are relative to the
working directory.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_mnv2.config_words import explained
from edge_mnv2.errors import RequestError
from edge_mnv2.settings import NO_SOURCE, SHARED_SETTINGS, RunConfig
from edge_mnv2.yaml_file import Place, YamlFile, read_yaml
from edge_mnv2.yaml_words import shown

__all__ = ["STAND_IN", "Problem", "RunConfig", "Verdict", "judge_config", "problem_lines", "read_config"]

# Takes the place of a source that is wrong, so that the others can be judged.
STAND_IN = "test://"
_MAX_ROUNDS = 20
# More would be a file of something else.
_MAX_TOLD = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Attributes:
        words: The setting's path, what was expected, what was received.
        line: Of the file, None where it does not stand there.
    """

    words: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was read.

    Attributes:
        settings: Without what is wrong; None where nothing sensible is left.
        file: Where they stand.
        problems: All of them.
    """

    settings: RunConfig | None
    file: YamlFile
    problems: list[Problem]


def read_config(path: Path | None, flags: Mapping[str, object]) -> RunConfig:
    """Read a YAML file, put the flags over it, and validate the whole.

    Args:
        path: The file, the bare name of a ready-made one (`desk.yaml`), or None for flags alone.
        flags: Value by setting; None means that the flag was not given.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    verdict = judge_config(path, flags)
    if verdict.problems or verdict.settings is None:
        raise RequestError(problem_lines(path, verdict.problems))
    return verdict.settings


def judge_config(path: Path | None, flags: Mapping[str, object]) -> Verdict:
    """Do as `read_config`, and return what is wrong beside what is right.

    Raises:
        RequestError: The file cannot be read, or is no YAML.
    """
    file = YamlFile({}) if path is None else read_yaml(_ready_made(path))
    given = {key: value for key, value in flags.items() if value is not None}
    settings = _with_flags(file.settings, given)
    problems = [Problem(words, line) for line, words in file.problems]
    rest, left_out = settings, set[Place]()
    # What is wrong between settings is seen only where each of them is right: so the wrong ones are left out.
    for _ in range(_MAX_ROUNDS):
        try:
            return Verdict(RunConfig.model_validate(rest), file, problems)
        except ValidationError as error:
            # Not raised from it: it quotes the input, in which there may be a password.
            details = error.errors()[:_MAX_TOLD]
        if rest is settings and settings.get("source") is None and settings.get("cameras") is None:
            problems.append(Problem(NO_SOURCE, file.line_of(("source",))))
        wrong = [(detail, *explained(detail)) for detail in details]
        rest = copy.deepcopy(rest)
        for detail, place, words in wrong:
            if _is_inherited(detail["loc"], file, settings, given) or _is_consequence(place, words, left_out):
                continue
            found = Problem(words, None if place[0] in given else file.line_of(place))
            if found not in problems:
                problems.append(found)
        for detail, place, _words in wrong:
            _leave_out(rest, place)
            if detail["type"] != "extra_forbidden":
                left_out.add(place)
        _stand_in(rest)
        if len(problems) > _MAX_TOLD:
            break
    return Verdict(None, file, problems)


def problem_lines(path: Path | None, problems: list[Problem]) -> str:
    """Return one line for each problem, in the order of the file, as far as somebody would read it."""
    last = max((problem.line or 0 for problem in problems), default=0) + 1
    lines = []
    for problem in sorted(problems, key=lambda problem: problem.line or last):
        where = "" if path is None else f"{path}: "
        if path is not None and problem.line is not None:
            where = f"{path}, line {problem.line}: "
        lines.append(where + problem.words)
    lines = [*dict.fromkeys(lines)]
    if len(lines) > _MAX_TOLD:
        lines = [*lines[:_MAX_TOLD], f"{path or 'the flags'}: there is more: put this right first."]
    return "\n".join(lines)


def _ready_made(path: Path) -> Path:
    """Return the ready-made file of this name where the user has none: in the package, or in the checkout."""
    try:
        if path.exists() or path.is_symlink() or path.name != str(path):
            return path
    except OSError:  # such as a name that is too long
        return path
    package = Path(__file__).parent
    names: list[str] = []
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / path).is_file():
            return folder / path
        names += sorted(found.name for found in folder.glob("*.yaml"))
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    hint = f" Ready-made are, among others: {', '.join(near)}." if near else ""
    name = shown(str(path))
    raise RequestError(f"The configuration {name} cannot be read: it is neither here nor ready-made.{hint}")


def _with_flags(settings: Mapping[str, Any], given: Mapping[str, object]) -> dict[str, Any]:
    found = {**settings, **given}
    if isinstance(found.get("cameras"), dict):
        each = {key: value for key, value in given.items() if key in SHARED_SETTINGS}
        found["cameras"] = {
            name: {**camera, **each} if isinstance(camera, dict) else camera
            for name, camera in found["cameras"].items()
        }
    return found


def _is_inherited(
    place: Place, file: YamlFile, settings: Mapping[str, Any], given: Mapping[str, object]
) -> bool:
    """Return whether a camera has this from outside or from a flag, where it is reported."""
    if len(place) < 3 or place[0] != "cameras" or place[2] not in SHARED_SETTINGS & settings.keys():
        return False
    cameras = file.settings.get("cameras")
    camera = cameras.get(place[1]) if isinstance(cameras, dict) else None
    return place[2] in given or not (isinstance(camera, dict) and place[2] in camera)


def _is_consequence(place: Place, words: str, left_out: set[Place]) -> bool:
    """Return whether something is wrong only because a setting beside it was left out."""
    named = {*re.findall(r"\w+", words)}
    return any(out[:-1] == place[:-1] and out[-1] in named for out in left_out)


def _stand_in(rest: dict[str, Any]) -> None:
    """Give those a source that have none."""
    cameras = rest.get("cameras")
    for camera in cameras.values() if isinstance(cameras, dict) else ():
        camera.setdefault("source", STAND_IN)
    if cameras is None and rest.get("source") is None:
        rest["source"] = STAND_IN


def _leave_out(rest: dict[str, Any], place: Place) -> None:
    """Take away the innermost setting of a place, lists as a whole; for a camera comes another one."""
    around: dict[str, Any] = rest
    for depth, name in enumerate(map(str, place), 1):
        inner = around.get(name)
        if isinstance(inner, dict) and depth < len(place):
            around = inner
            continue
        around.pop(name, None)
        if around is rest.get("cameras"):
            # Without any, there would be something else to complain about.
            around.setdefault("camera", {})
        return
