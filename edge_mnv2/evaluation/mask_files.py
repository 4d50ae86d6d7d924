"""Masks: PNG files whose pixels are class numbers, one beside each picture."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from camera.errors import SourceNotFoundError
from camera.pictures import list_pictures
from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.pictures import some_of

# Pixels of this number belong to no class: borders of objects, and what nobody could tell.
IGNORED = 255

_SUFFIX = ".png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Width, height, bits per sample, kind of colours, and the methods of compression, filtering and interlacing.
_HEADER = struct.Struct(">IIBBBBB")
_GREY, _PALETTE = 0, 3
_NEEDED_KINDS = (b"IDAT", b"IEND")


def pair_masks(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return each picture of a folder with its mask: the PNG of the same stem in another folder.

    Raises:
        RequestError: A folder is missing or empty, a picture has no mask, a mask has no picture, or two
            share a stem.
    """
    try:
        pictures = _by_stem(list_pictures(images))
    except (SourceNotFoundError, OSError) as error:
        raise RequestError(
            f"There are no pictures in {images}: check the path given with --images."
        ) from error
    try:
        files = sorted(path for path in masks.iterdir() if path.suffix.lower() == _SUFFIX)
    except OSError as error:
        raise RequestError(
            f"{masks} cannot be read ({error.strerror}): give a folder with --masks."
        ) from error
    if not files:
        raise RequestError(f"The folder {masks} holds no masks: each is a PNG file named after its picture.")
    mask_of = _by_stem(files)
    without_mask = [path.name for stem, path in pictures.items() if stem not in mask_of]
    if without_mask:
        raise RequestError(
            f"{len(without_mask)} of {len(pictures)} pictures in {images} have no mask in {masks}: "
            f"{some_of(without_mask)}. A mask is a PNG file named after its picture."
        )
    without_picture = [path.name for stem, path in mask_of.items() if stem not in pictures]
    if without_picture:
        raise RequestError(
            f"{len(without_picture)} of {len(mask_of)} masks in {masks} have no picture in {images}: "
            f"{some_of(without_picture)}."
        )
    return [(path, mask_of[stem]) for stem, path in pictures.items()]


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read the class numbers of a PNG with a palette, as in Pascal VOC, or of a grey one.

    Returns:
        (H, W) uint8. Of a palette these are the indices, whatever colours it gives them.

    Raises:
        RequestError: The file cannot be read, is damaged, or holds colours or more than 8 bits a pixel.
    """
    import cv2

    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"The mask {path} cannot be read: {error.strerror}.") from error
    body = data[len(_SIGNATURE) :]
    if not data.startswith(_SIGNATURE) or body[4:8] != b"IHDR" or len(body) < 8 + _HEADER.size:
        raise RequestError(f"The mask {path} is not a PNG file, or is damaged.")
    width, height, bits, colours, *methods = _HEADER.unpack_from(body, 8)
    if colours not in (_GREY, _PALETTE) or bits > 8:
        excess = "16 bits a pixel" if colours == _GREY else "several channels"
        raise RequestError(
            f"The mask {path} has {excess}, not one class number of 8 bits: save it as a PNG with a palette, "
            "or in grey."
        )
    # OpenCV turns a palette into colours. With a header that says grey, and without what else the file
    # says of colours, the same samples come out as they are.
    header = _HEADER.pack(width, height, bits, _GREY, *methods)
    kept = b"".join(chunk for kind, chunk in _chunks(body) if kind in _NEEDED_KINDS)
    plain = np.frombuffer(_SIGNATURE + _chunk(b"IHDR", header) + kept, np.uint8)
    try:
        image = cv2.imdecode(plain, cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:  # more pixels than OpenCV accepts
        raise RequestError(f"The mask {path} cannot be decoded: {error.err}.") from error
    # The stubs promise an array; the function returns None for what it cannot decode.
    if not isinstance(image, np.ndarray):
        raise RequestError(f"The mask {path} is damaged: copy it again.")
    mask = image.astype(np.uint8, copy=False)
    # Grey of 1, 2 or 4 bits is spread over 0 to 255: right for brightness, wrong for indices.
    return mask // np.uint8(255 // (2**bits - 1)) if colours == _PALETTE else mask


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    found = defaultdict(list)
    for path in paths:
        found[path.stem].append(path)
    for stem, same in found.items():
        if len(same) > 1:
            names = " and ".join(path.name for path in same)
            raise RequestError(
                f"In {same[0].parent} {names} have one name: a picture needs its own {stem}.png."
            )
    return {stem: same[0] for stem, same in found.items()}


def _chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind of each chunk and the whole of it; one that is cut off comes as far as it goes."""
    position = 0
    while position < len(body):
        end = position + 12 + int.from_bytes(body[position : position + 4], "big")
        yield body[position + 4 : position + 8], body[position:end]
        position = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))
