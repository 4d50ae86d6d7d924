from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.evaluation.mask_files import pair_masks, read_mask
from tests.evaluation.fakes import png, voc_palette, write_picture


def some_pixels(height: int = 13, width: int = 17, below: int = 256) -> np.ndarray:
    return np.random.default_rng(1).integers(0, below, (height, width)).astype(np.uint8)


@pytest.mark.parametrize("filtering", range(5))
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_of_a_palette_the_indices_are_read_not_the_colours(
    tmp_path: Path, bits: int, filtering: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.png"
    pixels = some_pixels(below=2**bits)
    # Two indices of one colour: nothing but the index itself tells them apart.
    palette = [(9, 9, 9), (9, 9, 9), *voc_palette()[2 : 2**bits]]
    path.write_bytes(png(pixels, bits=bits, palette=palette, filtering=filtering))
    mask = read_mask(path)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, pixels)
    assert capfd.readouterr().err == ""  # libpng writes its doubts there


def test_a_grey_mask_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(png(some_pixels(), filtering=4))
    np.testing.assert_array_equal(read_mask(path), some_pixels())
    assert cv2.imwrite(str(path), some_pixels(200, 300))
    np.testing.assert_array_equal(read_mask(path), some_pixels(200, 300))
    # One bit of grey is black and white, 0 and 255, and so programs save a mask of those two.
    path.write_bytes(png([[0, 1], [1, 0]], bits=1))
    np.testing.assert_array_equal(read_mask(path), [[0, 255], [255, 0]])


def test_real_masks_agree_with_their_colours(shared: Path) -> None:
    """The indices, looked up in the palette of Pascal VOC, give the colours that OpenCV sees."""
    palette = np.array(voc_palette(), np.uint8)
    assert len(np.unique(palette, axis=0)) == 256
    paths = sorted((shared / "data" / "coco_dev" / "masks_voc21").glob("*.png"))
    assert len(paths) == 48
    seen: set[int] = set()
    for path in paths:
        mask = read_mask(path)
        np.testing.assert_array_equal(palette[mask], cv2.imread(str(path), cv2.IMREAD_COLOR)[:, :, ::-1])
        seen |= set(np.unique(mask).tolist())
    assert seen <= {*range(21), 255}
    assert len(seen) > 15


def test_what_is_no_mask_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    good = png(some_pixels(), palette=voc_palette())
    flipped = bytearray(good)
    flipped[-40] ^= 0x10
    # A sound file whose compressed rows are too few.
    header = struct.pack(">IIBBBBB", 9, 9, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10 * 4))
    short = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )
    huge = good[:16] + struct.pack(">II", 2**20, 2**20) + good[24:]
    damaged = (flipped, good[:-100], good[:-12], good[:40], short)
    for data in (b"", b"GIF89a", good[:8], good[:20], good[:8] + b"\xff" * 60):
        path.write_bytes(data)
        with pytest.raises(RequestError, match=r"m\.png is not a PNG file, or is damaged"):
            read_mask(path)
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(RequestError, match=r"m\.png is damaged"):
            read_mask(path)
    path.write_bytes(huge)
    with pytest.raises(RequestError, match=r"m\.png (cannot be decoded|is damaged)"):
        read_mask(path)
    for image, words in (
        (np.zeros((4, 4, 3), np.uint8), "several channels"),
        (np.zeros((4, 4, 4), np.uint8), "several channels"),
        (np.zeros((4, 4), np.uint16), "16 bits"),
    ):
        assert cv2.imwrite(str(path), image)
        with pytest.raises(RequestError, match=rf"m\.png has {words}.* save it as a PNG with a palette"):
            read_mask(path)
    with pytest.raises(RequestError, match=r"nothing\.png cannot be read: No such file"):
        read_mask(tmp_path / "nothing.png")
    with pytest.raises(RequestError, match="cannot be read: Is a directory"):
        read_mask(tmp_path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for name in ("b.jpg", "a.png", "c.d.jpg"):
        write_picture(images / name, np.zeros((3, 4)))
    for name in ("a.png", "b.PNG", "c.d.png"):
        (masks / name).write_bytes(png(np.zeros((3, 4))))
    (images / "notes.txt").touch()
    (masks / "b.xml").touch()
    return images, masks


def test_pictures_are_paired_by_stem(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    assert pair_masks(images, masks) == [
        (images / "a.png", masks / "a.png"),
        (images / "b.jpg", masks / "b.PNG"),
        (images / "c.d.jpg", masks / "c.d.png"),
    ]


def test_what_lacks_its_partner_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = folders
    (masks / "a.png").rename(masks / "z.png")
    with pytest.raises(
        RequestError, match=r"1 of 3 pictures in \S+images have no mask in \S+masks: a\.png\."
    ):
        pair_masks(images, masks)
    (images / "a.png").unlink()
    with pytest.raises(
        RequestError, match=r"1 of 3 masks in \S+masks have no picture in \S+images: z\.png\."
    ):
        pair_masks(images, masks)
    for index in range(7):
        write_picture(images / f"n{index}.bmp", np.zeros((3, 4)))
    with pytest.raises(RequestError, match=r"7 of 9 pictures.*n0\.bmp, .*n4\.bmp and 2 more\."):
        pair_masks(images, masks)


def test_two_of_a_name_are_refused(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    (masks / "a.PNG").write_bytes((masks / "a.png").read_bytes())
    with pytest.raises(RequestError, match=r"masks a\.PNG and a\.png have one name"):
        pair_masks(images, masks)
    write_picture(images / "a.bmp", np.zeros((3, 4)))
    with pytest.raises(RequestError, match=r"images a\.bmp and a\.png have one name"):
        pair_masks(images, masks)


def test_folders_that_are_empty_or_none_are_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = folders
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nothing", masks / "a.png"):
        with pytest.raises(RequestError, match=rf"no pictures in {folder}.*--images"):
            pair_masks(folder, masks)
    with pytest.raises(RequestError, match="empty holds no masks"):
        pair_masks(images, empty)
    for folder in (tmp_path / "nothing", masks / "a.png"):
        with pytest.raises(RequestError, match=rf"{folder} cannot be read .*--masks"):
            pair_masks(images, folder)
