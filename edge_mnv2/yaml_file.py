"""Reads a YAML file of settings: plain values with the line of each; bounded in size, depth and time.

A dialect that surprises less than YAML 1.1: names are texts whatever they look like (`1:`, `on:`), and so are
dates, octal and sexagesimal numbers, since no setting means them. `yes`, `no`, `on`, `off` are booleans.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_mnv2.errors import RequestError
from edge_mnv2.yaml_words import shown, syntax_words

# Hundreds of cameras have room. The parser takes about 2 KiB of memory for each value.
_MAX_BYTES = 256 * 1024
_MAX_VALUES = 20_000
_MAX_DEPTH = 20
# A number with more digits is left as the text that it is.
_MAX_DIGITS = 40

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {
    form: word in ("yes", "true", "on")
    for word in ("yes", "no", "true", "false", "on", "off")
    for form in (word, word.capitalize(), word.upper())
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|nan)", re.IGNORECASE)
# What YAML leaves out of the printable characters.
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MERGE = "<<"
_TEXT_TAG = "tag:yaml.org,2002:str"
_NO_CHARACTER = "there is an escape for a character that does not exist"

Place = tuple[str | int, ...]


@dataclass(slots=True)
class YamlFile:
    """What a file says.

    Attributes:
        settings: By name.
        lines: Line, from 1, by the place of a value: names and positions from the outermost on.
        problems: What is wrong beside that: line and words.
    """

    settings: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def line_of(self, place: Place) -> int | None:
        """Return the line of a value, or of the nearest thing around it that has one."""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return self.lines[place[:end]]
        return None


def read_yaml(path: Path) -> YamlFile:
    """Read a file.

    Raises:
        RequestError: It cannot be read, is no YAML, or holds more than settings can.
    """
    import yaml

    text = _read_text(path)
    loader = yaml.SafeLoader(text)
    try:
        return _Reader(path, loader).read()
    except RequestError:
        raise
    except yaml.MarkedYAMLError as error:
        raise RequestError(syntax_words(path, error, text)) from None
    except (yaml.YAMLError, ValueError):  # such as chr(0x110000)
        line = int(loader.line) + 1
        raise RequestError(f"{path}, line {line}: not valid YAML: {_NO_CHARACTER}.") from None


def _read_text(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise RequestError(f"The configuration {path} cannot be read: it is {what}.")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except RequestError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or str(error)
        name = shown(str(path), 200)
        raise RequestError(f"The configuration {name} cannot be read: {reason}.") from None
    if len(content) > _MAX_BYTES:
        raise RequestError(f"{path} is larger than {_MAX_BYTES // 1024} KiB: it is not a configuration.")
    return _decoded(path, content)


def _decoded(path: Path, content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:2]:
        raise RequestError(f"{path} is UTF-16, or no text at all: save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"0x{content[error.start]:02x}"
        raise RequestError(
            f"{path}, line {line}: the byte {byte} is not UTF-8: save the file as UTF-8."
        ) from None
    control = _CONTROL.search(text)
    if control is not None:
        line = text.count("\n", 0, control.start()) + 1
        column = control.start() - text.rfind("\n", 0, control.start())
        raise RequestError(
            f"{path}, line {line}, column {column}: the control character {control[0]!r} cannot be in YAML: "
            "remove it."
        )
    return text


@dataclass(frozen=True, slots=True)
class _Anchor:
    value: object
    values: int


class _Reader:
    """Makes values of the parser's events; nothing is expanded before its size is known."""

    def __init__(self, path: Path, loader: Any) -> None:  # noqa: ANN401 - yaml is imported where it is used
        self._path = path
        self._loader = loader
        self._file = YamlFile({})
        self._values = 0
        self._depth = 0
        self._anchors: dict[str, _Anchor | None] = {}

    def read(self) -> YamlFile:
        self._loader.get_event()  # the beginning of the stream
        if type(self._loader.peek_event()).__name__ == "StreamEndEvent":
            return self._file
        self._loader.get_event()
        found = self._value(())
        self._loader.get_event()
        after = self._loader.get_event()
        if type(after).__name__ != "StreamEndEvent":
            raise self._refusal(after, "a second document begins (---): a configuration is one")
        if isinstance(found, dict):
            self._file.settings = found
        elif found is not None:
            raise RequestError(
                f"{self._path} must hold `setting: value` lines, such as `source: test://`, with a space "
                "after the colon."
            )
        return self._file

    def _value(self, place: Place) -> Any:  # noqa: ANN401 - whatever YAML can say
        event = self._loader.get_event()
        kind = type(event).__name__
        self._file.lines.setdefault(place, _line(event))
        if kind == "AliasEvent":
            return self._alias(event)
        if event.tag not in (None, "!", _TEXT_TAG):
            self._problem(event, f"the tag {shown(_tag(event.tag), 60)} is not understood: give plain values")
        before = self._values
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # open: it cannot hold itself
        value: object
        if kind == "ScalarEvent":
            value = self._scalar(event)
        else:
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise self._refusal(event, f"it is nested more than {_MAX_DEPTH} deep: no setting is")
            value = self._list(place) if kind == "SequenceStartEvent" else self._mapping(place)
            self._depth -= 1
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchor(value, self._values - before)
        return value

    def _alias(self, event: Any) -> object:  # noqa: ANN401 - an event
        name = shown(event.anchor, 40)
        if event.anchor not in self._anchors:
            self._count(event, 1)
            self._problem(event, f"*{name} stands for nothing: &{name} must come before it")
            return None
        anchor = self._anchors[event.anchor]
        if anchor is None:
            raise self._refusal(event, f"*{name} stands for something that it is a part of")
        self._count(event, anchor.values)
        return anchor.value

    def _scalar(self, event: Any) -> object:  # noqa: ANN401 - an event
        text = str(event.value)
        if _SURROGATE.search(text):
            self._problem(event, _NO_CHARACTER)
            return "?"
        return _plain_value(text) if event.style is None and event.tag is None else text

    def _list(self, place: Place) -> list[object]:
        found: list[object] = []
        while type(self._loader.peek_event()).__name__ != "SequenceEndEvent":
            found.append(self._value((*place, len(found))))
        self._loader.get_event()
        return found

    def _mapping(self, place: Place) -> dict[str, object]:
        found: dict[str, object] = {}
        merged: list[tuple[Any, object]] = []
        while type(self._loader.peek_event()).__name__ != "MappingEndEvent":
            event = self._loader.peek_event()
            if type(event).__name__ != "ScalarEvent":
                self._value((*place, "?"))
                self._problem(event, "a name must be a text")
                self._value((*place, "?"))
                continue
            self._loader.get_event()
            name = str(event.value)
            if name == _MERGE and event.style is None:
                merged.append((event, self._value((*place, _MERGE))))
                continue
            if not name or _SURROGATE.search(name):
                self._problem(event, "a name is missing before the colon")
                self._value((*place, "?"))
                continue
            if name in found:
                first = self._file.lines[(*place, name)]
                self._problem(event, f"{shown(name)} is given twice, first in line {first}")
                self._value((*place, name, "again"))
                continue
            self._file.lines[(*place, name)] = _line(event)
            found[name] = self._value((*place, name))
        self._loader.get_event()
        for event, value in merged:
            self._merge(event, value, place, found)
        return found

    def _merge(self, event: Any, value: object, place: Place, found: dict[str, object]) -> None:  # noqa: ANN401
        parts = [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, dict)]
        if not parts or (isinstance(value, list) and len(parts) < len(value)):
            self._problem(event, "`<<` takes over settings: give it an alias of some, such as *door")
            return
        for part in parts:
            for name, taken in part.items():
                if name not in found:
                    found[name] = taken
                    self._file.lines[(*place, name)] = _line(event)

    def _count(self, event: Any, values: int) -> None:  # noqa: ANN401 - an event
        self._values += values
        if self._values > _MAX_VALUES:
            raise self._refusal(
                event, f"there are more than {_MAX_VALUES} values, counted as often as aliases repeat them"
            )

    def _problem(self, event: Any, words: str) -> None:  # noqa: ANN401 - an event
        self._file.problems.append((_line(event), f"{words}."))

    def _refusal(self, event: Any, words: str) -> RequestError:  # noqa: ANN401 - an event
        return RequestError(f"{self._path}, line {_line(event)}: {words}.")


def _plain_value(text: str) -> object:
    """Return what a text without quotes means."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    special = _SPECIAL_FLOAT.fullmatch(text)
    return float(f"{special[1]}{special[2]}") if special else text


def _line(event: Any) -> int:  # noqa: ANN401 - an event
    return int(event.start_mark.line) + 1


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
