from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from camera import BadFrameError, EndOfStream, SourceNotFoundError
from camera.pictures import Pictures, is_truncated_jpeg, list_pictures, read_picture

QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30] = (255, 0, 0)
QUARTERS[:20, 30:] = (0, 255, 0)
QUARTERS[20:, :30] = (0, 0, 255)
QUARTERS[20:, 30:] = (255, 255, 255)


def jpeg(image: NDArray[np.uint8], orientation: int | None = None) -> bytes:
    data: bytes = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    if orientation is None:
        return data
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, QUARTERS),
        (2, QUARTERS[:, ::-1]),
        (3, QUARTERS[::-1, ::-1]),
        (4, QUARTERS[::-1]),
        (5, QUARTERS.transpose(1, 0, 2)),
        (6, QUARTERS.transpose(1, 0, 2)[:, ::-1]),
        (7, QUARTERS.transpose(1, 0, 2)[::-1, ::-1]),
        (8, QUARTERS.transpose(1, 0, 2)[::-1]),
    ],
)
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int, turned: NDArray[np.uint8]) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg(QUARTERS, orientation))
    image = read_picture(path)
    assert image.shape == turned.shape
    for row, column in ((0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)):
        y, x = int(row * image.shape[0]), int(column * image.shape[1])
        np.testing.assert_allclose(image[y, x].astype(int), turned[y, x], atol=60)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("grey.png", QUARTERS[..., 1]),
        ("alpha.png", np.dstack([QUARTERS, np.full((40, 60), 7, np.uint8)])),
        ("deep.png", QUARTERS.astype(np.uint16) * 257),
        ("colour.bmp", QUARTERS),
        ("colour.webp", QUARTERS),
        ("colour.tiff", QUARTERS),
    ],
)
def test_any_kind_of_picture_becomes_bgr_bytes(tmp_path: Path, name: str, stored: NDArray[np.uint8]) -> None:
    assert cv2.imwrite(str(tmp_path / name), stored)
    image = read_picture(tmp_path / name)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    if name != "grey.png":
        np.testing.assert_allclose(image[5, 5].astype(int), (255, 0, 0), atol=3)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 2)])
def test_extreme_sizes_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((*size, 3), 9, np.uint8))
    assert read_picture(tmp_path / "p.png").shape == (*size, 3)


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.jpg").mkdir()
    for name, words in (
        ("zero.jpg", "is empty"),
        ("text.png", "not a picture"),
        ("missing.png", "No such file"),
        ("folder.jpg", "cannot be read"),
    ):
        with pytest.raises(BadFrameError, match=f"{name}.*{words}"):
            read_picture(tmp_path / name)


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.05, 0.98))
def test_no_truncated_jpeg_passes_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = jpeg(noise, 1)
    path = tmp_path_factory.mktemp("cut") / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BadFrameError):
        read_picture(path)


@settings(max_examples=40, deadline=None)
@given(tail=st.binary(max_size=50) | st.sampled_from([b"\0" * 5000, b"\xff\xda" * 9, b"ftyp\xff\xd9"]))
def test_bytes_after_the_end_do_no_harm(tail: bytes) -> None:
    """Phones append a film to a photo."""
    assert not is_truncated_jpeg(jpeg(QUARTERS, 6) + tail)


@given(cut=st.integers(1, 5000), restart=st.booleans(), progressive=st.booleans())
def test_every_cut_is_noticed(cut: int, restart: bool, progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    options = [cv2.IMWRITE_JPEG_RST_INTERVAL, int(restart), cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    whole = cv2.imencode(".jpg", noise, options)[1].tobytes()
    assert not is_truncated_jpeg(whole)
    assert is_truncated_jpeg(whole[: max(4, len(whole) - cut)])


def test_a_folder_goes_on_after_a_bad_picture(tmp_path: Path) -> None:
    for name in ("b.PNG", "d.png"):
        cv2.imwrite(str(tmp_path / name.lower()), QUARTERS)
        (tmp_path / name.lower()).rename(tmp_path / name)
    (tmp_path / "c.jpg").touch()
    (tmp_path / "notes.txt").write_text("no picture")
    source = Pictures(list_pictures(tmp_path), "folder")
    info = source.open()
    assert (info.frames, info.live) == (3, False)
    first = source.read()
    with pytest.raises(BadFrameError, match=r"c\.jpg"):
        source.read()
    last = source.read()
    assert [Path(frame.origin).name for frame in (first, last)] == ["b.PNG", "d.png"]
    assert [first.seq, last.seq] == [0, 2]
    with pytest.raises(EndOfStream):
        source.read()


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="holds no pictures"):
        list_pictures(tmp_path)
