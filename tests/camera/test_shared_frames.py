from __future__ import annotations

import errno
import fcntl
import gc
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camera import CameraError
from camera.isolation.channel import Channel, ChannelClosedError
from camera.isolation.shared_frames import FrameRing, check_memory, create_memory
from tests.camera.held import Held, shared_memory


@settings(max_examples=60, deadline=None)
@given(
    slots=st.integers(1, 5),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    spare=st.integers(0, 5000),
    seed=st.integers(0, 2**32),
)
def test_what_one_side_writes_the_other_reads(
    slots: int, width: int, height: int, spare: int, seed: int
) -> None:
    slot_bytes = width * height * 3 + spare
    memory = create_memory(slots, slot_bytes)
    try:
        check_memory(memory, slots, slot_bytes)
        writer, reader = FrameRing(memory, slots, slot_bytes), FrameRing(memory, slots, slot_bytes)
    finally:
        os.close(memory)
    pictures = np.random.default_rng(seed).integers(0, 256, (slots, height, width, 3), np.uint8)
    for slot in range(slots):
        np.copyto(writer.picture(slot, height, width), pictures[slot])
    for slot in range(slots):
        read = reader.picture(slot, height, width)
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, pictures[slot])


@pytest.mark.parametrize(
    ("slot", "height", "width"), [(-1, 2, 2), (3, 2, 2), (0, 0, 2), (0, 2, -2), (0, -2, -2), (0, 5, 2)]
)
def test_no_picture_outside_its_slot(slot: int, height: int, width: int) -> None:
    memory = create_memory(3, 24)
    ring = FrameRing(memory, 3, 24)
    os.close(memory)
    with pytest.raises(IndexError):
        ring.picture(slot, height, width)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, "too many files are open"),
        (errno.ENOMEM, "Cannot allocate memory"),
        (errno.ENOSYS, "no memfd_create. Give --isolation thread"),
    ],
)
@pytest.mark.parametrize("call", ["os.memfd_create", "os.posix_fallocate", "mmap.mmap"])
def test_no_memory_is_an_error_of_the_camera(
    monkeypatch: pytest.MonkeyPatch, call: str, number: int, said: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"camera.isolation.shared_frames.{call}", refuse)

    def make() -> None:
        memory = create_memory(2, 1 << 20)
        try:
            FrameRing(memory, 2, 1 << 20)
        finally:
            os.close(memory)

    before = Held.now()
    with pytest.raises(CameraError, match=said):
        make()
    assert Held.now().is_within(before)


def test_a_python_without_such_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(CameraError, match="no memfd_create"):
        create_memory(2, 100)


def test_memory_keeps_its_size_and_has_no_name() -> None:
    before = shared_memory()
    memory = create_memory(2, 5000)
    try:
        for size in (0, 9_999, 20_000):
            with pytest.raises(PermissionError):
                os.ftruncate(memory, size)
        # Every page is there: none has to be found when it is first written to.
        assert os.fstat(memory).st_blocks * 512 >= 10_000
        assert shared_memory() == before
    finally:
        os.close(memory)


def test_memory_that_could_shrink_or_is_too_small_is_refused() -> None:
    small = create_memory(2, 1000)
    loose = os.memfd_create("loose", os.MFD_ALLOW_SEALING)
    os.ftruncate(loose, 1 << 20)
    try:
        for memory, slots, slot_bytes in (
            (small, 3, 1000),
            (small, 2, 5000),
            (small, 0, 1000),
            (loose, 1, 10),
        ):
            with pytest.raises(CameraError, match="does not fit"):
                check_memory(memory, slots, slot_bytes)
        fcntl.fcntl(loose, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        check_memory(loose, 1, 10)
    finally:
        os.close(small)
        os.close(loose)


def test_a_picture_outlives_its_ring_and_is_unmapped_after_it() -> None:
    before = Held.now().mappings
    memory = create_memory(2, 12)
    ring = FrameRing(memory, 2, 12)
    os.close(memory)
    held = ring.picture(1, 2, 2)
    held[:] = 7
    del ring
    gc.collect()
    assert Held.now().mappings == before + 1
    assert int(held.sum()) == 7 * 12
    del held
    gc.collect()
    assert Held.now().mappings == before


def test_messages_arrive_whole_and_with_their_descriptors() -> None:
    one, other = Channel.pair()
    memory = create_memory(1, 4)
    try:
        one.send({"n": 1, "text": "ü" * 5000})
        one.send({"n": 2}, memory)
        first, nothing = other.receive()
        assert (first["n"], first["text"], nothing) == (1, "ü" * 5000, None)
        second, copy = other.receive()
        assert second == {"n": 2}
        assert copy is not None
        assert os.path.sameopenfile(copy, memory)
        assert not os.get_inheritable(copy)
        os.close(copy)
        with pytest.raises(ValueError, match="too long"):
            one.send({"text": "x" * 70_000})
    finally:
        os.close(memory)
        one.close()
    with pytest.raises(ChannelClosedError):
        other.receive()
    with pytest.raises(ChannelClosedError):
        other.send({})
    other.close()
    other.close()
    with pytest.raises(ChannelClosedError):
        other.send({})
