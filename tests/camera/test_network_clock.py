"""How old frames of a network stream are, with clocks that drift, jump and stand still."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from camera.network_clock import ArrivalClock, StreamClock

MS = 1_000_000
S = 1000 * MS
INTERVAL = 33 * MS


@given(
    gaps=st.lists(st.integers(1, 10 * S), min_size=1, max_size=50),
    waits=st.lists(st.booleans(), min_size=50, max_size=50),
    stamps=st.lists(st.none() | st.integers(-S, 20 * S), min_size=50, max_size=50),
)
def test_times_never_run_backwards_and_never_lie_in_the_future(
    gaps: list[int], waits: list[bool], stamps: list[int | None]
) -> None:
    for clock in (StreamClock(), ArrivalClock()):
        arrived, before = 0, -1
        for gap, waited, stamp in zip(gaps, waits, stamps, strict=False):
            arrived += gap
            captured = clock.captured_ns(arrived, stamp, waited=waited)
            assert before <= captured <= arrived
            before = captured


@given(
    began=st.integers(0, 2**40),
    delays=st.lists(st.integers(0, 20 * S), min_size=1, max_size=200),
    interval=st.integers(1, S),
)
def test_the_age_is_exactly_what_a_frame_waited_beyond_the_shortest_way(
    began: int, delays: list[int], interval: int
) -> None:
    """Frames arrive in order, the first of them at once; none had to be waited for: nothing is forgotten."""
    clock = StreamClock()
    arrived = 0
    for number, delay in enumerate([0, *delays]):
        taken = number * interval
        arrived = max(arrived, taken + delay)
        assert clock.captured_ns(arrived, began + taken, waited=False) == taken


@given(
    drift_ppm=st.integers(-200, 200),
    jitter=st.lists(st.integers(0, 30), min_size=1, max_size=30),
)
def test_a_clock_that_drifts_makes_no_false_age(drift_ppm: int, jitter: list[int]) -> None:
    """An hour with a clock that is slow or fast: two spans of drift beside the jitter, never more."""
    clock = StreamClock()
    step = 4 * S  # a frame now and then is enough to see it
    for number in range(900):
        taken = number * step
        stamp = taken + taken * drift_ppm // 1_000_000
        arrived = taken + jitter[number % len(jitter)] * MS
        age = arrived - clock.captured_ns(arrived, stamp, waited=True)
        assert age <= 30 * MS + 65 * S * abs(drift_ppm) // 1_000_000


def test_a_pile_that_is_never_read_away_is_not_forgotten() -> None:
    """A reader that takes 40 ms for a frame of 33, for ten minutes."""
    clock = StreamClock()
    clock.captured_ns(0, S, waited=True)
    for number in range(1, 15_000):
        arrived, taken = number * 40 * MS, number * INTERVAL
        assert clock.captured_ns(arrived, S + taken, waited=False) == taken


def test_a_delay_of_the_network_that_stays_is_forgotten_after_a_minute() -> None:
    clock = StreamClock()
    ages = []
    for number in range(300):
        taken = number * S
        arrived = taken + (0 if number < 60 else 400 * MS)
        ages.append(arrived - clock.captured_ns(arrived, taken, waited=True))
    assert set(ages[:60]) == {0}
    assert set(ages[60:90]) == {400 * MS}
    assert set(ages[121:]) == {0}


def test_stamps_that_begin_anew_or_are_missing_keep_the_age() -> None:
    clock = StreamClock()
    ages = []
    frames = ((0, 5000), (533, 5033), (566, 5066), (600, 10), (633, None), (666, 76), (666, 142))
    for arrived, stamp in frames:
        captured = clock.captured_ns(arrived * MS, None if stamp is None else stamp * MS, waited=False)
        ages.append(arrived - captured // MS)
    assert ages == [0, 500, 500, 500, 500, 500, 434]


def test_an_outage_is_no_wrong_clock() -> None:
    clock = StreamClock()
    ages = []
    for number in range(200):
        taken = number * INTERVAL
        arrived = max(taken, 5 * S) if number > 50 else taken
        ages.append(arrived - clock.captured_ns(arrived, taken, waited=number < 52 or arrived == taken))
    assert ages[51] == 5 * S - 51 * INTERVAL
    assert ages[100] == 5 * S - 100 * INTERVAL
    assert ages[199] == 0


def test_a_camera_that_halves_its_rate_but_not_its_stamps_is_not_believed_for_long() -> None:
    """All frames are waited for, so none of them lay anywhere; the stamps say that they grow older."""
    clock = StreamClock()
    ages = []
    for number in range(3000):
        arrived = number * 80 * MS
        ages.append(arrived - clock.captured_ns(arrived, S + number * 40 * MS, waited=True))
    assert 3 * S < max(ages) < 4 * S
    assert set(ages[100:]) == {0}
    # A pile is still seen, by the number of its frames.
    now = 3000 * 80 * MS
    assert clock.captured_ns(now, None, waited=False) == now
    assert clock.captured_ns(now + 800 * MS, None, waited=False) == now + 80 * MS


def test_without_stamps_frames_are_counted() -> None:
    one, other = StreamClock(), ArrivalClock()
    for arrived, waited in ((0, False), (5, True), (70, False), (71, False), (72, True)):
        said = one.captured_ns(arrived, None, waited=waited)
        assert said == other.captured_ns(arrived, waited=waited)


def test_frames_between_two_at_the_live_edge_came_evenly() -> None:
    clock = ArrivalClock()
    said = [
        clock.captured_ns(arrived, None, waited=waited)
        for arrived, waited in (
            (1000, False),  # nothing is known yet
            (1050, False),
            (1066, True),  # two intervals: 33 each
            (1200, False),
            (1210, False),
            (1211, False),
            (1212, False),
            (1213, False),  # faster than they can have come
        )
    ]
    assert said == [1000, 1050, 1066, 1099, 1132, 1165, 1198, 1213]
