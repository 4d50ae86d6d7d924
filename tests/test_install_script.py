"""`install.sh` up to where it would change something; scripts/rehearse_install.sh goes further."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(ROOT / "install.sh"), *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("board", "is_tegra", "device", "sees_system"),
    [
        (b"Raspberry Pi 5 Model B Rev 1.0\0", False, "(pi)", True),
        (b"NVIDIA Jetson Orin Nano Developer Kit\0", True, "(jetson)", True),
        (None, False, "(pc)", False),
    ],
)
def test_the_device_is_recognised_and_nothing_is_made(
    tmp_path: Path, board: bytes | None, is_tegra: bool, device: str, sees_system: bool
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('PRETTY_NAME="Ubuntu 22.04.4 LTS"\n')
    if is_tegra:
        (tmp_path / "etc" / "nv_tegra_release").touch()
    if board:
        (tmp_path / "proc" / "device-tree").mkdir(parents=True)
        (tmp_path / "proc" / "device-tree" / "model").write_bytes(board)
    done = install("--dry-run", "--prefix", tmp_path / "a b", "--detect-root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Ubuntu 22.04.4 LTS" in done.stdout
    assert device in done.stdout
    assert ("which sees the system's Python packages" in done.stdout) == sees_system
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bogus"], "unknown option: --bogus"),
        (["--demo", "--test"], "--demo and --test exclude each other"),
        (["--prefix"], "--prefix wants a value"),
    ],
)
def test_wrong_options_are_refused_in_one_line(arguments: list[str], message: str) -> None:
    done = install(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"install.sh: {message}; --help lists the options\n"


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    done = install("--dev", "--dry-run", "--prefix", tmp_path)
    assert done.returncode == 1
    assert "was not made by this script" in done.stderr
    done = install("--uninstall", "--prefix", tmp_path)
    assert done.returncode == 0
    assert "left as it is" in done.stdout
    assert (tmp_path / "precious").exists()


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = install("--dry-run", "--python", tmp_path / "none")
    assert done.returncode == 1
    assert "there is no program" in done.stderr


def test_help_names_every_option() -> None:
    done = install("--help")
    assert done.returncode == 0
    for option in ("--demo", "--test", "--dev", "--prefix", "--uninstall", "--python", "--yes"):
        assert option in done.stdout
