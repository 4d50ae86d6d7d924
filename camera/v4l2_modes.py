"""Formats, sizes and rates of a V4L2 device: which of them to take, and how to list them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from camera.csi_nodes import advice
from camera.errors import UnsupportedSourceError

# What OpenCV turns into BGR, cheapest first; the compressed ones cost a decoder, grey has no colour.
CONVERTED = ("BGR3", "RGB3", "YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12", "MJPG", "JPEG", "GREY")
# More of a rate than this is no reason for a format that costs more; without a wish, OpenCV asks for it.
USUAL_FPS = 30.0
# 30000/1001 is meant by 30.
_RATE_TOLERANCE = 0.02
_MOST_WORDS = 12
_MOST_RATES = 6


@dataclass(frozen=True, slots=True)
class Mode:
    """A format with a size and its rates.

    Attributes:
        fourcc: Pixel format.
        width: In pixels; the largest where any between is possible.
        height: In pixels; the largest likewise.
        rates: Frames per second, fastest first; empty where the driver does not say.
        slowest: Where any rate from `rates[0]` down to this one is possible.
        smallest: (width, height) where any size up from it is possible.
        step: (horizontal, vertical) in pixels from `smallest` on.
    """

    fourcc: str
    width: int
    height: int
    rates: tuple[float, ...] = ()
    slowest: float | None = None
    smallest: tuple[int, int] | None = None
    step: tuple[int, int] = (1, 1)

    def has_size(self, width: int, height: int) -> bool:
        """Return whether it can be had in this size."""
        if self.smallest is None:
            return (width, height) == (self.width, self.height)
        return all(
            least <= side <= most and (side - least) % step == 0
            for side, least, most, step in zip(
                (width, height), self.smallest, (self.width, self.height), self.step, strict=True
            )
        )

    def has_rate(self, fps: float) -> bool:
        """Return whether it can be had at this rate, as far as the driver says."""
        if self.smallest is not None:
            return True  # the rates are those of the largest size
        if self.slowest is not None and self.rates:
            return self.slowest * (1 - _RATE_TOLERANCE) <= fps <= self.rates[0] * (1 + _RATE_TOLERANCE)
        return not self.rates or any(is_rate(rate, fps) for rate in self.rates)

    def in_words(self) -> str:
        """Return it as `MJPG 1280x720 at 30, 15`."""
        size = f"{self.width}x{self.height}"
        if self.smallest is not None:
            size = f"{self.smallest[0]}x{self.smallest[1]} to {size}"
        words = [f"{rate:.4g}" for rate in self.rates]
        if len(words) > _MOST_RATES:
            words[_MOST_RATES - 2 : -1] = ["..."]
        rates = ", ".join(words)
        if self.slowest is not None:
            rates = f"{self.slowest:.2g} to {rates}"
        return f"{self.fourcc.strip()} {size}" + (f" at {rates}" if rates else "")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a URI asks for; None leaves it open.

    Attributes:
        fourcc: Pixel format.
        size: (width, height).
        fps: Frames per second.
    """

    fourcc: str | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What OpenCV is asked for.

    Attributes:
        fourcc: Pixel format.
        size: (width, height).
    """

    fourcc: str
    size: tuple[int, int]


def is_rate(actual: float, asked: float) -> bool:
    """Return whether a rate is the one that was asked for, give or take what 29.97 is to 30."""
    return abs(actual - asked) <= _RATE_TOLERANCE * asked


def choose(
    device: str,
    formats: Sequence[str],
    modes: Sequence[Mode],
    wish: Wish,
    current: tuple[str, int, int],
    driver: str = "",
) -> Choice:
    """Return the format and size to take.

    What is left open: the size that the device is set to, or the nearest with what was asked for; of the
    formats the one with the highest rate up to 30 per second (over USB 2 that is the compressed one), and of
    these the cheapest.

    Args:
        device: For messages.
        formats: All that it offers.
        modes: Their sizes and rates; a format without any has sizes that the driver does not tell.
        wish: What was asked for.
        current: (fourcc, width, height) that it is set to.
        driver: Its driver's name, for advice.

    Raises:
        UnsupportedSourceError: It is not offered; the message lists what is.
    """
    usable = [fourcc for fourcc in CONVERTED if fourcc in formats]
    if not usable:
        found = ", ".join(fourcc.strip() for fourcc in formats) or "none"
        raise UnsupportedSourceError(
            f"{device} offers no format that can be turned into a picture (it has: {found}). "
            f"{advice(driver)}".rstrip()
        )
    if wish.fourcc is not None and wish.fourcc not in usable:
        why = "cannot be turned into a picture" if wish.fourcc in formats else "is not offered"
        raise UnsupportedSourceError(
            f"{device}: the format {wish.fourcc.strip()} {why}. Offered: {', '.join(usable)}."
        )
    told = {mode.fourcc for mode in modes}
    size_now = (current[1], current[2])
    # Of a format whose sizes nobody tells, any may be there: the driver's answer shows it.
    guesses = (Mode(fourcc, *(wish.size or size_now)) for fourcc in usable if fourcc not in told)
    left = [mode for mode in (*modes, *guesses) if mode.fourcc in usable]
    if wish.fourcc is not None:
        left = [mode for mode in left if mode.fourcc == wish.fourcc]
    if wish.size is not None:
        width, height = wish.size
        kept = [mode for mode in left if mode.has_size(width, height)]
        if not kept:
            raise UnsupportedSourceError(
                f"{device} does not offer the size {width}x{height}. It can: {in_words(left)}."
            )
        left = kept
    if wish.fps is not None:
        fps = wish.fps
        kept = [mode for mode in left if mode.has_rate(fps)]
        if not kept:
            raise UnsupportedSourceError(f"{device} does not offer {fps:g} fps. It can: {in_words(left)}.")
        left = kept
    return _best(left, wish.size, size_now)


def _best(modes: Sequence[Mode], wanted: tuple[int, int] | None, size_now: tuple[int, int]) -> Choice:
    """Return the size that is wanted, or set, or the nearest to that, in the format that suits it best."""
    pixels = size_now[0] * size_now[1]
    size = wanted or (
        size_now
        if any(mode.has_size(*size_now) for mode in modes)
        else min(((mode.width, mode.height) for mode in modes), key=lambda one: abs(one[0] * one[1] - pixels))
    )
    best = min(
        (mode for mode in modes if mode.has_size(*size)),
        key=lambda mode: (-min(max(mode.rates, default=0.0), USUAL_FPS), CONVERTED.index(mode.fourcc)),
    )
    return Choice(best.fourcc, size)


def in_words(modes: Iterable[Mode]) -> str:
    """Return modes as `MJPG 1280x720 at 30, 15; YUYV 640x480 at 30`, of many only the first."""
    words = [mode.in_words() for mode in modes if mode.fourcc in CONVERTED]
    more = f"; and {len(words) - _MOST_WORDS} more" if len(words) > _MOST_WORDS else ""
    return "; ".join(words[:_MOST_WORDS]) + more if words else "nothing that its driver lists"
