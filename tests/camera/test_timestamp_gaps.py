from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from camera.timestamp_gaps import SteadyGaps, lost_between

INTERVAL_NS = 33_333_333
WARM = 20

# Of a stamp, as part of an interval: two of them make an interval a tenth longer or shorter.
jitters = st.lists(st.floats(-0.05, 0.05), min_size=200, max_size=200)


def stamps(steps: Sequence[float], jitter: Sequence[float] = (), interval_ns: int = INTERVAL_NS) -> list[int]:
    """Return when frames were taken that are so many intervals apart."""
    places = list(accumulate(steps, initial=1.0))
    moved = [place + jitter[number % len(jitter)] if jitter else place for number, place in enumerate(places)]
    return [round(place * interval_ns) for place in moved]


def lost(taken_ns: Sequence[int]) -> int:
    gaps = SteadyGaps()
    return sum(gaps.lost_before(one) for one in taken_ns)


@given(st.integers(1, 1000), st.floats(1e5, 1e10), st.floats(-0.2, 0.2))
def test_a_gap_of_n_intervals_lacks_one_less(count: int, interval_ns: float, jitter: float) -> None:
    assert lost_between((count + jitter) * interval_ns, interval_ns) == count - 1


@given(jitters, st.integers(1_000_000, 10**10))
def test_a_steady_camera_loses_nothing(jitter: list[float], interval_ns: int) -> None:
    assert lost(stamps([1] * 150, jitter, interval_ns)) == 0


@given(jitters, st.lists(st.tuples(st.integers(2, 6), st.integers(3, 30)), max_size=12))
def test_what_is_lost_now_and_then_is_counted(jitter: list[float], gaps: list[tuple[int, int]]) -> None:
    """Each gap is so many intervals long, with so many frames in time after it."""
    steps = [1] * WARM
    for length, pause in gaps:
        steps += [length] + [1] * pause
    assert lost(stamps(steps, jitter)) == sum(length - 1 for length, _ in gaps)


@given(jitters, st.integers(2, 2000))
def test_a_long_gap_is_counted_as_well_as_the_rate_is_known(jitter: list[float], length: int) -> None:
    found = lost(stamps([1] * WARM + [length, 1, 1], jitter))
    assert abs(found - (length - 1)) <= 0.06 * length + 1


@given(jitters, st.lists(st.tuples(st.floats(0.2, 5), st.integers(WARM, 60)), min_size=1, max_size=6))
def test_another_rate_is_no_loss(jitter: list[float], phases: list[tuple[float, int]]) -> None:
    """As of automatic exposure, in steps: each rate stays for a while."""
    now_ns, taken_ns = 0, []
    for factor, frames in phases:
        for number in range(frames):
            now_ns += round(INTERVAL_NS * factor)
            taken_ns.append(now_ns + round(INTERVAL_NS * factor * jitter[number]))
    assert lost(taken_ns) == 0


def test_a_camera_that_halves_its_rate_goes_on_being_watched() -> None:
    steps = [1] * WARM + [2] * WARM
    assert lost(stamps(steps)) == 0
    assert lost(stamps([*steps, 6, 2, 2])) == 2  # three of its intervals now


def test_a_frame_that_is_late_is_not_lost() -> None:
    assert lost(stamps([1] * WARM + [1.8, 0.2] + [1] * WARM)) == 0


def test_several_gaps_in_a_row_are_counted_and_many_are_a_rate() -> None:
    assert lost(stamps([1] * WARM + [2, 3, 2] + [1] * 3)) == 4
    assert lost(stamps([1] * WARM + [2, 3, 2, 2] + [1] * 3)) == 0


def test_a_camera_without_a_rate_is_not_guessed_at() -> None:
    assert lost(stamps([1, 2] * 40)) == 0
    assert lost(stamps([1, 3, 2] * 40)) == 0
    assert lost(stamps([1, 2, 2, 1, 1, 3] * 20)) == 0


@given(st.lists(st.integers(-(10**12), 10**12), max_size=80))
def test_odd_stamps_do_no_harm(taken_ns: list[int]) -> None:
    assert lost(taken_ns) >= 0
    assert lost([*taken_ns, *(taken_ns[-1:] * 3)]) >= 0
