"""A real systemd for tests: it boots this machine's own files, and nothing that it writes stays.

`systemd-nspawn` with an overlay of the root file system, whose upper part lies in memory and goes away with
the mount namespace of the container. Needs root.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
BOOT_TIMEOUT_S = 60
# In there: our sources, the virtual environment, the Python that it was made from.
SOURCE, SITE, PYTHON = "/opt/source", "/opt/site", "/opt/python"

_BOOT = r"""
set -e
mount -t tmpfs tmpfs /run
mkdir /run/up /run/work /run/root
mount -t overlay overlay -o lowerdir=/,upperdir=/run/up,workdir=/run/work /run/root
cd /run/root
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires
mkdir -p opt/source opt/python opt/site out
exec systemd-nspawn --quiet --directory=/run/root --boot --keep-unit --register=no --link-journal=no \
    --console=pipe --machine=edge-mnv2-test "$@"
"""


def missing() -> str | None:
    """Return what keeps a real systemd from being booted here, None where nothing does."""
    if os.geteuid() != 0:
        return "booting a real systemd needs root"
    for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            return f"no {program} here: apt-get install {package}"
    if not Path("/usr/lib/systemd/systemd").exists() and not Path("/lib/systemd/systemd").exists():
        return "no systemd here: apt-get install systemd"
    probe = (
        "mkdir /run/a /run/b /run/c && mount -t overlay o -o lowerdir=/,upperdir=/run/a,workdir=/run/b /run/c"
    )
    tried = subprocess.run(
        ["unshare", "-m", "bash", "-c", f"mount -t tmpfs tmpfs /run && {probe}"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no overlay can be mounted here: {tried.stderr.strip()}"


class Machine:
    """A booted systemd, whose first process is known by its number out here."""

    def __init__(self, leader: int, out: Path) -> None:
        self.out = out
        self._leader = leader

    def run(self, *command: str, check: bool = True, timeout_s: float = 60) -> str:
        """Run a command in there; return what it printed, both streams."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", *command],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} gave {done.returncode}:\n{done.stdout}")
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, "--value", "-p", name).strip()

    def journal(self, unit: str) -> str:
        """Return what a unit logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", "-u", unit)

    def write(self, path: str, text: str) -> None:
        """Write a file in there."""
        (self.out / "new").write_text(text)
        self.run("install", "-D", "-m", "644", "/out/new", path)


@contextmanager
def booted(scratch: Path) -> Iterator[Machine]:
    """Boot, yield the machine, power it off.

    Args:
        scratch: A directory that is `/out` in there.
    """
    # Not where they are out here: the service may see neither /root nor /tmp.
    binds = {CHECKOUT: SOURCE, Path(sys.prefix): SITE, Path(sys.base_prefix): PYTHON}
    options = [f"--bind-ro={place}:{target}" for place, target in binds.items()]
    with (scratch / "console.log").open("wb") as console:
        container = subprocess.Popen(
            ["unshare", "-m", "bash", "-c", _BOOT, "boot", *options, f"--bind={scratch}:/out"],  # noqa: S607
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        machine = Machine(_leader(container, scratch), scratch)
        _wait_until_running(machine)
        yield machine
        machine.run("systemctl", "poweroff", check=False)
        container.wait(30)
    finally:
        if container.poll() is None:
            container.kill()
            container.wait()


def python() -> list[str]:
    """Return the words that run this Python in there with the same packages, and our sources."""
    packages = Path(site.getsitepackages()[0]).relative_to(sys.prefix)
    executable = f"{PYTHON}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    # Where it is a shared library, it must not be the one of another Python of the system.
    settings = [f"PYTHONPATH={SOURCE}:{SITE}/{packages}", f"LD_LIBRARY_PATH={PYTHON}/lib"]
    return ["/usr/bin/env", *settings, "PYTHONDONTWRITEBYTECODE=1", executable]


def _leader(container: subprocess.Popen[bytes], scratch: Path) -> int:
    end_s = time.monotonic() + BOOT_TIMEOUT_S
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    while time.monotonic() < end_s and container.poll() is None:
        with suppress(OSError):
            for child in children.read_text().split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        time.sleep(0.02)
    raise AssertionError(f"no systemd came up:\n{(scratch / 'console.log').read_text()}")


def _wait_until_running(machine: Machine) -> None:
    end_s = time.monotonic() + BOOT_TIMEOUT_S
    while True:
        state = machine.run("systemctl", "is-system-running", check=False).strip()
        if state in ("running", "degraded"):
            return
        if time.monotonic() > end_s:
            raise AssertionError(
                f"the system is {state}: {machine.run('systemctl', '--failed', check=False)}"
            )
        time.sleep(0.05)
