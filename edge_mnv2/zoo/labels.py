"""Class names: one label per line, first class first; `-` marks a number without a class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_mnv2.errors import RequestError
from edge_mnv2.zoo.architectures import Spec, architecture_of

UNUSED = "-"
DATA_DIR = Path(__file__).parent / "data"
COCO_LABELS = DATA_DIR / "coco-labels.txt"
PERSON_LABELS = DATA_DIR / "person-labels.txt"
VOC_LABELS = DATA_DIR / "voc-labels.txt"
IMAGENET_LABELS = DATA_DIR / "imagenet-labels.txt"

_USUAL = {"detect": COCO_LABELS, "segment": VOC_LABELS, "classify": IMAGENET_LABELS}


@dataclass(frozen=True, slots=True)
class Labels:
    """The lines of a label file.

    Attributes:
        names: One for each class, `-` or nothing for a number without one.
        path: Where they come from, for messages.
    """

    names: tuple[str, ...]
    path: Path

    @property
    def lines(self) -> int:
        """How many classes there are, those without a name included."""
        return len(self.names)

    def by_class(self, first: int) -> dict[int, str]:
        """Return label by class id; numbers without a class are left out.

        Args:
            first: Id of the first line's class: 1 where 0 is the background.
        """
        return {number: name for number, name in enumerate(self.names, first) if name not in ("", UNUSED)}


def read_labels(path: Path) -> Labels:
    """Read a label file; empty lines at its end do not count.

    Raises:
        RequestError: The file cannot be read, or holds no label.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The label file {path} cannot be read: {error}.") from error
    labels = Labels(tuple(line.strip() for line in text.rstrip().splitlines()), path)
    if not labels.by_class(0):
        raise RequestError(f"The label file {path} is empty: write one label per line, first class first.")
    return labels


def default_labels(spec: Spec) -> Labels:
    """Return the labels that a network of this kind usually has: COCO's, VOC's or ImageNet's."""
    return read_labels(_USUAL[architecture_of(spec).task])
