from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mnv2.cli.log_repeats import Repeated, Repeats


def shown(told: list[Repeated[str]]) -> list[str]:
    return [
        f"{item.message}*{item.count}{'!' if item.is_last else ''}" if item.count else item.message
        for item in told
    ]


def test_repeats_are_counted_and_told_when_another_message_comes() -> None:
    repeats: Repeats[str] = Repeats()
    assert shown(repeats.take("a", 0)) == ["a"]
    for second in range(1, 6):
        assert repeats.take("a", second) == []
    assert shown(repeats.take("b", 6)) == ["a*5!", "b"]
    assert repeats.take("a", 7) == [], "its minute is not over"
    assert shown(repeats.take("c", 8)) == ["c"]
    assert shown(repeats.take("d", 60)) == ["a*1", "d"], "told at the end of its minute, out of order"


def test_windows_grow_while_a_message_goes_on() -> None:
    repeats: Repeats[str] = Repeats()
    told = [(second, line) for second in range(3 * 3600) for line in shown(repeats.take("a", second))]
    assert told[0] == (0, "a")
    assert [second for second, _ in told[1:]] == [60, 180, 420, 900, 1860, 3780, 7380]
    assert [line for _, line in told[1:4]] == ["a*59!", "a*120!", "a*240!"]


def test_a_message_that_comes_again_later_is_news() -> None:
    repeats: Repeats[str] = Repeats()
    assert [shown(repeats.take("a", second)) for second in (0, 61, 122)] == [["a"]] * 3


def test_messages_that_alternate_are_repeats_each() -> None:
    repeats: Repeats[str] = Repeats()
    lines = [line for second in range(60) for line in shown(repeats.take("ab"[second % 2], second))]
    assert lines == ["a", "b"]
    assert shown(repeats.due(121)) == ["a*29", "b*29"]
    assert repeats.flush() == []


def test_counts_are_told_without_another_message() -> None:
    repeats: Repeats[str] = Repeats()
    for second in range(10):
        repeats.take("a", second)
    assert repeats.due(59) == []
    assert shown(repeats.due(60)) == ["a*9!"]
    assert repeats.due(10_000) == []
    assert shown(repeats.take("a", 10_001)) == ["a"]


def test_very_many_messages_do_not_pile_up() -> None:
    repeats: Repeats[str] = Repeats()
    for number in range(10_000):
        repeats.take(str(number), 0)
    assert len(repeats._windows) <= 200


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 200)), max_size=80),
    st.integers(1, 300),
)
def test_what_was_printed_and_what_was_counted_add_up(messages: list[tuple[str, float]], many: int) -> None:
    repeats: Repeats[str] = Repeats()
    now_s, told = 0.0, list[Repeated[str]]()
    taken = [(name, pause) for name, pause in messages] + [(str(number), 0.0) for number in range(many)]
    for name, pause_s in taken:
        now_s += pause_s
        told += repeats.take(name, now_s)
    told += repeats.flush()
    sums: dict[str, int] = {}
    for item in told:
        sums[item.message] = sums.get(item.message, 0) + (item.count or 1)
    assert sums == {name: [other for other, _ in taken].count(name) for name, _ in taken}
    for before, item in zip([None, *told], told, strict=False):
        assert item.is_last == (item.count > 0 and before is not None and before.message == item.message)
