"""Metric families as plain values: name, type, unit and samples, before any library sees them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from camera.credentials import without_credentials

FamilyType = Literal["gauge", "counter", "info", "stateset"]
# Label values in the order of the family's label names, and the number; None is unavailable, and no sample.
Row = tuple[Sequence[str], float | None]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its samples.

    Attributes:
        name: With its unit at the end, without the `_total` of counters and the `_info` of infos.
        help: One sentence.
        type: Of the metric. An info says something in its labels and is always 1; of a stateset's last label,
            one value is 1 and the others are 0.
        unit: A base unit of Prometheus; empty for counts and texts.
        labels: Names of the labels.
        rows: Its samples.
    """

    name: str
    help: str
    type: FamilyType
    unit: str = ""
    labels: tuple[str, ...] = ()
    rows: tuple[tuple[tuple[str, ...], float], ...] = ()


def gauge(
    name: str, help_text: str, rows: Iterable[Row], labels: tuple[str, ...] = (), unit: str = ""
) -> Family:
    """Return a value that rises and falls."""
    return Family(name, help_text, "gauge", unit, labels, _known(rows))


def counter(
    name: str, help_text: str, rows: Iterable[Row], labels: tuple[str, ...] = (), unit: str = ""
) -> Family:
    """Return a sum since the start; its samples are called `NAME_total`."""
    return Family(name, help_text, "counter", unit, labels, _known(rows, adds=True))


def info(name: str, help_text: str, labels: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Family:
    """Return texts; its samples are called `NAME_info`. Labels without a text are left out."""
    return Family(name, help_text, "info", "", labels, _known((values, 1) for values in rows))


def stateset(
    name: str, help_text: str, labels: tuple[str, ...], states: Sequence[str], rows: Iterable[Sequence[str]]
) -> Family:
    """Return which of several states holds.

    The state's label has the metric's name, as OpenMetrics wants it.

    Args:
        name: Of the metric.
        help_text: One sentence.
        labels: Names of the labels before the state.
        states: All that there are.
        rows: Label values with the present state behind them.
    """
    samples = (
        ((*values[:-1], state), float(state == values[-1]))
        for values in rows
        for state in dict.fromkeys((*states, values[-1]))
    )
    return Family(name, help_text, "stateset", "", (*labels, name), _known(samples))


def label_text(text: str) -> str:
    """Return a text as a label may carry it: UTF-8, which file names need not be, and without credentials."""
    return os.fsencode(without_credentials(text)).decode("utf-8", "backslashreplace")


def _known(rows: Iterable[Row], *, adds: bool = False) -> tuple[tuple[tuple[str, ...], float], ...]:
    """Return the rows that have a number; Prometheus refuses a scrape in which the same labels come twice."""
    found: dict[tuple[str, ...], float] = {}
    for values, number in rows:
        if number is None or not math.isfinite(number):
            continue
        texts = tuple(label_text(value) for value in values)
        found[texts] = number + (found.get(texts, 0) if adds else 0)
    return tuple(found.items())
