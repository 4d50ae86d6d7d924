"""Says in plain words what a YAML parser did not understand; quotes no line: a password may be in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from camera.credentials import without_credentials

# What the parser says, and what most likely happened.
_CAUSES = (
    (r"found character '\\t'", "there is a tab: YAML is indented with spaces"),
    (r"found character '(.)' that cannot start", "a value that begins with {0} must be in quotes"),
    (
        "mapping values are not allowed",
        "a colon is not expected here: put a value that holds `: ` in quotes, or mend the indentation",
    ),
    (
        "could not find expected ':'",
        "`setting: value` is expected, with a space after the colon; or a quote before this is not closed",
    ),
    ("expected <block end>", "the indentation does not fit the lines before, or a quote ends too early"),
    (
        "expected alphabetic or numeric character",
        "a value that begins with * or & must be in quotes",
    ),
    ("expected the node content", "a value is missing, or a [ or {{ before this is not closed"),
    ("unexpected end of stream", "the quote that begins in line {line} is not closed"),
    (r"expected ',' or '\]'", "the [ of line {line} is not closed, or a comma is missing"),
    (r"expected ',' or '\}'", "the {{ of line {line} is not closed, or a comma is missing"),
    ("found unknown escape character", r"in double quotes \ begins an escape: use single quotes"),
    ("expected escape sequence", r"in double quotes \ begins an escape: use single quotes"),
)


def syntax_words(path: Path, error: Any, text: str) -> str:  # noqa: ANN401 - yaml is imported where it is used
    """Return one line about a syntax error: file, line, column, and what to do.

    Args:
        path: Of the file.
        error: yaml.MarkedYAMLError.
        text: What was read.
    """
    mark = error.problem_mark or error.context_mark
    begin = error.context_mark or mark
    lines = text.split("\n")
    line, column = mark.line + 1, mark.column + 1
    if line == len(lines) > 1 and not lines[-1]:
        # What is missing is noticed behind the end of the last line.
        line, column = line - 1, len(lines[-2]) + 1
    problem = str(error.problem or error.context or "")
    words = shown(" ".join(f"{error.context or ''} {problem}".split()), 160)
    for pattern, cause in _CAUSES:
        found = re.search(pattern, problem)
        if found is not None:
            words = cause.format(*found.groups(), line=begin.line + 1)
            break
    return f"{path}, line {line}, column {column}: not valid YAML: {words}."


def shown(text: str, limit: int = 80) -> str:
    """Return a text of somebody else's as it may be shown: short, printable, without credentials."""
    text = without_credentials(text)
    cut = text if len(text) <= limit else f"{text[:limit]}..."
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in cut)
