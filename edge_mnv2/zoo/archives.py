"""Finding the one model file inside a directory, an npm package or a wheel."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_mnv2.errors import RequestError, WeightsError

_TAR = (".tgz", ".tar.gz", ".tar")
_ZIP = (".whl", ".zip")
_MODEL_SUFFIXES = (".pb", ".tflite", ".pth", ".pt")
# What damaged archives raise. RuntimeError: encryption, or (NotImplementedError) an unknown compression.
ARCHIVE_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, zlib.error)


@contextmanager
def model_file(path: Path) -> Iterator[Path]:
    """Yield the model file that `path` is or holds; archives are unpacked for as long as the context lasts.

    Args:
        path: A `model.json`, `.pb`, `.tflite`, `.pth` or `.pt` file, a directory, or an archive holding
            exactly one of them.

    Raises:
        RequestError: The path does not exist, or holds no such file or several.
        WeightsError: The archive is damaged.
    """
    if not path.exists():
        raise RequestError(f"There is no {path}: check the path.")
    name = path.name.lower()
    if path.is_file() and not name.endswith(_TAR + _ZIP):
        yield path
        return
    with TemporaryDirectory(prefix="edge-mnv2-") as scratch:
        yield _only_model(path if path.is_dir() else _unpack(path, Path(scratch)), path)


def read_member(archive: Path, member: str) -> bytes:
    """Return the content of one file of a wheel.

    Raises:
        WeightsError: The archive is damaged or has no such member.
    """
    try:
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    except (KeyError, *ARCHIVE_DAMAGE) as error:
        raise WeightsError(f"{member} cannot be taken out of {archive.name}: {error}.") from error


def _unpack(archive: Path, scratch: Path) -> Path:
    try:
        if archive.name.lower().endswith(_ZIP):
            with zipfile.ZipFile(archive) as wheel:
                wheel.extractall(scratch)  # noqa: S202 - zipfile strips .. and / from names
        else:
            with tarfile.open(archive) as package:
                # Regular files only, and none outside: as filter="data", which Debian 12's Python lacks.
                for member in package:
                    target = (scratch / member.name).resolve()
                    content = package.extractfile(member) if member.isfile() else None
                    if content is not None and target.is_relative_to(scratch.resolve()):
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(content.read())
    except ARCHIVE_DAMAGE as error:
        raise WeightsError(f"{archive} cannot be unpacked: {error}.") from error
    return scratch


def _only_model(directory: Path, named: Path) -> Path:
    found = sorted(
        candidate
        for candidate in directory.rglob("*")
        if candidate.suffix in _MODEL_SUFFIXES or candidate.name == "model.json"
    )
    if not found:
        raise RequestError(f"{named} holds no model: no model.json, .pb, .tflite, .pth or .pt file.")
    if len(found) > 1:
        names = ", ".join(str(candidate.relative_to(directory)) for candidate in found)
        raise RequestError(f"{named} holds several models, name one of them: {names}.")
    return found[0]
