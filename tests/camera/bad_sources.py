"""Sources that misbehave, for child processes: each function takes the URI and returns a source."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from camera import BadFrameError, CameraError, EndOfStream, Frame, SourceInfo, SourceNotFoundError

SIZE = (64, 48)


def picture(seq: int, width: int = SIZE[0], height: int = SIZE[1]) -> NDArray[np.uint8]:
    """Return what frame `seq` shows: every byte depends on its place and on `seq`."""
    flat = np.arange(height * width * 3, dtype=np.uint32)
    return ((flat * 2654435761 >> 7) + seq * 31).astype(np.uint8).reshape(height, width, 3)


class Scripted:
    """A source whose frames come from a generator, and which can be told how to open and close."""

    def __init__(
        self,
        images: Iterator[NDArray[np.uint8]],
        on_open: Callable[[], None] = lambda: None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.images = images
        self.on_open = on_open
        self.on_close = on_close
        self.seq = 0

    def open(self) -> SourceInfo:
        self.on_open()
        return SourceInfo("scripted", live=True, fps=None, frames=None, size=SIZE)

    def read(self) -> Frame:
        try:
            image = next(self.images)
        except StopIteration:
            raise EndOfStream("The script is over.") from None
        self.seq += 1
        return Frame(image, self.seq - 1, time.monotonic_ns(), "scripted")

    def close(self) -> None:
        self.on_close()


def endless(interval_s: float = 0.01) -> Iterator[NDArray[np.uint8]]:
    seq = 0
    while True:
        yield picture(seq)
        seq += 1
        time.sleep(interval_s)


def after(frames: int, what: Callable[[], object]) -> Iterator[NDArray[np.uint8]]:
    """Yield some frames at a small distance, then let something happen."""
    for seq in range(frames):
        yield picture(seq)
        time.sleep(0.01)
    what()


def hang() -> None:
    while True:
        time.sleep(3600)


def hang_with_every_lock() -> None:
    """Hang as an extension does that keeps Python's lock: no other thread of the process runs any more."""
    ctypes.PyDLL(None).pause()


def segfault() -> None:
    ctypes.string_at(0)


# What the tests name.


def good(uri: str) -> Scripted:
    return Scripted(endless())


def sized(uri: str) -> Scripted:
    """Frames of the sizes in the URI, `8x6,16x12`, each shown once the file `PATH.N` exists; then no more."""
    sizes, _, gate = uri.partition("@")

    def images() -> Iterator[NDArray[np.uint8]]:
        for number, size in enumerate(sizes.split(",")):
            while gate and not Path(f"{gate}.{number}").exists():
                time.sleep(0.005)
            width, height = map(int, size.split("x"))
            yield picture(number, width, height)
        if gate:
            hang()

    return Scripted(images())


def burst(uri: str) -> Scripted:
    """As many frames as the URI says, without a pause, then nothing."""
    return Scripted(after_at_once(int(uri)))


def after_at_once(frames: int) -> Iterator[NDArray[np.uint8]]:
    yield from (picture(seq) for seq in range(frames))
    hang()


def strided(uri: str) -> Scripted:
    """A picture that does not lie in one piece."""
    return Scripted(iter([picture(0)[::-2, ::3]]))


def hang_in_make(uri: str) -> Scripted:
    hang()
    raise AssertionError


def hang_in_open(uri: str) -> Scripted:
    return Scripted(endless(), on_open=hang)


def hang_in_read(uri: str) -> Scripted:
    return Scripted(after(3, hang))


def hang_in_read_with_every_lock(uri: str) -> Scripted:
    return Scripted(after(3, hang_with_every_lock))


def hang_in_close(uri: str) -> Scripted:
    return Scripted(endless(), on_close=hang)


def slow_to_stop(uri: str) -> Scripted:
    """Takes 1.6 s to stop, and makes the file PATH of PATH?silent once it has; then it is silent soon."""
    path, _, is_silent = uri.partition("?")

    def stop() -> None:
        time.sleep(1.6)
        Path(path).touch()

    return Scripted(after(3, hang) if is_silent else endless(), on_close=stop)


def out_of_descriptors(uri: str) -> Scripted:
    """Leaves as many descriptors to its process as the URI says."""

    def use_up() -> None:
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + int(uri), first_free + int(uri)))

    return Scripted(endless(), on_open=use_up)


def fail_then_hang_in_close(uri: str) -> Scripted:
    return Scripted(after(3, unplug), on_close=hang)


def unplug() -> None:
    raise CameraError("rtsp://user:secret@host/ was unplugged.")


def segfault_in_open(uri: str) -> Scripted:
    return Scripted(endless(), on_open=segfault)


def segfault_in_read(uri: str) -> Scripted:
    return Scripted(after(3, segfault))


def abort_in_read(uri: str) -> Scripted:
    return Scripted(after(3, os.abort))


def killed_in_read(uri: str) -> Scripted:
    return Scripted(after(3, lambda: os.kill(os.getpid(), signal.SIGKILL)))


def exit_in_read(uri: str) -> Scripted:
    return Scripted(after(3, lambda: os._exit(7)))


def raise_odd(uri: str) -> Scripted:
    def odd() -> None:
        raise RuntimeError("rtsp://admin:secret@host/: odd")

    return Scripted(after(3, odd))


def raise_system_exit(uri: str) -> Scripted:
    return Scripted(after(3, sys.exit))


def not_found(uri: str) -> Scripted:
    raise SourceNotFoundError("There is no such camera.")


def bad_every_other(uri: str) -> Scripted:
    source = Scripted(endless())
    read = source.read
    turn = iter(range(1 << 30))

    def read_or_not() -> Frame:
        if next(turn) % 2:
            raise BadFrameError("A damaged frame.")
        return read()

    source.read = read_or_not  # type: ignore[method-assign]
    return source


def bad_only(uri: str) -> Scripted:
    source = Scripted(endless())

    def read() -> Frame:
        time.sleep(0.001)
        raise BadFrameError("A damaged frame.")

    source.read = read  # type: ignore[method-assign]
    return source


def chatty(uri: str) -> Scripted:
    """Writes to both streams, as libraries do, and dies."""

    def talk() -> None:
        sys.stdout.write("on stdout: rtsp://admin:hunter2@10.0.0.9/stream\n")
        sys.stdout.flush()
        os.write(2, b"x" * 300_000)
        os.write(2, b"\n[rtsp @ 0x5] cannot open rtsp://admin:hunter2@10.0.0.9/stream\nlast word")
        os._exit(3)

    return Scripted(after(3, talk))


def starts_a_program(uri: str) -> Scripted:
    """Starts a program, which keeps the driver's output open; its number goes into the file URI."""

    def start() -> None:
        number = os.posix_spawn("/bin/sleep", ["sleep", "3600"], os.environ)
        Path(uri).write_text(str(number), encoding="ascii")

    return Scripted(endless(), on_open=start)


def lying(uri: str) -> Scripted:
    """Talks nonsense to the parent: writes to every socket that it finds."""

    def lie() -> None:
        for link in Path("/proc/self/fd").iterdir():
            try:
                if str(link.readlink()).startswith("socket:"):
                    os.write(int(link.name), uri.encode())
            except OSError:
                continue
        hang()

    return Scripted(after(3, lie))


def once_per_file(uri: str) -> Scripted:
    """Crashes in every life but those after the file URI exists."""
    return Scripted(endless()) if Path(uri).exists() else Scripted(after(3, segfault))


def leaves_threads(uri: str) -> Scripted:
    """Has a thread that would keep a process from ending."""
    threading.Thread(target=hang, daemon=False).start()
    return Scripted(endless())
