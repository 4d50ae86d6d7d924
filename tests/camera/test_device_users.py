from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from camera.device_users import DeviceUser, device_users, users_in_words

HOLDS_OPEN = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def test_a_process_that_has_it_open_under_another_name_is_found(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    link = tmp_path / "by-id"
    link.symlink_to(device)
    assert device_users(device) == ()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_OPEN, str(link)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        (user,) = device_users(device)
        assert user.pid == holder.pid
        assert user.name.startswith("python")
        assert users_in_words([user]) == f"{user.name} (pid {user.pid})"
    finally:
        holder.communicate(timeout=30)
    assert device_users(device) == ()


def test_a_device_is_known_by_its_numbers() -> None:
    with Path("/dev/null").open("rb"):
        assert os.getpid() in {user.pid for user in device_users(Path("/dev/null"))}
    with Path("/dev/full").open("rb"):
        assert {user.pid for user in device_users(Path("/dev/full"))} == {os.getpid()}


def test_two_nodes_of_one_device_are_the_same(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "another", 0o600 | stat.S_IFCHR, Path("/dev/full").stat().st_rdev)
    except PermissionError:
        pytest.skip("only root may make a device node")
    with Path("/dev/full").open("rb"):
        assert os.getpid() in {user.pid for user in device_users(tmp_path / "another")}


def test_this_program_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    with (tmp_path / "video0").open("rb"):
        words = users_in_words(device_users(tmp_path / "video0"))
    assert words == f"this program (pid {os.getpid()})"


def test_what_ends_or_hides_meanwhile_is_left_out(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    proc = tmp_path / "proc"
    for pid in ("7", "12", "100"):
        (proc / pid / "fd").mkdir(parents=True)
    (proc / "7" / "fd" / "3").symlink_to(device)
    (proc / "7" / "comm").write_text("mpv\n")
    (proc / "100" / "fd" / "4").symlink_to(device)  # its name cannot be read any more
    (proc / "12" / "fd").rmdir()  # it has ended
    (proc / "self").symlink_to("7")
    assert device_users(device, proc) == (DeviceUser(7, "mpv"), DeviceUser(100, "a process"))


def test_of_what_is_not_there_nobody_is_a_user(tmp_path: Path) -> None:
    assert device_users(tmp_path / "video9") == ()
    assert users_in_words(()) == ""
