"""Figures of a comparison, as text and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def figure_text(task: str, figure: str, value: float) -> str:
    """Return a figure's value: what has a limit is a measure, all else a count."""
    from edge_mnv2.limits import LIMITS

    is_measure = any(limit.figure == figure for limit in LIMITS[task])
    return f"{value:.4f}" if is_measure else f"{value:.0f}"


def figures_table(task: str, figures: Mapping[str, float], title: str | None = None) -> Table:
    """Return a table of figures beside the limits that a task has for them."""
    from rich.table import Table

    from edge_mnv2.limits import LIMITS

    table = Table("figure", "value", "limit", title=title, title_justify="left")
    limits = {limit.figure: limit.in_words() for limit in LIMITS[task]}
    for figure, value in figures.items():
        table.add_row(figure, figure_text(task, figure, value), limits.get(figure, ""))
    return table
