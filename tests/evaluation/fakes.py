"""Predictors that say what a test wants, and PNG files written by the book."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_mnv2.predictor import Predictor
from edge_mnv2.results import Classification, Detections, Result, SegmentationMap

Image = NDArray[np.uint8]


class FakePredictor(Predictor):
    """Answers with a function of the picture; every picture takes 2 ms."""

    def __init__(self, task: str, answer: Callable[[Image], Result], labels: Mapping[int, str]) -> None:
        self.name = f"fake-{task}"
        self.task = task
        self.labels = dict(labels)
        self.calls = 0
        self._answer = answer

    def predict(self, image: Image) -> tuple[Result, dict[str, float]]:
        self.calls += 1
        return self._answer(image), {"prepare": 0.25, "infer": 1.5, "decode": 0.25}

    def close(self) -> None:
        pass


def detector() -> FakePredictor:
    """A predictor that finds one person, in the middle tenth of every picture."""

    def answer(image: Image) -> Detections:
        height, width = image.shape[:2]
        box = np.array([[0.45 * width, 0.45 * height, 0.55 * width, 0.55 * height]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([1]))

    return FakePredictor("detect", answer, {1: "person"})


def segmenter(labels: Mapping[int, str]) -> FakePredictor:
    """A predictor whose map is the picture's blue channel."""
    return FakePredictor("segment", lambda image: SegmentationMap(image[:, :, 0].copy()), labels)


def classifier(best: Mapping[int, list[int]]) -> FakePredictor:
    """A predictor whose classes hang on the brightness of the first pixel."""

    def answer(image: Image) -> Classification:
        class_id = np.array(best[int(image[0, 0, 0])], np.int64)
        return Classification(class_id, np.linspace(0.9, 0.1, len(class_id)).astype(np.float32))

    return FakePredictor("classify", answer, {})


def write_picture(path: Path, blue: object) -> None:
    """Write a lossless picture with this blue channel."""
    channel = np.asarray(blue, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (2, *channel.shape), np.uint8)
    assert cv2.imwrite(str(path), np.stack([channel, *noise], axis=-1))


def png(
    pixels: object, *, bits: int = 8, palette: list[tuple[int, int, int]] | None = None, filtering: int = 0
) -> bytes:
    """Return a PNG file of one sample a pixel (PNG specification, sections 9 and 11).

    Args:
        pixels: (H, W) samples.
        bits: Of a sample.
        palette: Red, green and blue of each index; None for a grey file.
        filtering: Filter of every row, 0 to 4.
    """
    samples = np.asarray(pixels, np.uint8)
    height, width = samples.shape
    unpacked = np.unpackbits(samples[:, :, None], axis=2)[:, :, 8 - bits :].reshape(height, -1)
    rows = np.packbits(unpacked, axis=1).astype(int)
    lines = b""
    above = [0] * rows.shape[1]
    for row in rows.tolist():
        line = [filtering]
        for index, value in enumerate(row):
            a = row[index - 1] if index else 0
            b, c = above[index], above[index - 1] if index else 0
            nearest = min((a, b, c), key=lambda known, p=a + b - c: abs(p - known))  # type: ignore[misc]
            line.append((value - (0, a, b, (a + b) // 2, nearest)[filtering]) % 256)
        lines += bytes(line)
        above = row
    kind = 0 if palette is None else 3
    content = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if palette is not None:
        content.append((b"PLTE", bytes(value for colour in palette for value in colour)))
        content.append((b"tRNS", b"\x00"))  # the background is transparent, as drawing programs have it
    content += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in content
    )


def voc_palette() -> list[tuple[int, int, int]]:
    """Return the 256 colours of Pascal VOC: the bits of the index, spread over red, green and blue."""
    return [
        (
            sum((index >> 3 * place & 1) << 7 - place for place in range(3)),
            sum((index >> 3 * place + 1 & 1) << 7 - place for place in range(3)),
            sum((index >> 3 * place + 2 & 1) << 7 - place for place in range(3)),
        )
        for index in range(256)
    ]
