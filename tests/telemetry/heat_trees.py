"""Whole machines for the sensors: `/sys`, `/proc`, `/etc` and `/var` of boards, with plausible values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_mnv2.telemetry.device import DeviceSensors
from tests.telemetry import trees
from tests.telemetry.trees import hwmon, link, write_tree

NVPMODEL_CONF = """\
# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
# MAXN is the NONE power model to release all constraints
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=MODE_10W_2CORE >
< POWER_MODEL ID=2 NAME=15W >
< PM_CONFIG DEFAULT=2 >"""


@dataclass(slots=True)
class Clock:
    """A monotonic clock that is moved by hand."""

    now_ns: int = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@dataclass(slots=True)
class Firmware:
    """A Raspberry Pi's firmware by `vcgencmd`: answers by question, and what it was asked."""

    answers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, question: str) -> str | None:
        self.asked.append(question)
        return self.answers.get(question)


@dataclass(slots=True)
class Machine:
    """A machine's files below one folder, and its tools."""

    root: Path
    firmware: Firmware = field(default_factory=Firmware)
    clock: Clock = field(default_factory=Clock)

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    def open(self) -> DeviceSensors:
        """Open its sensors."""
        return DeviceSensors(
            self.sys,
            self.proc,
            self.root,
            vcgencmd=self.firmware,
            tegrastats=None,
            nvpmodel=lambda: None,
            clock_ns=self.clock,
        )

    def write(self, files: Mapping[str, str]) -> None:
        """Write files below `sys`, as a sensor does: in place."""
        write_tree(self.sys, files)

    def spend(self, busy: int, idle: int) -> None:
        """Let processor time go by, in ticks."""
        stat = self.proc / "stat"
        words = stat.read_text().split("\n", maxsplit=1)[0].split()
        words[1], words[4] = str(int(words[1]) + busy), str(int(words[4]) + idle)
        stat.write_text(f"{' '.join(words)}\ncpu0 1 2 3 4\n")


def zones(sys: Path, values: Mapping[str, str | None]) -> None:
    """Write thermal zones by type, in this order; None: one that cannot be read, as it sleeps."""
    for number, (kind, value) in enumerate(values.items()):
        folder = f"devices/virtual/thermal/thermal_zone{number}"
        write_tree(sys, {f"{folder}/type": kind})
        if value is None:
            (sys / folder / "temp").mkdir()  # even root cannot read a folder
        else:
            write_tree(sys, {f"{folder}/temp": value})
        link(sys, f"class/thermal/thermal_zone{number}", folder)


def cpus(sys: Path, *clocks_khz: int) -> None:
    """Write one policy of frequencies for each clock."""
    for number, clock_khz in enumerate(clocks_khz):
        name = f"devices/system/cpu/cpufreq/policy{number}/scaling_cur_freq"
        write_tree(sys, {name: str(clock_khz)})


def gpu(sys: Path, name: str, clock_hz: int, load: int) -> None:
    """Write a Jetson's GPU, as `gpu.0` too, and another device of the same class."""
    folder = f"devices/platform/{name}"
    write_tree(sys, {f"{folder}/load": str(load), f"{folder}/devfreq/{name}/cur_freq": str(clock_hz)})
    link(sys, f"{folder}/devfreq/{name}/device", folder)
    link(sys, f"class/devfreq/{name}", f"{folder}/devfreq/{name}")
    link(sys, "devices/gpu.0", folder)
    write_tree(sys, {"class/devfreq/15340000.vic/cur_freq": "115200000"})


def over_current(sys: Path, number: int, counts: tuple[int, int, int], enabled: str = "111") -> Path:
    """Write an Orin's counters of events."""
    files = {"name": "soctherm_oc"}
    for event, (count, is_enabled) in enumerate(zip(counts, enabled, strict=True), 1):
        files |= {f"oc{event}_event_cnt": str(count), f"oc{event}_throt_en": is_enabled}
    return hwmon(sys, number, "platform/soctherm-oc-event", files)


def machine(root: Path) -> Machine:
    """Return a machine that has processes, and nothing else."""
    write_tree(
        root / "proc",
        {
            "stat": "cpu  4000 100 900 95000 400 50 20 0 0 0\ncpu0 2000 50 450 47500 200 25 10 0 0 0",
            "self/statm": "120000 51200 9000 600 0 80000 0",
        },
    )
    (root / "sys").mkdir()
    return Machine(root)


def nano(root: Path) -> Machine:
    """Jetson Nano, JetPack 4."""
    found = machine(root)
    trees.jetson_nano(found.sys)
    heat = {"AO-therm": "39500", "CPU-therm": "31000", "GPU-therm": "30500", "PLL-therm": "29500"}
    zones(found.sys, {**heat, "PMIC-Die": "100000", "thermal-fan-est": "31100"})
    cpus(found.sys, 1_479_000)
    gpu(found.sys, "57000000.gpu", 921_600_000, 453)
    return _with_mode(found, "pmode:0000")


def xavier_nx(root: Path) -> Machine:
    """Jetson Xavier NX, JetPack 5."""
    found = machine(root)
    trees.xavier_nx_jp5(found.sys)
    heat = {"CPU-therm": "42500", "GPU-therm": "41000", "AUX-therm": "41500", "AO-therm": "41000"}
    zones(found.sys, {**heat, "PMIC-Die": "50000"})
    cpus(found.sys, 1_420_800, 1_190_400, 1_190_400)
    gpu(found.sys, "17000000.gv11b", 1_109_250_000, 998)
    return _with_mode(found, "pmode:0001 fmode:quiet")


def orin_nano(root: Path) -> Machine:
    """Jetson Orin Nano, JetPack 6: the parts for vision sleep."""
    found = machine(root)
    trees.orin_nano(found.sys)
    sleeping = {"cv0-thermal": None, "cv1-thermal": None, "cv2-thermal": "-256000"}
    zones(
        found.sys,
        {
            "cpu-thermal": "51000",
            "gpu-thermal": "49875",
            **sleeping,
            "soc0-thermal": "48968",
            "tj-thermal": "51531",
        },
    )
    cpus(found.sys, 1_510_400, 729_600)
    gpu(found.sys, "17000000.gpu", 624_750_000, 0)
    over_current(found.sys, 3, (0, 15, 37))
    return _with_mode(found, "pmode:0002")


def agx_orin(root: Path) -> Machine:
    """Jetson AGX Orin, JetPack 5."""
    found = machine(root)
    trees.agx_orin(found.sys)
    zones(
        found.sys,
        {"CPU-therm": "47000", "GPU-therm": "43500", "tj-thermal": "47093", "Tboard_tegra": "38000"},
    )
    cpus(found.sys, 2_201_600, 2_201_600, 729_600)
    gpu(found.sys, "17000000.ga10b", 1_300_500_000, 713)
    over_current(found.sys, 5, (0, 0, 0), "011")
    return _with_mode(found, "pmode:0000")


def pi_4(root: Path) -> Machine:
    """Raspberry Pi 4: no sensor of power."""
    found = machine(root)
    trees.raspberry_pi(found.sys, "Raspberry Pi 4 Model B Rev 1.4")
    zones(found.sys, {"cpu-thermal": "48312"})
    hwmon(found.sys, 0, "virtual/thermal/thermal_zone0", {"name": "cpu_thermal", "temp1_input": "48312"})
    cpus(found.sys, 1_500_000)
    found.write({"devices/platform/soc/soc:firmware/get_throttled": "0"})
    found.firmware.answers["get_throttled"] = "throttled=0x0"
    return found


def pi_5(root: Path) -> Machine:
    """Raspberry Pi 5: power by the tool, and the firmware at another place."""
    found = machine(root)
    trees.raspberry_pi(found.sys, "Raspberry Pi 5 Model B Rev 1.0")
    zones(found.sys, {"cpu-thermal": "53450"})
    hwmon(found.sys, 3, "platform/rp1/adc", {"name": "rp1_adc", "temp1_input": "45120"})
    cpus(found.sys, 2_400_000)
    found.write({"devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50005"})
    found.firmware.answers = {"get_throttled": "throttled=0xd0005", "pmic_read_adc": trees.PMIC_CAPTURE}
    return found


def laptop(root: Path) -> Machine:
    """An x86 laptop on its battery."""
    found = machine(root)
    trees.laptop(found.sys)
    zones(
        found.sys, {"acpitz": "27800", "INT3400 Thermal": "20000", "x86_pkg_temp": "61000", "iwlwifi_1": None}
    )
    hwmon(found.sys, 5, "platform/coretemp.0", {"name": "coretemp", "temp1_input": "61000"})
    cpus(found.sys, 3_187_000, 800_000, 2_900_000, 1_100_000)
    for number, count in enumerate((7, 9, 9, 7)):
        found.write({f"devices/system/cpu/cpu{number}/thermal_throttle/core_throttle_count": str(count)})
    return found


def bare_vm(root: Path) -> Machine:
    """A virtual machine: no sensor at all."""
    found = machine(root)
    trees.bare_vm(found.sys)
    return found


BOARDS: dict[str, Callable[[Path], Machine]] = {
    "Nano": nano,
    "Xavier NX": xavier_nx,
    "Orin Nano": orin_nano,
    "AGX Orin": agx_orin,
    "Pi 4": pi_4,
    "Pi 5": pi_5,
    "laptop": laptop,
    "bare VM": bare_vm,
}


def _with_mode(found: Machine, status: str) -> Machine:
    write_tree(found.root, {"var/lib/nvpmodel/status": status, "etc/nvpmodel.conf": NVPMODEL_CONF})
    return found
