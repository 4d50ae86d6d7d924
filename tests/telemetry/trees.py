"""Stand-ins for `/sys`: the files by which boards tell their power, laid out and linked as the kernel does.

Each builder writes below a root that another one may have written to before, and returns it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# `vcgencmd pmic_read_adc` on an idle Raspberry Pi 5: rail, amperes, volts, both channels of the converter.
_PMIC = (
    ("3V7_WL_SW", 0.07709848, 0, 3.69049700, 8),
    ("3V3_SYS", 0.04782057, 1, 3.29982600, 9),
    ("1V8_SYS", 0.11515970, 2, 1.79633500, 10),
    ("DDR_VDD2", 0.00780744, 3, 1.10805800, 11),
    ("DDR_VDDQ", 0.00000000, 4, 0.60329610, 12),
    ("1V1_SYS", 0.17664330, 5, 1.10146400, 13),
    ("0V8_SW", 0.33084030, 6, 0.80219700, 14),
    ("VDD_CORE", 0.94657990, 7, 0.72097620, 15),
    ("0V8_AON", 0.00494505, 16, 0.79941320, 19),
    ("3V3_DAC", 0.00146520, 17, 3.30402600, 20),
    ("3V3_ADC", 0.00140415, 18, 3.29670000, 21),
    ("HDMI", 0.01697190, 22, 5.11612000, 23),
)
# What is measured there without a current.
_PMIC_VOLTS = (("EXT5V", 5.11478000, 24), ("BATT", 0.01880340, 25))

PMIC_CAPTURE = "\n".join(
    [
        *(f"{name + '_A':>15} current({at})={amperes:.8f}A" for name, amperes, at, _, _ in _PMIC),
        *(f"{name + '_V':>15} volt({at})={volts:.8f}V" for name, _, _, volts, at in _PMIC),
        *(f"{name + '_V':>15} volt({at})={volts:.8f}V" for name, volts, at in _PMIC_VOLTS),
    ]
)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Yield a folder that every user may enter, other than pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Go on without root's rights, for which there is no unreadable file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    """Write files below `root`, by relative path, each with the line end of the kernel; return `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n", encoding="utf-8")
    return root


def link(root: Path, name: str, target: str) -> Path:
    """Make a symbolic link below `root` to another path below it; return the link."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(root / target)
    return path


def hwmon(root: Path, number: int, device: str, files: Mapping[str, str]) -> Path:
    """Write a hwmon device of `devices/DEVICE`, as the kernel shows it; return its folder."""
    folder = f"devices/{device}/hwmon/hwmon{number}"
    write_tree(root, {f"{folder}/{name}": text for name, text in files.items()})
    link(root, f"{folder}/device", f"devices/{device}")
    link(root, f"class/hwmon/hwmon{number}", folder)
    return root / folder


def ina3221_hwmon(
    root: Path, address: str, number: int, rails: Sequence[tuple[str, int, int] | None]
) -> Path:
    """Write an INA3221 of JetPack 5 and later: label, mV, mA of each channel; None is switched off."""
    device = f"platform/bus/i2c-{address[0]}/{address}"
    files = {
        "name": "ina3221",
        "curr4_input": str(sum(rail[2] for rail in rails if rail)),
        "in7_label": "sum of shunt voltages",
        "in7_input": "9",
        "in7_enable": "1",
    }
    for channel, rail in enumerate(rails, 1):
        name, millivolts, milliamperes = rail or ("NC", 0, 0)
        files |= {
            f"in{channel}_label": name,
            f"in{channel}_input": str(millivolts),
            f"in{channel}_enable": "1" if rail else "0",
            f"curr{channel}_input": str(milliamperes),
            f"in{channel + 3}_input": str(milliamperes * 5 // 1000),
        }
    folder = hwmon(root, number, device, files)
    if not (root / "bus/i2c/drivers/ina3221" / address).is_symlink():
        link(root, f"bus/i2c/drivers/ina3221/{address}", f"devices/{device}")
    return folder


def ina3221_iio(root: Path, address: str, rails: Sequence[tuple[str, int, int, int]]) -> Path:
    """Write an INA3221 of JetPack 4: name, mV, mA, mW of each channel."""
    folder = f"devices/platform/bus/i2c-{address[0]}/{address}/iio:device0"
    for channel, (name, millivolts, milliamperes, milliwatts) in enumerate(rails):
        write_tree(
            root,
            {
                f"{folder}/rail_name_{channel}": name,
                f"{folder}/in_voltage{channel}_input": str(millivolts),
                f"{folder}/in_current{channel}_input": str(milliamperes),
                f"{folder}/in_power{channel}_input": str(milliwatts),
            },
        )
    link(root, f"bus/i2c/drivers/ina3221x/{address}", f"devices/platform/bus/i2c-{address[0]}/{address}")
    return root / folder


def jetson_nano(root: Path) -> Path:
    """Jetson Nano, JetPack 4: 2.17 W."""
    ina3221_iio(
        root,
        "6-0040",
        [
            ("POM_5V_IN", 5072, 428, 2170),
            ("POM_5V_GPU", 5072, 8, 40),
            ("POM_5V_CPU", 5072, 96, 486),
        ],
    )
    return root


def xavier_nx_jp4(root: Path) -> Path:
    """Jetson Xavier NX, JetPack 4: 4.761 W."""
    ina3221_iio(
        root,
        "7-0040",
        [("VDD_IN", 5040, 945, 4761), ("VDD_CPU_GPU_CV", 5040, 160, 806), ("VDD_SOC", 5040, 190, 957)],
    )
    return root


def xavier_nx_jp5(root: Path) -> Path:
    """Jetson Xavier NX, JetPack 5: 4.7628 W."""
    ina3221_hwmon(
        root, "7-0040", 4, [("VDD_IN", 5040, 945), ("VDD_CPU_GPU_CV", 5040, 160), ("VDD_SOC", 5040, 190)]
    )
    return root


def orin_nano(root: Path, number: int = 1) -> Path:
    """Jetson Orin Nano: 9.250 W."""
    ina3221_hwmon(
        root,
        "1-0040",
        number,
        [("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4984, 376), ("VDD_SOC", 4984, 416)],
    )
    return root


def agx_orin(root: Path) -> Path:
    """Jetson AGX Orin, two chips: 3.9808 + 0.7920 + 4.7345 + 0.7934 = 10.3007 W."""
    ina3221_hwmon(
        root,
        "1-0040",
        3,
        [("VDD_GPU_SOC", 19904, 200), ("VDD_CPU_CV", 19800, 40), ("VIN_SYS_5V0", 4968, 953)],
    )
    ina3221_hwmon(root, "1-0041", 4, [None, ("VDDQ_VDD2_1V8AO", 4990, 159), ("NC", 1200, 8)])
    return root


def raspberry_pi(root: Path, model: str) -> Path:
    """A Raspberry Pi: its hwmon tells of a low voltage, and of no power."""
    hwmon(
        root, 1, "platform/soc/soc:firmware/raspberrypi-hwmon", {"name": "rpi_volt", "in0_lcrit_alarm": "0"}
    )
    return write_tree(root, {"firmware/devicetree/base/model": f"{model}\0"})


def ina219(root: Path, number: int = 2, address: str = "1-0041", microwatts: int = 3_120_000) -> Path:
    """An INA219 in the supply line; returns its folder, which depends on the number."""
    return hwmon(
        root,
        number,
        f"platform/soc/i2c-{address[0]}/{address}",
        {
            "name": "ina219",
            "in0_input": "6",
            "in1_input": "5128",
            "curr1_input": "609",
            "power1_input": str(microwatts),
            "shunt_resistor": "100000",
        },
    )


def rapl(root: Path, counters: Mapping[str, tuple[str, int | None]], range_uj: int = 262_143_328_850) -> Path:
    """Write RAPL's domains: name and counter in microjoules by zone; None where it cannot be read."""
    for zone, (name, energy_uj) in counters.items():
        parts = zone.split(":")
        above = "".join(f"{':'.join(parts[: end + 1])}/" for end in range(1, len(parts)))
        folder = f"devices/virtual/powercap/intel-rapl/{above}".rstrip("/")
        files = {"name": name, "max_energy_range_uj": str(range_uj)}
        if energy_uj is not None:
            files["energy_uj"] = str(energy_uj)
        write_tree(root, {f"{folder}/{file}": text for file, text in files.items()})
        if not (root / "class/powercap" / zone).is_symlink():
            link(root, f"class/powercap/{zone}", folder)
    return root


def battery(
    root: Path, status: str, values: Mapping[str, int], *, name: str = "BAT0", online: int = 0
) -> Path:
    """A laptop's battery, and its charger."""
    folder = f"class/power_supply/{name}"
    files = {"type": "Battery", "status": status, **{key: str(value) for key, value in values.items()}}
    write_tree(root, {f"{folder}/{file}": text for file, text in files.items()})
    return write_tree(
        root, {"class/power_supply/AC/type": "Mains", "class/power_supply/AC/online": str(online)}
    )


def laptop(root: Path) -> Path:
    """An x86 laptop on its battery: 8.4 W from there, RAPL counters that begin at 1 J."""
    rapl(
        root,
        {
            "intel-rapl:0": ("package-0", 1_000_000),
            "intel-rapl:0:0": ("core", 500_000),
            "intel-rapl:0:1": ("uncore", 20_000),
        },
    )
    # The same package by another interface: not to be added.
    rapl(root, {"intel-rapl-mmio:0": ("package-0", 1_000_000)})
    return battery(root, "Discharging", {"voltage_now": 12_000_000, "current_now": 700_000})


def bare_vm(root: Path) -> Path:
    """A virtual machine: nothing that tells power."""
    return write_tree(
        root, {"class/power_supply/.keep": "", "class/thermal/cooling_device0/type": "Processor"}
    )
