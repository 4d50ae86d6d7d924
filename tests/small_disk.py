"""A real file system of one MiB that tests can fill."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str = "1M") -> Iterator[Path]:
    """Mount a tmpfs on a new folder, and take it away at the end."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size},mode=755", "edge-mnv2-test", str(folder)]
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("needs mount: apt-get install mount")
    done = subprocess.run([mount, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk can only be mounted by root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([umount, "--lazy", str(folder)], check=True)


def fill(folder: Path, name: str = "filler") -> Path:
    """Write until there is no room left; return the file to remove."""
    path = folder / name
    with path.open("wb", buffering=0) as file:
        block = 4096
        while block:
            try:
                file.write(bytes(block))
            except OSError:
                block //= 2
    return path
