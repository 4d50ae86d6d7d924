"""Class names: one label per line, the first line is class 1; `-` marks a number without a class."""

from __future__ import annotations

from pathlib import Path

from edge_mnv2.errors import RequestError

UNUSED = "-"
COCO_LABELS = Path(__file__).parent / "data" / "coco-labels.txt"


def read_labels(path: Path) -> dict[int, str]:
    """Read a label file.

    Returns:
        Label by class id; ids without a class are left out, the background (0) too.

    Raises:
        RequestError: The file cannot be read, or holds no label.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The label file {path} cannot be read: {error}.") from error
    labels = {number: line.strip() for number, line in enumerate(lines, 1)}
    labels = {number: label for number, label in labels.items() if label not in ("", UNUSED)}
    if not labels:
        raise RequestError(f"The label file {path} is empty: write one label per line, class 1 first.")
    return labels
