"""When it is told what a camera sees."""

from __future__ import annotations

from edge_mnv2.mqtt.objects import Objects

BOX = (10, 6, 48, 40)
PERSON = {"person": 1}


def objects(hold_s: float = 10, interval_s: float = 1) -> Objects:
    return Objects(("person",), hold_s, interval_s)


def told(persons: int, *, seen: bool) -> dict[str, object]:
    return {"counts": {"person": persons}, "seen": {"person": seen}}


def test_the_first_word_is_told_and_nothing_without_news() -> None:
    watched = objects()
    assert watched.update({}, 0) == told(0, seen=False)
    assert watched.update({}, 100) is None
    assert watched.tick(200) is None


def test_somebody_who_comes_is_told_at_once_and_gone_after_a_while() -> None:
    watched = objects(hold_s=10)
    watched.update({}, 0)
    assert watched.update(PERSON, 0.1) == told(1, seen=True)
    assert watched.update({}, 2) == told(0, seen=True)
    assert watched.tick(10.1) is None
    assert watched.tick(10.2) == told(0, seen=False)


def test_somebody_who_flickers_stays() -> None:
    watched = objects(hold_s=10, interval_s=0)
    watched.update(PERSON, 0)
    for second in range(1, 50):
        news = watched.update(PERSON if second % 5 == 0 else {}, second)
        assert news is None or news["seen"] == {"person": True}


def test_counts_are_told_at_most_every_interval_and_the_last_one_always() -> None:
    watched = objects(interval_s=1)
    assert watched.update(PERSON, 0) == told(1, seen=True)
    assert watched.update({"person": 2}, 0.5) is None
    assert watched.tick(0.9) is None
    assert watched.tick(1) == told(2, seen=True)


def test_a_silent_camera_is_not_repeated() -> None:
    watched = objects()
    watched.update(PERSON, 0)
    assert watched.repeat() == told(1, seen=True)
    assert watched.repeat() is None
    watched.update(PERSON, 0.1)
    assert watched.repeat() == told(1, seen=True)


def test_other_classes_have_counts_but_are_not_held() -> None:
    news = objects().update({"dog": 2}, 0)
    assert news == {"counts": {"person": 0, "dog": 2}, "seen": {"person": False}}
