"""Headless inference over files: every frame, one output format, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from camera import FrameSource, SourceInfo, open_files
from camera.chain import Chain
from camera.pictures import Pictures
from camera.video_file import VideoFile
from edge_mnv2.errors import OutputPathError, RequestError
from edge_mnv2.files import write_atomically
from edge_mnv2.pipeline import RunControl, run_pipeline
from edge_mnv2.predictor import Predictor
from edge_mnv2.run_summary import RunSummary
from edge_mnv2.sinks.base import SinkSpec
from edge_mnv2.sinks.coco import CocoResultsSink
from edge_mnv2.sinks.csv_table import CsvSink
from edge_mnv2.sinks.jsonl import JsonLinesSink
from edge_mnv2.sinks.specs import pictures_spec

Format = Literal["coco", "csv", "jsonl"]


def run_batch(
    inputs: Sequence[str],
    output: Path,
    predictor: Predictor,
    control: RunControl,
    *,
    file_format: Format = "jsonl",
    annotate: bool = False,
    masks: bool = False,
) -> RunSummary:
    """Process files, folders and globs, and write `detections.FORMAT` into a folder, whatever the task.

    Args:
        inputs: As on the command line; a picture that is named twice is processed once.
        output: Folder for what is written; annotated pictures go into its `annotated` folder.
        predictor: Left open.
        control: Stop, limit, progress.
        file_format: JSON lines, COCO results (pictures only), or CSV.
        annotate: Whether to write annotated pictures.
        masks: Whether records of a segmentation carry its masks.

    Raises:
        RequestError: COCO results are wanted of a video, or of a model that detects no objects.
        CameraError: An input does not exist, or is a camera.
        OutputPathError: The folder cannot be written.
    """
    if file_format == "coco" and predictor.task != "detect":
        raise RequestError("COCO results are for detections: choose --format jsonl or csv for this model.")
    sources = _without_repeats([source for text in inputs for source in open_files(text)])
    pictures = [path for source in sources if isinstance(source, Pictures) for path in source.paths]
    has_videos = any(isinstance(source, VideoFile) for source in sources)
    if file_format == "coco" and has_videos:
        raise RequestError("COCO results are for pictures: choose --format jsonl or csv for videos.")
    path = output / f"detections.{'json' if file_format == 'coco' else file_format}"
    openers: dict[Format, Callable[[int], JsonLinesSink | CsvSink | CocoResultsSink]] = {
        "jsonl": lambda attempt: JsonLinesSink(path, attempt, masks=masks),
        "csv": lambda attempt: CsvSink(path, predictor.task, attempt),
        "coco": lambda _: _open_coco(path, pictures),
    }
    specs = [SinkSpec(f"{file_format} {path}", openers[file_format], wants_canvas=False, path=path)]
    if annotate:
        specs.append(pictures_spec(output / "annotated", numbered=has_videos))

    def sinks_for(_: SourceInfo) -> list[SinkSpec]:
        return specs

    return run_pipeline(Chain(sources), predictor, sinks_for, control)


def _without_repeats(sources: Sequence[FrameSource]) -> list[FrameSource]:
    """Leave out pictures that an earlier input has named already: a folder, and a picture in it."""
    seen: set[Path] = set()
    kept: list[FrameSource] = []
    for source in sources:
        if isinstance(source, Pictures):
            new = [path for path in source.paths if path.resolve() not in seen]
            seen.update(path.resolve() for path in new)
            if not new:
                continue
            source = Pictures(new, source.name)  # noqa: PLW2901 - the same source with fewer pictures
        kept.append(source)
    return kept


def _open_coco(path: Path, pictures: Sequence[Path]) -> CocoResultsSink:
    """Open COCO results, and write beside them which picture has which id."""
    image_ids = coco_image_ids(pictures)
    images = [{"id": image_id, "file_name": name} for name, image_id in image_ids.items()]
    sink = CocoResultsSink(path, image_ids)
    try:
        write_atomically(path.with_name("images.json"), json.dumps(images, indent=1).encode())
    except OSError as error:
        sink.close()
        raise OutputPathError(f"{path.parent} cannot be written: {error.strerror}.") from error
    return sink


def coco_image_ids(pictures: Sequence[Path]) -> dict[str, int]:
    """Return the image id of each picture: the digits its name ends with, as in COCO's files.

    Where names do not end with digits, or two end with the same ones, pictures are counted from 1 instead.
    """
    stems = [path.stem for path in pictures]
    digits = [stem[len(stem.rstrip("0123456789")) :] for stem in stems]
    if all(digits) and len({int(number) for number in digits}) == len(set(pictures)):
        return {str(path): int(number) for path, number in zip(pictures, digits, strict=True)}
    return {str(path): number for number, path in enumerate(dict.fromkeys(pictures), 1)}
