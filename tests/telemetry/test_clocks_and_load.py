from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from edge_mnv2.telemetry.clocks import Clocks
from edge_mnv2.telemetry.load import CpuLoad, GpuLoad
from edge_mnv2.telemetry.memory import ResidentSize, resident_mib
from tests.telemetry.heat_trees import cpus, gpu, machine
from tests.telemetry.trees import write_tree


@pytest.mark.parametrize(
    "name",
    ["57000000.gpu", "17000000.gp10b", "17000000.gv11b", "17000000.ga10b", "17000000.gpu", "gpu-gpc-0"],
)
def test_the_gpu_of_every_jetson_is_found(name: str, tmp_path: Path) -> None:
    gpu(tmp_path, name, 318_750_000, 333)
    assert Clocks(tmp_path).read_mhz() == {"gpu": 318.75}
    assert GpuLoad(tmp_path).read_share() == 0.333


@pytest.mark.parametrize("place", ["devices/gpu.0/load", "devices/platform/gpu.0/load"])
def test_gpu_load_by_the_links_of_older_and_newer_releases(place: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {place: "1000"})
    assert GpuLoad(tmp_path).read_share() == 1.0


@pytest.mark.parametrize("load", ["-1", "1001", "", "busy"])
def test_what_is_no_load_is_unavailable(load: str, tmp_path: Path) -> None:
    write_tree(tmp_path, {"devices/gpu.0/load": load})
    assert GpuLoad(tmp_path).read_share() is None


def test_the_fastest_core_counts_and_one_that_is_off_does_not(tmp_path: Path) -> None:
    cpus(tmp_path, 800_000, 1_800_000, 600_000)
    clocks = Clocks(tmp_path)
    assert clocks.read_mhz() == {"cpu": 1800.0}
    write_tree(tmp_path, {"devices/system/cpu/cpufreq/policy1/scaling_cur_freq": "<unknown>"})
    assert clocks.read_mhz() == {"cpu": 800.0}
    clocks.close()


def test_kernels_without_policies_have_a_clock_for_each_processor(tmp_path: Path) -> None:
    write_tree(tmp_path, {"devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1200000"})
    assert Clocks(tmp_path).read_mhz() == {"cpu": 1200.0}


def test_the_busy_share_lies_between_two_readings(tmp_path: Path) -> None:
    found = machine(tmp_path)
    load = CpuLoad(found.proc)
    assert load.read_share() is None
    found.spend(busy=30, idle=70)
    assert load.read_share() == pytest.approx(0.3)
    found.spend(busy=100, idle=0)
    assert load.read_share() == 1.0
    assert load.read_share() is None, "no tick has passed"
    found.spend(busy=0, idle=10)
    assert load.read_share() == 0.0
    (found.proc / "stat").write_text("cpu  1 2 x\n")
    assert load.read_share() is None
    load.close()


def test_waiting_for_disks_is_idle_and_guests_are_counted_once(tmp_path: Path) -> None:
    load = CpuLoad(tmp_path)
    write_tree(tmp_path, {"stat": "cpu  100 0 0 100 0 0 0 0 50 0"})
    load.read_share()
    # 40 user (of which 40 in guests), 30 idle, 30 waiting.
    write_tree(tmp_path, {"stat": "cpu  140 0 0 130 30 0 0 0 90 0"})
    assert load.read_share() == pytest.approx(0.4)
    load.close()


def test_this_machine_agrees_with_psutil() -> None:
    load, size = CpuLoad(Path("/proc")), ResidentSize(Path("/proc"))
    load.read_share()
    before_s = sum(psutil.cpu_times()[:4])
    while sum(psutil.cpu_times()[:4]) < before_s + 0.2:
        os.sched_yield()
    share, size_mib = load.read_share(), size.read_mib()
    assert share is not None
    assert 0 < share <= 1
    assert size_mib == pytest.approx(resident_mib(), rel=0.2)
    load.close()
    size.close()
