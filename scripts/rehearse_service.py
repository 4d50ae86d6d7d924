"""Rehearses `install.sh --service` and `--uninstall` under a real systemd; takes some minutes, needs root.

It boots this machine's own files in a container whose writes stay in memory, clones HEAD into it, and plays
the owner of a device: installs, asks, reloads, installs again, uninstalls.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.daemon.machine import Machine, booted, missing  # noqa: E402 - found by the line above

SETTINGS = "source: test://?size=320x240&fps=10\nengine: onnxruntime\njsonl: records.jsonl\n"
UNIT = "edge-mnv2.service"
# Where each of these must be gone after an uninstallation without records and changed settings.
LEFT = ("/opt/edge-mnv2", "/var/cache/edge-mnv2", f"/etc/systemd/system/{UNIT}", "/usr/local/bin/edge-mnv2")


def main() -> int:
    """Play it; return the exit code."""
    if (why := missing()) is not None:
        print(why, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clone = ["git", "clone", "--quiet", str(CHECKOUT), str(scratch / "clone")]
        subprocess.run(clone, check=True)
        with booted(scratch) as machine:
            _play(machine)
    print("as expected")
    return 0


def _play(machine: Machine) -> None:
    machine.write("/etc/edge-mnv2/edge-mnv2.yaml", SETTINGS)
    _step("install", _install(machine, "--service"))
    _expect(machine.show(UNIT, "ActiveState") == "active", "the service is active")
    _step("ask", machine.run("/usr/local/bin/edge-mnv2", "status"))
    machine.run("systemctl", "reload", UNIT)
    _step("install again", _install(machine, "--service"))
    _expect(machine.show(UNIT, "ActiveState") == "active", "the service is active")
    _step("unit", machine.run("systemctl", "cat", UNIT))
    _step("security", machine.run("systemd-analyze", "security", UNIT).splitlines()[-1])
    records = machine.run("cat", "/var/lib/edge-mnv2/records.jsonl")
    _expect(records.count("\n") > 10, "there are records")
    _step("uninstall", _install(machine, "--uninstall"))
    for path in LEFT:
        listed = machine.run("ls", "-d", path, check=False)
        _expect(listed.startswith("ls: cannot access"), f"{path} is gone")
    _expect(not machine.run("getent", "passwd", "edge-mnv2", check=False), "the user is gone")
    _expect(machine.show(UNIT, "LoadState") == "not-found", "systemd has forgotten the unit")
    # What is the owner's stays.
    machine.run("ls", "/var/lib/edge-mnv2/records.jsonl", "/etc/edge-mnv2/edge-mnv2.yaml")
    owner = machine.run("stat", "--format", "%U:%G", "/var/lib/edge-mnv2/records.jsonl").strip()
    _expect(owner == "root:root", "the records are left to root")


def _install(machine: Machine, mode: str) -> str:
    # Where pip finds its packages is this machine's business.
    pip = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    command = ["env", "HOME=/root", *pip, "/out/clone/install.sh", mode, "--yes"]
    return machine.run(*command, timeout_s=1200)


def _expect(is_true: bool, what: str) -> None:
    if not is_true:
        raise SystemExit(f"not as expected: {what}")


def _step(name: str, output: str) -> None:
    print(f"### {name}\n{output}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
