"""What is wrong with the cameras of a run, told for all of them at once, before any of them is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from camera import SourceNotFoundError, UnsupportedSourceError, open_source
from camera.uri import parse_uri
from edge_mnv2.errors import OutputPathError, RequestError
from edge_mnv2.settings import CameraSettings
from edge_mnv2.sinks.video import check_video_path

_Made = TypeVar("_Made")


def for_each(
    cameras: Mapping[str, CameraSettings], do: Callable[[str, CameraSettings], _Made]
) -> dict[str, _Made]:
    """Return what was done for each camera; what is wrong is told at once, with the names of the cameras.

    Raises:
        RequestError: A line for each mistake; of a single camera, the first as it is.
        SourceNotFoundError, UnsupportedSourceError: Of a single camera alone.
    """
    done, wrong = {}, []
    for name, camera in cameras.items():
        try:
            done[name] = do(name, camera)
        except (RequestError, SourceNotFoundError, UnsupportedSourceError) as error:
            if not name:
                raise
            wrong += [f"{name}: {line}" for line in str(error).splitlines()]
    if wrong:
        raise RequestError("\n".join(wrong))
    return done


def check_cameras(cameras: Mapping[str, CameraSettings], token_file: Path | None) -> None:
    """Refuse sources that cannot be right, and files that are given for two purposes.

    Args:
        cameras: By name.
        token_file: A file that the run reads, too.

    Raises:
        CameraError: As `open_source`.
        OutputPathError: Naming the path.
        RequestError: As `for_each`; or a video has a name that says no format we write.
    """
    written: set[Path] = set()
    read = {path.resolve() for path in map(_file_of, cameras.values()) if path is not None}
    read |= set() if token_file is None else {token_file.resolve()}

    def check(_: str, camera: CameraSettings) -> None:
        open_source(camera.source, camera.camera_options())  # for its errors: nothing is opened yet
        if camera.video is not None:
            check_video_path(camera.video)
        if str(camera.record_session) == "-":
            raise OutputPathError("A session cannot go to standard output: give record_session a file.")
        for path in (camera.video, camera.jsonl, camera.pictures, camera.record_session):
            if path is None:
                continue
            # Standard output has one place, too: long lines of several cameras would tear each other.
            place = path if str(path) == "-" else path.resolve()
            if place in read:
                raise OutputPathError(f"{path} holds what this run reads: choose another path.")
            if place in written:
                raise OutputPathError(f"{path} is given for two outputs: choose another path.")
            written.add(place)

    for_each(cameras, check)


def _file_of(camera: CameraSettings) -> Path | None:
    try:
        uri = parse_uri(camera.source)
    except UnsupportedSourceError:
        return None  # it is refused when its turn comes
    return Path(uri.address) if uri.scheme in ("file", "replay") else None
