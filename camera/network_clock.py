"""When a frame of a network stream was taken, as far as that can be known from here.

Frames wait in buffers, of the camera, the network, the kernel and FFmpeg, wherever the reader is slower
than the stream. A frame that the reader had to wait for was in none of ours: it marks the live edge.
"""

from __future__ import annotations

from collections import deque

# A slow clock of a camera looks like a growing pile: the estimate looks back over one to two of these, so
# that 100 ppm pass for at most 6 ms, and 30 instead of 29.97 pictures per second for 60 ms.
_SPAN_NS = 30_000_000_000
# So many frames in a row at the live edge that seem older come from a clock that runs wrong, such as that of
# a camera which lowers its rate in the dark and goes on stamping as before. One may come after an outage.
_MOST_AT_EDGE_NS = 3_000_000_000
_MOST_ODD = 10
# Some more than a second, so that one which was held up does not count for much.
_EDGES = 40


class StreamClock:
    """Reads the stamps of a stream, which count from any time on.

    The shortest way from stamp to arrival counts as no delay, whatever it really is: nobody here knows that.
    Every frame may shorten it. It grows only to what frames at the live edge showed within the last span or
    two, so that a pile that is never read away is not forgotten; a delay on the network that stays for longer
    is. Where there are no stamps, or useless ones, frames are counted instead: see `ArrivalClock`.
    """

    def __init__(self) -> None:
        self._arrivals = ArrivalClock()
        self._odd = 0
        self._shortest_ns: int | None = None
        self._at_edge_ns: int | None = None  # the shortest of this span, at the live edge
        self._span_began_ns = 0
        self._stamp_ns = 0
        self._lag_ns = 0
        self._captured_ns: int | None = None

    def captured_ns(self, arrived_ns: int, stamp_ns: int | None, *, waited: bool) -> int:
        """Return when a frame was taken: never later than it arrived, never earlier than the one before.

        Args:
            arrived_ns: When it was read, in the domain of `time.monotonic_ns`.
            stamp_ns: What the stream says, None where it says nothing.
            waited: Whether it had to be waited for.
        """
        captured_ns = self._arrivals.captured_ns(arrived_ns, waited=waited)
        if stamp_ns is not None and self._odd < _MOST_ODD:
            self._lag_ns = self._lag(arrived_ns, stamp_ns, waited=waited)
            if waited:
                self._odd = self._odd + 1 if self._lag_ns > _MOST_AT_EDGE_NS else 0
        if self._shortest_ns is not None and self._odd < _MOST_ODD:
            captured_ns = arrived_ns - self._lag_ns
        if self._captured_ns is not None:
            captured_ns = max(captured_ns, self._captured_ns)
        self._captured_ns = captured_ns
        return captured_ns

    def _lag(self, arrived_ns: int, stamp_ns: int, *, waited: bool) -> int:
        way_ns = arrived_ns - stamp_ns
        if self._shortest_ns is None or stamp_ns < self._stamp_ns:
            # Stamps that begin anew say nothing of the pile: it is what it was.
            self._shortest_ns = way_ns - self._lag_ns
            self._at_edge_ns = None
            self._span_began_ns = arrived_ns
        self._stamp_ns = stamp_ns
        if waited:
            self._at_edge_ns = way_ns if self._at_edge_ns is None else min(self._at_edge_ns, way_ns)
        if arrived_ns - self._span_began_ns >= _SPAN_NS and self._at_edge_ns is not None:
            self._shortest_ns, self._at_edge_ns = self._at_edge_ns, None
            self._span_began_ns = arrived_ns
        self._shortest_ns = min(self._shortest_ns, way_ns)
        return way_ns - self._shortest_ns


class ArrivalClock:
    """Counts the frames of a stream without stamps (MJPEG over HTTP).

    They come evenly, as far as anybody knows: at the mean interval between the last frames at the live edge.
    Frames that the network held back, and that come in a burst after the first of them was waited for, thus
    seem to be new.
    """

    def __init__(self) -> None:
        self._count = 0
        self._edges: deque[tuple[int, int]] = deque(maxlen=_EDGES)  # number and arrival
        self._captured_ns = 0

    def captured_ns(self, arrived_ns: int, _stamp_ns: int | None = None, *, waited: bool) -> int:
        """Return when a frame was taken; as `StreamClock`, whatever the stamp."""
        captured_ns = arrived_ns
        if waited or not self._edges:
            self._edges.append((self._count, arrived_ns))
        elif len(self._edges) > 1:
            (first, first_ns), (last, last_ns) = self._edges[0], self._edges[-1]
            interval_ns = (last_ns - first_ns) / (last - first)
            captured_ns = min(arrived_ns, last_ns + int((self._count - last) * interval_ns))
        self._count += 1
        self._captured_ns = max(self._captured_ns, captured_ns)
        return self._captured_ns
