"""What the daemon is doing, for systemd's status line and for `edge-mnv2 status`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edge_mnv2.readings import CameraFigures, Snapshot, as_plain

SCHEMA = 1


def status_line(snapshot: Snapshot) -> str:
    """Return one line: rate, cameras, power, heat."""
    parts = []
    if snapshot.fps is not None:
        parts.append(f"{snapshot.fps:.1f} FPS")
    parts += [_camera(name, camera) for name, camera in snapshot.cameras.items()]
    parts += [trouble for camera in snapshot.cameras.values() for trouble in camera.troubles]
    device = snapshot.device
    if device.power_w.value is not None:
        about = "about " if device.power_w.kind == "estimated" else ""
        parts.append(f"{about}{device.power_w.value:.1f} W")
    if device.temperature_c.value is not None:
        parts.append(f"{device.temperature_c.value:.0f} °C")
    if device.throttling is not None and device.throttling.now:
        parts.append(", ".join(sorted(device.throttling.now)))
    return "; ".join(parts)


def status_document(snapshot: Snapshot, config: Path) -> dict[str, Any]:
    """Return a snapshot as JSON-ready values, schema 1.

    Args:
        snapshot: Of now.
        config: The file of settings.
    """
    document: dict[str, Any] = as_plain(snapshot)
    return {
        "schema": SCHEMA,
        "pid": os.getpid(),
        "config": str(config.absolute()),
        "status": status_line(snapshot),
        "fps": snapshot.fps,
        "joules_per_frame": snapshot.joules_per_frame(),
        "joules_per_frame_above_idle": snapshot.joules_per_frame(above_idle=True),
        **document,
    }


def _camera(name: str, camera: CameraFigures) -> str:
    since = ""
    if camera.lost_since is not None and camera.state != "live":
        since = f" since {camera.lost_since.astimezone():%H:%M:%S}"
    return f"{name} {camera.state}{since}"
