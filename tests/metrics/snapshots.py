"""Ready-made moments: a device that tells everything, and one that tells nothing."""

from __future__ import annotations

from datetime import datetime, timezone

from edge_mnv2.readings import (
    CameraFigures,
    DeviceReading,
    Energy,
    Percentiles,
    PowerReading,
    Rail,
    Reading,
    Snapshot,
    Throttling,
)

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SINCE = datetime(2026, 1, 1, 12, 3, 11, tzinfo=timezone.utc)
POWER = Reading(9.25, "measured", "INA3221 VDD_IN")

FULL_DEVICE = DeviceReading(
    temperature_c=Reading(48.3, "measured", "cpu-thermal"),
    power_w=POWER,
    temperatures_c={"cpu-thermal": 48.3, "gpu-thermal": -3.0},
    power=PowerReading(POWER, "board", (Rail("VDD_IN", 9.25), Rail("VDD_SOC", None))),
    energy=Energy(1850.0, 200.0, 4.25),
    throttling=Throttling(
        frozenset({"under-voltage"}), frozenset({"under-voltage", "throttled"}), {"oc1": 3}, "get_throttled"
    ),
    clocks_mhz={"cpu": 1510.4},
    cpu_share=0.25,
    gpu_share=None,
    power_mode="15W",
    resident_mib=128.5,
)
DOOR = CameraFigures(
    source="rtsp://***@camera/stream",
    state="live",
    state_since=SINCE,
    losses=2,
    model="ssdlite-mnv2-coco",
    task="detect",
    engine="onnxruntime",
    precision="int8",
    frames=1234,
    fps=12.5,
    age=Percentiles(20.0, 35.0, 41.5),
    stages={"infer": Percentiles(8.0, 9.0, 12.0)},
    drops={"camera": 4, "jsonl /data/a b.jsonl": 1},
    counts={"person": 2, "dog": 1},
)
GATE = CameraFigures(
    source="/dev/video1", state="lost", reason="No frame for 2 s.", lost_since=SINCE, counts={"car": 1}
)
FULL = Snapshot(FULL_DEVICE, {"door": DOOR, "gate": GATE}, START, "0.6.0")
BARE = Snapshot(DeviceReading(), {"camera": CameraFigures()}, START, "0.6.0")
