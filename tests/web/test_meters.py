from __future__ import annotations

import pytest

from edge_mnv2.web.meters import Meters

SECOND_NS = 1_000_000_000


def filled(*times_s: float) -> Meters:
    meters = Meters()
    for number, at_s in enumerate(times_s):
        meters.add(int(at_s * SECOND_NS), float(number), {"infer": float(number)})
    return meters


@pytest.mark.parametrize(
    ("times_s", "now_s", "fps"),
    [
        ((), 0, None),
        ((1,), 1, None),
        ((1, 1.5), 1.5, 2.0),
        ([number / 30 for number in range(91)], 3, 30.0),
        # Ten seconds between two, and half of that since the last one.
        ((0, 10), 15, 0.1),
        # It falls while none comes, and does not wait for the next one.
        ([number / 30 for number in range(31)], 2, 15.0),
        ([number / 30 for number in range(31)], 21, 0.05),
    ],
)
def test_the_rate_is_that_of_the_last_moments(times_s: list[float], now_s: float, fps: float | None) -> None:
    found = filled(*times_s).fps(int(now_s * SECOND_NS))
    assert found == (None if fps is None else pytest.approx(fps, rel=0.02))


def test_durations_are_medians_of_the_last_two_seconds_or_the_last_known() -> None:
    assert Meters().medians(0) == (None, {})
    meters = filled(0, 1, 2, 3, 4)
    assert meters.medians(4 * SECOND_NS) == (3.0, {"infer": 3.0})
    assert meters.medians(60 * SECOND_NS) == (4.0, {"infer": 4.0})
    assert meters.frames == 5
