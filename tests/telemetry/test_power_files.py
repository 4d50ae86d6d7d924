"""Attributes that are opened once, and the firmware's tool."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_mnv2.telemetry.sysfs import SysFile, is_there, read_int, read_text
from edge_mnv2.telemetry.vcgencmd import run_vcgencmd
from tests.telemetry.trees import open_folder, ordinary_user


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def secret() -> Iterator[Path]:
    """A file that nobody may read; the test runs as an ordinary user."""
    with open_folder() as folder:
        path = folder / "energy_uj"
        path.write_text("123\n")
        path.chmod(0)
        with ordinary_user():
            yield path


def test_it_is_opened_once_and_tells_the_value_of_now(tmp_path: Path, opened: list[str]) -> None:
    path = tmp_path / "power1_input"
    path.write_text(" 1200\n")
    file = SysFile(path)
    assert str(path) not in opened
    assert file.read_int() == 1200
    path.write_text("-7\n")
    assert file.read() == "-7"
    assert file.read_int() == -7
    assert opened.count(str(path)) == 1
    file.close()
    file.close()


@pytest.mark.parametrize("text", ["", "off", "12.5", "1 2", "\0", "12W"])
def test_what_is_no_whole_number_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    assert read_int(tmp_path / "a") is None
    assert read_text(tmp_path / "a") == text.strip()


def test_bytes_that_are_no_text_do_not_end_the_sampler(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    assert read_int(tmp_path / "a") is None
    assert read_text(tmp_path / "a")


def test_a_file_that_vanishes_is_none_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    before = open_files()
    path.write_text("1\n")
    file = SysFile(path)
    assert file.read_int() == 1
    path.unlink()
    assert file.read_int() is None
    assert open_files() == before
    path.write_text("2\n")
    assert file.read_int() == 2
    path.rename(tmp_path / "b")  # as another file takes its place
    path.with_name("c").write_text("3\n")
    path.with_name("c").rename(tmp_path / "b")
    assert file.read_int() is None
    file.close()
    assert open_files() == before


def test_a_device_that_goes_while_its_attribute_is_open() -> None:
    """The kernel answers with an error then, as it does for a process that ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file = SysFile(Path(f"/proc/{child.pid}/stat"))
    assert (file.read() or "").startswith(f"{child.pid} ")
    child.communicate(b"\n", timeout=30)
    assert file.read() is None
    file.close()


def test_a_file_that_may_not_be_read_is_none(secret: Path) -> None:
    with pytest.raises(PermissionError):
        secret.read_text()
    assert read_int(secret) is None


def test_a_file_in_a_folder_that_may_not_be_entered_is_none() -> None:
    with open_folder() as root:
        (root / "hwmon0").mkdir()
        (root / "hwmon0" / "name").write_text("ina219\n")
        (root / "hwmon0").chmod(0o600)
        with ordinary_user():
            assert read_text(root / "hwmon0" / "name") is None
            assert not is_there(root / "hwmon0" / "name")
        (root / "hwmon0").chmod(0o700)
        assert is_there(root / "hwmon0" / "name")


def test_a_folder_and_a_pipe_in_its_place_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_int(tmp_path) is None
    assert read_int(tmp_path / "pipe") is None
    assert read_int(tmp_path / "none") is None


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for vcgencmd; tests write what it does."""
    path = tmp_path / "bin" / "vcgencmd"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_vcgencmd_takes_words_and_gives_text(tool: Path) -> None:
    script(tool, 'echo "$# $1 $2"')
    assert run_vcgencmd("measure_temp pmic") == "2 measure_temp pmic"


@pytest.mark.parametrize(
    "answer",
    [
        "echo 'error=1 error_msg=\"Command not registered\"'",  # a Pi 4 asked for pmic_read_adc
        'echo "Can\'t open device file: /dev/vcio" >&2; exit 255',
        "kill -9 $$",
    ],
)
def test_vcgencmd_without_an_answer(tool: Path, answer: str) -> None:
    script(tool, answer)
    assert run_vcgencmd("pmic_read_adc") is None


def test_vcgencmd_that_hangs_or_is_not_there_or_not_a_program(
    tool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tool, "exec sleep 60")
    assert run_vcgencmd("get_throttled") is None
    tool.write_bytes(b"\x7fELF not for this machine")
    assert run_vcgencmd("get_throttled") is None
    monkeypatch.setenv("PATH", str(tool.parent.parent))
    assert run_vcgencmd("get_throttled") is None
