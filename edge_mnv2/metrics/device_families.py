"""Metrics of the device: power, energy, heat, throttling, clocks, load."""

from __future__ import annotations

from collections.abc import Iterator

from edge_mnv2.metrics.families import Family, Row, counter, gauge, info
from edge_mnv2.readings import DeviceReading

_MIB = 1024 * 1024


def device_families(device: DeviceReading) -> Iterator[Family]:
    """Yield what a device says; what it does not say has no sample."""
    yield from _power(device)
    yield from _heat(device)
    yield gauge(
        "edge_mnv2_clock_hertz",
        "Clock by part; of the processor, its fastest core.",
        [((part,), mhz * 1e6) for part, mhz in device.clocks_mhz.items()],
        ("part",),
        "hertz",
    )
    yield gauge(
        "edge_mnv2_busy_ratio",
        "Busy share, 0 to 1: of all cores, and of the GPU.",
        [(("cpu",), device.cpu_share), (("gpu",), device.gpu_share)],
        ("part",),
        "ratio",
    )
    resident = device.resident_mib
    yield gauge(
        "edge_mnv2_resident_memory_bytes",
        "Memory of this process.",
        [((), None if resident is None else resident * _MIB)],
        unit="bytes",
    )
    yield info(
        "edge_mnv2_power_mode",
        "Power mode of a Jetson.",
        ("mode",),
        [] if device.power_mode is None else [(device.power_mode,)],
    )


def _power(device: DeviceReading) -> Iterator[Family]:
    power, energy = device.power, device.energy
    total = power.total_w if power.total_w.value is not None else device.power_w
    yield gauge(
        "edge_mnv2_power_watts",
        "Power now; scope says of what, kind whether it was measured or estimated.",
        [((total.sensor, total.kind, power.scope), total.value)],
        ("source", "kind", "scope"),
        "watts",
    )
    yield gauge(
        "edge_mnv2_rail_power_watts",
        "Power of single supply rails now; they need not add up to the total.",
        [((rail.name,), rail.power_w) for rail in power.rails],
        ("rail",),
        "watts",
    )
    yield gauge(
        "edge_mnv2_idle_power_watts",
        "Remembered power of this device while it idles.",
        [((), energy.idle_w)],
        unit="watts",
    )
    yield counter(
        "edge_mnv2_energy_joules",
        "Energy since the start, integrated over the readings of power.",
        [((), energy.total_j)],
        unit="joules",
    )
    span_s = energy.span_s if energy.total_j is not None else None
    yield counter(
        "edge_mnv2_energy_known_seconds",
        "For how long power was known: what the energy covers.",
        [((), span_s)],
        unit="seconds",
    )


def _heat(device: DeviceReading) -> Iterator[Family]:
    processor = device.temperature_c
    yield gauge(
        "edge_mnv2_processor_temperature_celsius",
        "Temperature of the processor; kind says whether it was measured.",
        [((processor.sensor, processor.kind), processor.value)],
        ("source", "kind"),
        "celsius",
    )
    yield gauge(
        "edge_mnv2_temperature_celsius",
        "Temperature by thermal zone.",
        [((zone,), value) for zone, value in device.temperatures_c.items()],
        ("zone",),
        "celsius",
    )
    throttling = device.throttling
    now: list[Row] = []
    ever: list[Row] = []
    counts: list[Row] = []
    if throttling is not None:
        seen = sorted(throttling.now | throttling.since_boot)
        now = [((condition,), float(condition in throttling.now)) for condition in seen]
        ever = [((condition,), 1.0) for condition in seen]
        counts = [((event,), count) for event, count in sorted(throttling.counts.items())]
    yield gauge(
        "edge_mnv2_throttling_conditions",
        "How many conditions slow the device down now; 0 where all is well, absent where nobody tells.",
        [((), None if throttling is None else len(throttling.now))],
    )
    yield gauge(
        "edge_mnv2_throttled",
        "Whether a condition slows the device down now, of those that did since boot.",
        now,
        ("condition",),
    )
    yield gauge(
        "edge_mnv2_throttled_since_boot",
        "Conditions that slowed the device down at some time since boot.",
        ever,
        ("condition",),
    )
    yield counter("edge_mnv2_throttling_events", "Events since boot by their name.", counts, ("event",))
