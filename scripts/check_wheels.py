"""Checks that everything edge-mnv2 needs comes as wheels for 64-bit Arm.

Nobody should have to compile on a Raspberry Pi or a Jetson. For each supported Python, pip is asked
to resolve the requirements of pyproject.toml, with all that they need in turn, from wheels alone,
for the platform tags that the devices accept. Nothing is downloaded but metadata and nothing is
installed.

pip evaluates environment markers (``python_version < "3.11"``) for the interpreter that runs this
script, whatever Python it resolves for. Of our dependencies, only pure-Python backports hide behind
such markers, and those have wheels for every machine.

Usage: python scripts/check_wheels.py [EXTRA ...]     (default: eval web)
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

DISTRIBUTION = "edge-mnv2"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

# The oldest device is JetPack 6: Ubuntu 22.04 with glibc 2.35. All tags down to manylinux2014 are
# named, for pip knows of no order among them: given one alone, it takes a wheel that has just this
# one, however old.
PLATFORMS = (
    *(f"manylinux_2_{minor}_aarch64" for minor in range(35, 16, -1)),
    "manylinux2014_aarch64",
)

UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError"
)


class NoWheelsError(Exception):
    """pip found no set of wheels for the requirements."""


def requirements(extras: set[str]) -> list[str]:
    """Reads the requirements of the installed distribution, extras included.

    Args:
        extras: The extras whose requirements count too.

    Returns:
        Requirements without their markers.
    """
    found: list[str] = []
    for requirement in map(Requirement, requires(DISTRIBUTION) or ()):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            continue
        requirement.marker = None
        if requirement.name == DISTRIBUTION:
            found += requirements(requirement.extras)
        else:
            found.append(str(requirement))
    return sorted(set(found))


def resolve(wanted: list[str], python: str) -> dict[str, str]:
    """Resolves requirements for 64-bit Arm from wheels alone.

    Args:
        wanted: The requirements.
        python: The version of Python to resolve for.

    Returns:
        The version of each package that would be installed.

    Raises:
        NoWheelsError: If there is no such set of wheels.
        ConnectionError: If the package index could not be reached.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--dry-run"),
            *("--ignore-installed", "--only-binary", ":all:", "--implementation", "cp"),
            *("--python-version", python, "--target", directory, "--report", str(report)),
            *(argument for platform in PLATFORMS for argument in ("--platform", platform)),
            *wanted,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            items = json.loads(report.read_text())["install"]
            return {i["metadata"]["name"].lower(): i["metadata"]["version"] for i in items}
    if UNREACHABLE.search(done.stderr):
        msg = "the package index could not be reached"
        raise ConnectionError(msg)
    raise NoWheelsError(done.stderr.strip())


def culprits(wanted: list[str], python: str) -> list[str]:
    """Finds which of the requirements cannot be had, each tried alone.

    Args:
        wanted: Requirements that could not be had together.
        python: The version of Python.

    Returns:
        One line for each, with pip's last word on it.
    """
    lines = []
    for requirement in wanted:
        try:
            resolve([requirement], python)
        except NoWheelsError as error:
            lines.append(f"{requirement}: {str(error).splitlines()[-1]}")
    return lines or [f"no set that fits together: {', '.join(wanted)}"]


def show(versions: dict[str, dict[str, str]]) -> None:
    """Prints which version each Python gets of each package.

    Args:
        versions: For each Python, the version of each package.
    """
    table = Table(title="wheels for 64-bit Arm")
    table.add_column("package")
    for python in versions:
        table.add_column(f"Python {python}")
    for name in sorted({name for column in versions.values() for name in column}):
        table.add_row(name, *(column.get(name, "-") for column in versions.values()))
    # Not wrapped to the width of a terminal that may not be there.
    Console(width=100).print(table)


def main() -> int:
    """Prints the table.

    Returns:
        The exit status: 0 if all wheels are there, 1 if some are missing.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="*", default=["eval", "web"], help="extras to look at too")
    try:
        wanted = requirements(set(parser.parse_args().extras))
    except PackageNotFoundError:
        print(f"{DISTRIBUTION} is not installed here: ./install.sh --dev does it", file=sys.stderr)
        return 1
    versions: dict[str, dict[str, str]] = {}
    missing: list[str] = []
    for python in PYTHONS:
        try:
            versions[python] = resolve(wanted, python)
        except NoWheelsError:
            missing += [f"Python {python}: {line}" for line in culprits(wanted, python)]
        except ConnectionError as error:
            print(f"{error}: is the network up?", file=sys.stderr)
            return 1
    show(versions)
    for line in missing:
        print(f"no wheel: {line}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
