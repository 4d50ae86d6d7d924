"""JSON lines: a record per frame, change of the camera's state and event, each whole once it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_mnv2.readings import DeviceEvent
from edge_mnv2.results import CameraStatus, FrameResult
from edge_mnv2.segments import import_coco_masks
from edge_mnv2.sinks.record import to_event_record, to_record, to_state_record
from edge_mnv2.sinks.rotating_file import RotatingFile, Rotation
from edge_mnv2.sinks.text_file import TextFile


class JsonLinesSink:
    """Writes records to a file, or to standard output for `-`.

    Args:
        path: The file.
        attempt: Without a rotation 0 starts the file anew, later ones append.
        masks: Whether segments carry their masks.
        rotation: How the file outlives this run: it is appended to, and what a power loss tore is cut off
            first. None: this run's own.
        waits: As `text_file.TextFile`.

    Raises:
        OutputPathError: It cannot be written there.
        RequestError: Masks need pycocotools, and it is not installed.
    """

    def __init__(
        self,
        path: Path,
        attempt: int = 0,
        *,
        masks: bool = False,
        rotation: Rotation | None = None,
        waits: bool = True,
    ) -> None:
        if masks:
            import_coco_masks()  # missing, it must be said now, not at the first frame
        self._masks = masks
        self._file: TextFile | RotatingFile = (
            TextFile(path, keep=attempt > 0, waits=waits)
            if rotation is None
            else RotatingFile(path, rotation, waits=waits)
        )

    def write(self, result: FrameResult) -> None:
        """Append the frame's record."""
        self._append(to_record(result, masks=self._masks))

    def show(self, status: CameraStatus) -> None:
        """Append a change of the camera's state."""
        if status.is_change:
            self._append(to_state_record(status))
        elif isinstance(self._file, RotatingFile):
            self._file.tend()  # while a camera is away nothing else would

    def note(self, event: DeviceEvent) -> None:
        """Append an event."""
        self._append(to_event_record(event))

    def _append(self, record: dict[str, Any]) -> None:
        self._file.append(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
