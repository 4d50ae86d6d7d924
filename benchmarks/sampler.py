"""Measure what telemetry costs: a reading of all sensors, and what each result adds to the loop's figures.

The sensors are stand-ins for those of an Orin Nano and a Raspberry Pi 5, files that this script writes: what
a real driver adds, such as a transfer on a slow bus, is not in it. What the Pi's tool costs is measured with
a script in its place, and added.
Usage: python benchmarks/sampler.py [SAMPLES]
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import psutil

from edge_mnv2.readings import DeviceReading
from edge_mnv2.results import Detections, FrameResult
from edge_mnv2.telemetry.camera_meter import CameraMeter
from edge_mnv2.telemetry.device import DeviceSensors
from edge_mnv2.telemetry.sampler import DeviceSampler
from edge_mnv2.telemetry.vcgencmd import run_vcgencmd

_LIMIT = 0.01
_ZONES = (
    "cpu-thermal",
    "gpu-thermal",
    "cv0-thermal",
    "soc0-thermal",
    "soc1-thermal",
    "soc2-thermal",
    "tj-thermal",
)
_PROC = {
    "proc/stat": "cpu  4000 100 900 95000 400 50 20 0 0 0",
    "proc/self/statm": "120000 51200 9000 600 0 80000 0",
}
_ORIN = {
    **{f"sys/class/thermal/thermal_zone{number}/type": name for number, name in enumerate(_ZONES)},
    **{f"sys/class/thermal/thermal_zone{number}/temp": "48968" for number in range(len(_ZONES))},
    **{f"sys/devices/system/cpu/cpufreq/policy{cpu}/scaling_cur_freq": "1510400" for cpu in (0, 4)},
    "sys/class/devfreq/17000000.gpu/cur_freq": "624750000",
    "sys/class/devfreq/17000000.gpu/device/load": "453",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc",
    **{f"sys/class/hwmon/hwmon3/oc{event}_event_cnt": "3" for event in (1, 2, 3)},
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=15W >",
    **{
        f"sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/{name}": value
        for channel, rail in enumerate(("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), 1)
        for name, value in (
            (f"in{channel}_label", rail),
            (f"in{channel}_input", "4984"),
            (f"curr{channel}_input", "1856"),
        )
    },
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/name": "ina3221",
}
_PI = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "sys/class/thermal/thermal_zone0/temp": "48312",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "2400000",
    "sys/firmware/devicetree/base/model": "Raspberry Pi 5 Model B Rev 1.0",
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "0",
}
_PMIC = (
    *("3V7_WL_SW", "3V3_SYS", "1V8_SYS", "DDR_VDD2", "DDR_VDDQ", "1V1_SYS"),
    *("0V8_SW", "VDD_CORE", "0V8_AON", "3V3_DAC", "3V3_ADC", "HDMI"),
)
_FIRMWARE = {
    "get_throttled": "throttled=0x0",
    "pmic_read_adc": "\n".join(f" {rail}_A current(0)=0.1A\n {rail}_V volt(1)=1.0V" for rail in _PMIC),
}


class Hurried:
    """Sensors to which a second passes between two readings, however fast they come.

    Args:
        root: The machine's files.
        firmware: Answers of its firmware by question.
        enough: How many readings are wanted.
    """

    def __init__(self, root: Path, firmware: Mapping[str, str], enough: int) -> None:
        self.asked = 0
        self.readings = 0
        self.is_enough = threading.Event()
        self._firmware = firmware
        self._enough = enough
        self._now_ns = time.monotonic_ns()
        self._sensors = DeviceSensors(
            root / "sys",
            root / "proc",
            root,
            vcgencmd=self._ask,
            tegrastats=None,
            nvpmodel=lambda: None,
            clock_ns=lambda: self._now_ns,
        )
        self._sensors.read()

    def read(self) -> DeviceReading:
        """Return what the sensors say a second later."""
        self._now_ns += 1_000_000_000
        self.readings += 1
        if self.readings == self._enough:
            self.is_enough.set()
        return self._sensors.read()

    def close(self) -> None:
        """Close the files."""
        self._sensors.close()

    def _ask(self, question: str) -> str | None:
        self.asked += 1
        return self._firmware.get(question)


def main() -> None:
    """Print the table; fail where a reading a second costs more than a hundredth of a core."""
    enough = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    logging.disable(logging.CRITICAL)
    opened = count_opened()
    shares = []
    with tempfile.TemporaryDirectory() as folder:
        tool_s = tool_cost_s(Path(folder))
        for name, files, firmware in (("Orin Nano", _ORIN, {}), ("Pi 5", _PI, _FIRMWARE)):
            root = Path(folder) / name
            for path, text in {**_PROC, **files}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(f"{text}\n", encoding="utf-8")
            hurried = Hurried(root, firmware, enough)
            opened.clear()
            each_s, reading = sampler_cost_s(hurried)
            asked = hurried.asked / hurried.readings if firmware else 0.0
            shares.append(each_s + asked * tool_s)
            print(f"{name}: {reading.temperature_c.value} C, {reading.power_w.value} W at the end")
            print(f"  {each_s * 1e6:6.1f} us of processor time for each of {hurried.readings} readings")
            print(f"  {asked:6.2f} questions to the firmware in a second, {tool_s * 1e3:.1f} ms for each")
            print(f"  {opened.total():6} files opened")
            print(f"  {shares[-1]:6.3%} of one core at one reading a second")
    each_us, read_ms = meter_cost()
    print(f"Camera meter: {each_us:.1f} us for each result, {read_ms:.1f} ms to read a minute at 1000 Hz")
    sys.exit(max(shares) >= _LIMIT)


def sampler_cost_s(sensors: Hurried) -> tuple[float, DeviceReading]:
    """Return the processor time of a reading in the sampler's thread, in seconds, and the last reading."""
    before_s, readings = cpu_s(), sensors.readings
    sampler = DeviceSampler(lambda: sensors, 0.001, idle_path=Path("/nowhere"))
    sensors.is_enough.wait()
    reading = sampler.latest()
    sampler.close()
    return (cpu_s() - before_s) / (sensors.readings - readings), reading


def tool_cost_s(folder: Path) -> float:
    """Return the processor time of a question to a `vcgencmd`, that of the child included, in seconds."""
    tool = folder / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x0\n", encoding="utf-8")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    run_vcgencmd("get_throttled")
    before_s = cpu_s()
    for _ in range(100):
        run_vcgencmd("get_throttled")
    return (cpu_s() - before_s) / 100


def cpu_s() -> float:
    """Return the processor time of this process and of the children it has waited for."""
    return sum(psutil.Process().cpu_times()[:4])


def meter_cost() -> tuple[float, float]:
    """Return microseconds for a result, and milliseconds to read the figures, at 1000 frames a second."""
    count = 4
    found = Detections(
        np.zeros((count, 4), np.float32), np.ones(count, np.float32), np.arange(count, dtype=np.int64)
    )
    stages: Mapping[str, float] = {"prepare": 0.3, "infer": 8.7, "decode": 0.2, "overlay": 0.6}
    now = datetime.now(timezone.utc)
    result = FrameResult("x", 0, 0, now, 20.0, 640, 480, "m", "detect", {}, found, stages, None)
    clock_ns = [0]
    meter = CameraMeter("x", clock_ns=lambda: clock_ns[0])
    frames = 60_000
    start_ns = time.perf_counter_ns()
    for _ in range(frames):
        clock_ns[0] += 1_000_000
        meter.result(result, "onnxruntime", "int8")
    each_us = (time.perf_counter_ns() - start_ns) / frames / 1e3
    start_ns = time.perf_counter_ns()
    meter.figures()
    return each_us, (time.perf_counter_ns() - start_ns) / 1e6


def count_opened() -> Counter[str]:
    """Return what counts every file that Python opens from now on."""
    opened: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            opened[str(arguments[0])] += 1

    sys.addaudithook(hook)
    return opened


if __name__ == "__main__":
    main()
