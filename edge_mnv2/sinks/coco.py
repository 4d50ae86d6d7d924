"""COCO results: a JSON array of detections, valid after every frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from edge_mnv2.errors import SinkError
from edge_mnv2.results import Detections, FrameResult
from edge_mnv2.sinks.text_file import TextFile

_END = "\n]\n"


class CocoResultsSink:
    """Writes COCO's results format: `image_id`, `category_id`, `bbox` (x, y, width, height), `score`.

    The model's class ids are COCO's category ids, 1 to 90 with gaps. The array is closed after every frame
    and opened again by the next, so that nothing needs to be kept and an interrupted file can be read.

    Args:
        path: A regular file.
        image_ids: Image id by origin of the frame.

    Raises:
        OutputPathError: It cannot be written there.
        SinkError: There is no room for it.
    """

    def __init__(self, path: Path, image_ids: Mapping[str, int]) -> None:
        self._image_ids = image_ids
        self._file = TextFile(path)
        self._file.append("[" + _END)
        self._is_first = True

    def write(self, result: FrameResult) -> None:
        """Append the frame's detections."""
        found = result.found
        if not isinstance(found, Detections):
            raise SinkError("COCO results are for detections: choose JSON lines or CSV.")
        rows = [
            json.dumps(
                {
                    "image_id": self._image_ids[result.origin],
                    "category_id": class_id,
                    "bbox": [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)],
                    "score": round(score, 5),
                }
            )
            for class_id, score, (x1, y1, x2, y2) in zip(
                found.class_id.tolist(), found.score.tolist(), found.xyxy.tolist(), strict=True
            )
        ]
        if rows:
            start = "\n" if self._is_first else ",\n"
            self._file.append(start + ",\n".join(rows) + _END, replacing=_END)
            self._is_first = False

    def close(self) -> None:
        """Close the file."""
        self._file.close()
