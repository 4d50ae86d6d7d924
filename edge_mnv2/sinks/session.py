"""What a recorded session says beside the frames: ages, stages, and what the device's sensors read."""

from __future__ import annotations

import time

from camera.session_writer import SessionWriter
from edge_mnv2.readings import DeviceReading
from edge_mnv2.results import FrameResult

_INTERVAL_NS = 1_000_000_000


class SessionTelemetry:
    """Adds one set of readings a second to a session; its frames come from the source, not from here.

    Args:
        writer: Of the session; it stays its owner's.
    """

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._due_ns = 0

    def write(self, result: FrameResult) -> None:
        """Add readings, if they are due."""
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _INTERVAL_NS
        device = result.device or DeviceReading()
        stages = {f"{stage}_ms": round(value, 2) for stage, value in result.stages_ms.items()}
        self._writer.telemetry(
            {
                "seq": result.seq,
                "age_ms": round(result.age_ms, 1),
                **stages,
                "temperature_c": device.temperature_c.value,
                "power_w": device.power_w.value,
            }
        )

    def close(self) -> None:
        """Do nothing: who opened the session closes it."""
