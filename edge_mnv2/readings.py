"""What the device and the loop say of themselves: plain values, which sensors make and outputs show.

Whatever is unavailable is None, never 0, and every reading of a sensor says how it was obtained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timezone
from typing import Any, Literal

Kind = Literal["measured", "estimated", "unavailable"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One value, and where it is from.

    Attributes:
        value: None where it is unavailable.
        kind: Whether it was measured.
        sensor: Name of the sensor; empty without one.
    """

    value: float | None = None
    kind: Kind = "unavailable"
    sensor: str = ""


@dataclass(frozen=True, slots=True)
class Rail:
    """Power of one supply rail, in watts; None where it cannot be read now."""

    name: str
    power_w: float | None


@dataclass(frozen=True, slots=True)
class PowerReading:
    """Power at one moment.

    Attributes:
        total_w: What the source stands for as a whole, in watts; `sensor` names the source, such as
            `INA3221 VDD_IN` or `Raspberry Pi 5 PMIC, calibrated`.
        scope: What the total covers: `board`, `cpu package`, `battery`, or another plain name.
        rails: The single rails, in the sensor's order; whether they add up to the total depends on the board.
    """

    total_w: Reading = Reading()
    scope: str = ""
    rails: tuple[Rail, ...] = ()


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy since the sampler was started, integrated over the readings of power.

    Attributes:
        total_j: In joules; None while power is unavailable.
        span_s: For how long power was known: gaps do not count.
        idle_w: Remembered power of this device while it idles, in watts; None where it was never measured
            with this sensor.
    """

    total_j: float | None = None
    span_s: float = 0.0
    idle_w: float | None = None

    @property
    def above_idle_j(self) -> float | None:
        """Energy beyond what the device would have used at idle, in joules; None where that is unknown."""
        if self.total_j is None or self.idle_w is None:
            return None
        return self.total_j - self.idle_w * self.span_s


@dataclass(frozen=True, slots=True)
class Throttling:
    """Why the device runs slower than it could.

    Attributes:
        now: Conditions that hold now, such as `under-voltage` or `throttled`.
        since_boot: Conditions that held at some time since the device was started, the present ones included.
        counts: Events since boot by their name, where a device counts them.
        sensor: Who says so, such as `get_throttled`.
    """

    now: frozenset[str] = frozenset()
    since_boot: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    sensor: str = ""


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What the device says at one moment.

    Attributes:
        temperature_c: Of the processor, in degrees Celsius.
        power_w: Of the whole device, in watts: `power.total_w`.
        temperatures_c: Of every zone that can be read, by name.
        power: Total and rails.
        energy: Since the sampler was started.
        throttling: None where the device tells nothing of it.
        clocks_mhz: Clock by part: `cpu` (the fastest core), `gpu`.
        cpu_share: Busy share of all cores, 0 to 1; None before two readings.
        gpu_share: Busy share of the GPU, 0 to 1; None where the device does not tell.
        power_mode: Of a Jetson (nvpmodel), such as `15W`; None elsewhere.
        resident_mib: Memory of this process; None where it cannot be read.
        at_ns: When it was read, `time.monotonic_ns` domain.
    """

    temperature_c: Reading = Reading()
    power_w: Reading = Reading()
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    power: PowerReading = PowerReading()
    energy: Energy = Energy()
    throttling: Throttling | None = None
    clocks_mhz: Mapping[str, float] = field(default_factory=dict)
    cpu_share: float | None = None
    gpu_share: float | None = None
    power_mode: str | None = None
    resident_mib: float | None = None
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class DeviceEvent:
    """A change that somebody should hear of.

    Attributes:
        name: The condition, such as `under-voltage` or `throttled`.
        is_active: Whether it began; False: it ended. An event that only counts is active.
        at: When it was noticed.
        text: One sentence, such as `under-voltage since 12:03:11`.
    """

    name: str
    is_active: bool
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of one quantity, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class CameraFigures:
    """What the loop of one camera says of itself.

    Attributes:
        source: The device or stream, without credentials.
        state: `opening`, `live`, `stalled`, `lost`, `reconnecting`, or `ended`.
        reason: Why, as a sentence; empty where the state says it all.
        state_since: When this state began.
        lost_since: Time of the last frame; None while the camera is live, and before its first frame.
        losses: How often the camera was lost.
        attempts: How often it was opened, or tried to, since the start.
        model: Name of the model.
        task: `detect`, `segment` or `classify`.
        engine: Backend, such as `onnxruntime`; empty before the first result.
        precision: Of its graph, such as `int8`; empty before the first result.
        frames: Results so far.
        fps: Results per second over the window, None before there are two.
        age: From capture to the end of decoding, over the window; None without results in it.
        stages: Durations by stage, over the window.
        drops: Lost frames and results by cause, since the start.
        counts: Objects of the newest result by label.
        troubles: What is wrong with its outputs now, one sentence each.
    """

    source: str = ""
    state: str = "opening"
    reason: str = ""
    state_since: datetime | None = None
    lost_since: datetime | None = None
    losses: int = 0
    attempts: int = 0
    model: str = ""
    task: str = ""
    engine: str = ""
    precision: str = ""
    frames: int = 0
    fps: float | None = None
    age: Percentiles | None = None
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment, as metrics, MQTT, `status` and systemd's status line show it.

    Attributes:
        device: What the device says.
        cameras: By name; a single camera without a name is called `camera`.
        started_at: When this process began.
        version: Of edge-mnv2.
    """

    device: DeviceReading
    cameras: Mapping[str, CameraFigures]
    started_at: datetime
    version: str

    @property
    def fps(self) -> float | None:
        """Results per second of all cameras together, None while there are none."""
        rates = [camera.fps for camera in self.cameras.values() if camera.fps is not None]
        return sum(rates) if rates else None

    def joules_per_frame(self, *, above_idle: bool = False) -> float | None:
        """Return the present power divided by the present rate, in joules; None where either is unknown.

        Args:
            above_idle: Whether only the power beyond the device's remembered idle power counts.
        """
        power_w, idle_w = self.device.power_w.value, self.device.energy.idle_w
        if power_w is None or not self.fps or (above_idle and idle_w is None):
            return None
        return (power_w - (idle_w or 0.0 if above_idle else 0.0)) / self.fps


def as_plain(value: Any) -> Any:  # noqa: ANN401 - whatever readings hold
    """Return readings as JSON can carry them: by field name, sets sorted, times as ISO 8601 in UTC."""
    if is_dataclass(value):
        return {part.name: as_plain(getattr(value, part.name)) for part in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(part) for key, part in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [as_plain(part) for part in value]
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
